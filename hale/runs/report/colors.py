"""The palette of all figures, and the style of each run on a chart.

Palette: Okabe and Ito, *Color Universal Design* (2008), which most readers with a colour vision
deficiency can tell apart; its yellow darkened and its black lightened, to be seen on white and on
black.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from hale.runs.columns import dataset_title
from hale.runs.folders import RunFolder

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A89800", "#6B6B6B",
)  # fmt: skip
DASHES: tuple[tuple[int, ...], ...] = (
    (), (7, 3), (2, 3), (9, 3, 2, 3), (16, 4), (9, 3, 2, 3, 2, 3), (5, 8), (16, 3, 5, 3), (1, 6),
    (16, 3, 2, 3, 2, 3),
)  # fmt: skip
"""Lengths of lines and gaps, in units of the line's width; the empty pattern is solid."""
FIRST = ("strategy", "loss", "activation", "model", "model.dim")
"""Settings that are encoded first, the first of them as colour."""
NOT_ENCODED = ("seed", "dataset", "threads")
"""Settings that neither colour nor dash shows: replicas, and the chart itself."""

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Entry:
    """A line of a legend: a setting, its value, and the colour or dash that stands for it."""

    name: str
    value: str
    color: str = "currentColor"
    dash: tuple[int, ...] = ()


@dataclass(frozen=True)
class Style:
    """Colour and dash of a run, and the entries of the legend that explain them."""

    color: str
    dash: tuple[int, ...]
    entries: tuple[Entry, ...]


def run_styles(
    runs: Sequence[RunFolder], names: Sequence[str], monitor: str, page: Sequence[RunFolder]
) -> list[Style]:
    """A style for each run of a chart; runs that differ in an encoded setting never look alike.

    The first setting is shown by colour and the second by dash. With more of them, or more values
    than there are dashes, the dash shows all but the first together. Where neither suffices, as in
    a search over numbers, runs are coloured from worst to best.

    Args:
        runs: finished ones.
        names: settings in which they differ (:func:`hale.runs.columns.differences`).
        monitor: the metric that ranks runs.
        page: the runs of all charts, among which a value keeps its colour.
    """
    color, *rest = encoded(runs, names) or [""]
    many = {name for name in (color, *rest) if len(_values(runs, name)) > len(PALETTE)}
    if any("." in name for name in many) or (color in many and rest):
        return _by_rank(runs, monitor)
    if not rest:
        return _one_way(runs, color, page) or _by_rank(runs, monitor)
    colors = _assigned(color, PALETTE, runs, page)
    if len(rest) == 1 and len(_values(runs, rest[0])) <= len(DASHES):
        dashes = _assigned(rest[0], DASHES, runs, page)
        return [_styled(run, color, colors, rest[0], dashes) for run in runs]
    return _combined(runs, colors, color, rest) or _by_rank(runs, monitor)


def encoded(runs: Sequence[RunFolder], names: Sequence[str]) -> list[str]:
    """The settings to show, without those that the ones before them determine.

    The first one has no more values than there are colours, if any does.
    """

    def order(name: str) -> tuple[bool, int]:
        first = FIRST.index(name) if name in FIRST else len(FIRST)
        return len(_values(runs, name)) > len(PALETTE), first

    ordered = sorted(names, key=order)
    chosen: list[str] = []
    for name in ordered:
        if name not in NOT_ENCODED and _distinct(runs, [*chosen, name]) > _distinct(runs, chosen):
            chosen.append(name)
    return chosen


def _assigned(
    name: str, marks: Sequence[Mark], runs: Sequence[RunFolder], page: Sequence[RunFolder]
) -> dict[str, Mark]:
    """A colour or dash for each value, the same on all charts if there are enough."""
    values = _values(page, name)
    values = values if len(values) <= len(marks) else _values(runs, name)
    return dict(zip(values, marks, strict=False))


def _one_way(runs: Sequence[RunFolder], name: str, page: Sequence[RunFolder]) -> list[Style]:
    """One setting by colour, and by dash from the ninth value on; empty if that is not enough."""
    marks = [(color, dash) for dash in DASHES for color in PALETTE]
    if len(_values(runs, name)) > len(marks):
        return []
    assigned = _assigned(name, marks, runs, page)
    styles = []
    for run in runs:
        value = run.settings.get(name, "")
        color, dash = assigned[value]
        styles.append(Style(color, dash, (Entry(name, value, color, dash),) if name else ()))
    return styles


def _styled(
    run: RunFolder,
    color: str,
    colors: dict[str, str],
    dash: str,
    dashes: dict[str, tuple[int, ...]],
) -> Style:
    first, second = (run.settings.get(name, "") for name in (color, dash))
    entries = (Entry(color, first, color=colors[first]), Entry(dash, second, dash=dashes[second]))
    return Style(colors[first], dashes[second], entries)


def _combined(
    runs: Sequence[RunFolder], colors: dict[str, str], color: str, rest: Sequence[str]
) -> list[Style]:
    """Colour by one setting, dash by all others together; empty if the dashes do not suffice."""
    seen: dict[str, list[str]] = defaultdict(list)
    for combined, value in sorted({(_joined(r, rest), r.settings.get(color, "")) for r in runs}):
        seen[value].append(combined)
    if max(map(len, seen.values())) > len(DASHES):
        return []
    styles = []
    for run in runs:
        value, combined = run.settings.get(color, ""), _joined(run, rest)
        dash = DASHES[seen[value].index(combined)]
        entry = Entry(", ".join((color, *rest)), f"{value}, {combined}", colors[value], dash)
        styles.append(Style(colors[value], dash, (entry,)))
    return styles


def _by_rank(runs: Sequence[RunFolder], monitor: str) -> list[Style]:
    entries = (Entry(monitor, "worst", _ramp(0.0)), Entry(monitor, "best", _ramp(1.0)))
    share = [0.0] * len(runs)
    for dataset in {dataset_title(run.settings) for run in runs}:
        here = [i for i, run in enumerate(runs) if dataset_title(run.settings) == dataset]
        here.sort(key=lambda i: runs[i].metric(monitor) or 0.0)
        for rank, i in enumerate(here):
            share[i] = rank / max(1, len(here) - 1)
    return [Style(_ramp(each), (), entries) for each in share]


def _ramp(share: float) -> str:
    return f"hsl({250 - 220 * share:.0f} 75% 48%)"


def _values(runs: Sequence[RunFolder], name: str) -> list[str]:
    return sorted({run.settings.get(name, "") for run in runs})


def _distinct(runs: Sequence[RunFolder], names: Sequence[str]) -> int:
    return len({tuple(run.settings.get(name) for name in names) for run in runs})


def _joined(run: RunFolder, names: Sequence[str]) -> str:
    return ", ".join(run.settings.get(name, "") or "none" for name in names)
