"""Which runs look alike on a chart: colours and dashes by what varies."""

from collections.abc import Sequence
from dataclasses import dataclass

from hale.runs.folders import RunFolder
from hale.runs.report.charts import DASHES

PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8a5cd1", "#6b6b6b",
)  # fmt: skip
"""Told apart by most readers with a colour vision deficiency (after Okabe and Ito)."""
FIRST = ("strategy", "loss", "activation", "model")
"""The choices that colours show, the first that varies; a second one shows as dashes."""
MOST = len(PALETTE)


@dataclass(frozen=True)
class Look:
    """What runs look like.

    Args:
        legend: (setting, value, colour, dash) of each entry.
        of_run: colour and dash of each run, in the order given.
    """

    legend: list[tuple[str, str, str, str]]
    of_run: list[tuple[str, str]]


def choose_look(runs: Sequence[RunFolder], names: Sequence[str], monitor: str) -> Look:
    """Colours by the first of ``names`` that has few values, dashes by the second.

    Where none has (a search over numbers), runs are coloured from the worst to the best.

    Args:
        runs: finished ones.
        names: settings that vary (:func:`hale.runs.folders.varying`).
        monitor: the metric that says which is best.
    """
    ordered = sorted(names, key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
    values = {name: _values(runs, name) for name in ordered if name not in ("seed", "dataset")}
    few = [name for name, found in values.items() if 1 < len(found) <= MOST]
    if not few and values:
        return _by_rank(runs, monitor)
    color, dash = [*few[:2], "", ""][:2]
    colors = dict(zip(values.get(color, [""]), PALETTE, strict=False))
    dashes = dict(zip(values.get(dash, [""]), DASHES * 2, strict=False))
    legend = [(color, value, colors[value], "") for value in colors if color]
    legend += [(dash, value, "currentColor", dashes[value]) for value in dashes if dash]
    of_run = [
        (colors[run.settings.get(color, "")], dashes[run.settings.get(dash, "")]) for run in runs
    ]
    return Look(legend, of_run)


def _values(runs: Sequence[RunFolder], name: str) -> list[str]:
    return sorted({run.settings.get(name, "") for run in runs})


def _by_rank(runs: Sequence[RunFolder], monitor: str) -> Look:
    share = [0.0] * len(runs)
    for dataset in _values(runs, "dataset"):
        here = [i for i, run in enumerate(runs) if run.settings.get("dataset", "") == dataset]
        here.sort(key=lambda i: runs[i].metric(monitor) or 0.0)
        for rank, i in enumerate(here):
            share[i] = rank / max(1, len(here) - 1)
    legend = [(monitor, word, _ramp(end), "") for word, end in (("worst", 0.0), ("best", 1.0))]
    return Look(legend, [(_ramp(each), "") for each in share])


def _ramp(share: float) -> str:
    return f"hsl({250 - 220 * share:.0f} 75% 48%)"
