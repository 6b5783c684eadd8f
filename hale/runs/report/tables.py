"""The parts of a report that are text: the table of runs, those without a result, all details."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from hale.graphs.names import shown
from hale.runs.folders import RunFolder
from hale.runs.report.colors import Look

COLUMNS = (
    "valid/mrr", "test/mrr", "test/hits@1", "test/hits@3", "test/hits@10", "train_seconds",
    "steps", "parameters",
)  # fmt: skip
LOW_IS_GOOD = ("train_seconds", "steps", "parameters")
DETAILS = ("hardware", "versions", "commit", "date", "seed", "dataset_fingerprint")
LONGEST = 2000
"""Characters of a text that are shown."""


def text(value: object) -> str:
    """Any value as text of a page or of an attribute; control characters shown as escapes."""
    return html.escape(shown(str(value), LONGEST))


def label(run: RunFolder, names: Sequence[str]) -> str:
    """What tells a run apart, in words."""
    return ", ".join(f"{name} {run.settings.get(name, '')}" for name in names)


def path(run: RunFolder, top: Path) -> str:
    """Where a run lies below ``top``, fit to be shown."""
    return shown(str(run.path.relative_to(top)), LONGEST)


def table(
    finished: Sequence[RunFolder], names: Sequence[str], look: Look, top: Path, monitor: str
) -> Iterator[str]:
    """The finished runs by what varies, and their metrics; the best of each dataset marked."""
    metrics = [name for name in dict.fromkeys((monitor, *COLUMNS)) if any(
        run.metric(name) is not None for run in finished
    )]  # fmt: skip
    best: dict[tuple[str, str], float] = {}
    for run in finished:
        for name in metrics:
            value, at = run.metric(name), (run.settings.get("dataset", ""), name)
            if value is not None and name not in LOW_IS_GOOD:
                best[at] = max(value, best.get(at, value))
    yield '<h2>Runs</h2><div class="scroll"><table><thead><tr>'
    for name in ("run", *names):
        yield f'<th scope="col"><button>{text(name)}</button></th>'
    for name in metrics:
        order = ' aria-sort="descending"' if name == monitor else ""
        yield f'<th scope="col" class="number"{order}><button>{text(name)}</button></th>'
    yield "</tr></thead><tbody>"
    for run, (color, _) in zip(finished, look.of_run, strict=True):
        where = text(path(run, top))
        yield (
            f'<tr data-run="{where}"><td class="long" title="{where}">'
            f'<span class="swatch" style="background:{color}"></span>{where}</td>'
        )
        yield "".join(_setting(run.settings.get(name, "")) for name in names)
        dataset = run.settings.get("dataset", "")
        yield "".join(_cell(name, run.metric(name), best.get((dataset, name))) for name in metrics)
        yield "</tr>"
    yield "</tbody></table></div>"


def missing(runs: Sequence[RunFolder], top: Path) -> Iterator[str]:
    """The runs without a result, and why."""
    if not runs:
        return
    yield "<h2>Without a result</h2>"
    for run in runs:
        why = text(run.error or "cut short")
        yield f'<p>{text(path(run, top))}: {why} <span class="soft">'
        yield f"{' '.join(map(text, run.overrides))}</span></p>"


def details(run: RunFolder, names: Sequence[str], top: Path) -> Iterator[str]:
    """All settings of a finished run and where it was made, folded."""
    record = run.record or {}
    told_apart = f'<span class="soft">{text(label(run, names))}</span>'
    yield f"<details><summary>{text(path(run, top))} {told_apart}</summary><dl>"
    rows = {name: record[name] for name in DETAILS if name in record}
    flat = {
        f"{name} {key}" if key else name: value
        for name, part in rows.items()
        for key, value in (part.items() if isinstance(part, dict) else [("", part)])
    }
    yield from (
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>"
        for name, value in {"overrides": " ".join(run.overrides), **run.settings, **flat}.items()
    )
    yield "</dl></details>"


def _number(name: str, value: float) -> str:
    if "/" in name:
        return f"{value:.4f}"
    return f"{value:,.1f}" if name == "train_seconds" else f"{value:,.10g}"


def _setting(value: str) -> str:
    try:
        return f'<td data-value="{float(value)!r}">{float(value):.5g}</td>'
    except ValueError:
        return f"<td>{text(value)}</td>"


def _cell(name: str, value: float | None, best: float | None) -> str:
    if value is None:
        return '<td class="number" data-value="-Infinity"></td>'
    kind = "number best" if value == best else "number"
    return f'<td class="{kind}" data-value="{value!r}">{_number(name, value)}</td>'
