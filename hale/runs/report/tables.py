"""The text of a report: a table per dataset, the settings of each run, and unfinished runs."""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hale.graphs.names import shown
from hale.runs.columns import LOW_IS_GOOD, METRICS, metric_value
from hale.runs.folders import RunFolder
from hale.runs.report.charts import dash_attribute
from hale.runs.report.colors import Style

PROVENANCE = ("hardware", "versions", "commit", "date", "dataset_fingerprint")
LONGEST = 2000
"""Characters of a text that are shown."""
SEPARATOR = re.compile(r"(?<=[/_,])")
BREAKABLE = "<wbr>"
"""Lets a browser fold a path after a separator."""


def text(value: object) -> str:
    """Any value as text of a page or of an attribute; control characters shown as escapes."""
    return html.escape(shown(str(value), LONGEST))


def label(run: RunFolder, names: Sequence[str]) -> str:
    """The settings in which a run differs from the others, in words."""
    return ", ".join(f"{name} {run.settings.get(name, '')}" for name in names)


def path(run: RunFolder, top: Path) -> str:
    """The path of a run below ``top``, for display."""
    return shown(str(run.path.relative_to(top)), LONGEST)


def sample(color: str, dash: Sequence[int]) -> str:
    """A short line in the style of a run."""
    return (
        '<svg class="sample" viewBox="0 0 36 10" aria-hidden="true">'
        f'<line x1="0" x2="36" y1="5" y2="5" stroke="{color}"{dash_attribute(dash)}/></svg>'
    )


def table(
    runs: Sequence[RunFolder],
    styles: Sequence[Style],
    names: Sequence[str],
    shared: dict[str, str],
    top: Path,
    monitor: str,
) -> Iterator[str]:
    """The finished runs of one dataset: settings that vary, metrics, the best value of each bold.

    Args:
        runs: best first.
        styles: of each run on the charts.
        names: settings that vary.
        shared: settings that all runs of the page have; the others are folded below each run.
        top: the folder of the page.
        monitor: the metric that ranks runs.
    """
    metrics = [name for name in dict.fromkeys((monitor, *METRICS)) if any(
        run.metric(name) is not None for run in runs
    )]  # fmt: skip
    best = {name: _best(runs, name) for name in metrics}
    yield '<p class="hint">More columns to the right: scroll the table &rarr;</p>'
    yield '<div class="scroll" tabindex="0"><table><thead><tr>'
    for name in ("run", *names):
        yield f'<th scope="col"><button>{text(name)}</button></th>'
    for name in metrics:
        order = ' aria-sort="descending"' if name == monitor else ""
        yield f'<th scope="col" class="number"{order}><button>{text(name)}</button></th>'
    yield "</tr></thead><tbody>"
    for run, style in zip(runs, styles, strict=True):
        where = text(path(run, top))
        yield f'<tr data-run="{where}"><td class="long"><details><summary>'
        yield f"{sample(style.color, style.dash)} {SEPARATOR.sub(BREAKABLE, where)}</summary>"
        yield f"{_details(run, shared)}</details></td>"
        yield "".join(_setting(run.settings.get(name, "")) for name in names)
        yield "".join(_cell(name, metric_value(run, name), best[name]) for name in metrics)
        yield "</tr>"
    yield "</tbody></table></div>"


def missing(runs: Sequence[RunFolder], top: Path) -> Iterator[str]:
    """The runs without a result, and why."""
    if not runs:
        return
    yield "<h2>Without a result</h2>"
    for run in runs:
        why = text(run.error or "interrupted")
        yield f'<p>{text(path(run, top))}: {why} <span class="soft">'
        yield f"{' '.join(map(text, run.overrides))}</span></p>"


def definitions(values: dict[str, object]) -> str:
    """Names and values as a list."""
    rows = (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in values.items())
    return f"<dl>{''.join(rows)}</dl>"


def _details(run: RunFolder, shared: dict[str, str]) -> str:
    """What is particular to a run: its overrides, settings, hardware and versions."""
    record = run.record or {}
    provenance = {
        f"{name} {key}".rstrip(): value
        for name in PROVENANCE
        if name in record
        for key, value in (
            record[name].items() if isinstance(record[name], dict) else [("", record[name])]
        )
    }
    own = {name: value for name, value in run.settings.items() if name not in shared}
    return definitions({"overrides": " ".join(run.overrides), **own, **provenance})


def _best(runs: Sequence[RunFolder], name: str) -> float | None:
    values = [value for run in runs if (value := run.metric(name)) is not None]
    return max(values, default=None) if name not in LOW_IS_GOOD and len(runs) > 1 else None


def _number(name: str, value: float) -> str:
    if "/" in name:
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


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
