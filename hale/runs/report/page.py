"""A folder of runs as one self-contained HTML file: curves and a ranked table per dataset.

Names come from configs and folders of any source, so all text is escaped, and the page's policy
allows no script but its own.
"""

import base64
import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hale.errors import HaleError
from hale.graphs.names import shown
from hale.runs.columns import CURVE_UNITS, CURVES, dataset_title, differences
from hale.runs.files import write_output
from hale.runs.folders import RunFolder, damage, find_runs
from hale.runs.report.charts import Line, line_chart
from hale.runs.report.colors import Style, run_styles
from hale.runs.report.tables import definitions, label, missing, path, sample, table, text

HERE = Path(__file__).parent
MANY = 12
"""Curves of a chart above which they are drawn thinner."""


def write_report(top: Path, out: Path) -> int:
    """Write the page of all runs at or below ``top``; return the number of finished ones.

    Runs that failed, and what is damaged, are named on stderr.

    Raises:
        HaleError: there is no such folder, or no finished run in it.
    """
    runs = find_runs(top)
    if not any(run.record is not None for run in runs):
        raise HaleError(f"{top} holds no finished run: train one, or give a folder above")
    for run in runs:
        if problem := (run.error if run.record is None else damage(run)):
            print(f"skipped: {problem}", file=sys.stderr)
    page = report(runs, top)
    with write_output(out) as file:
        file.write(page)
    return sum(run.record is not None for run in runs)


def report(runs: Sequence[RunFolder], top: Path) -> str:
    """The page of some runs below ``top``, at least one of them finished."""
    finished = [run for run in runs if run.record is not None]
    monitor = finished[0].settings.get("monitor", "valid/mrr")
    finished.sort(key=lambda run: -(run.metric(monitor) or -math.inf))
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = ", ".join(sorted({dataset_title(run.settings) for run in finished})) or "Runs"
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style></head><body>",
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">Runs in {text(top.resolve().name)}</p>',
        *_facts(finished, len(runs) - len(finished), monitor),
        *_datasets(finished, top, monitor),
        *missing([run for run in runs if run.record is None], top),
        f"<script>{script}</script>",
        "</body></html>\n",
    ])  # fmt: skip


def _facts(finished: Sequence[RunFolder], unfinished: int, monitor: str) -> Iterator[str]:
    seconds = sum(run.metric("train_seconds") or 0.0 for run in finished)
    datasets = {dataset_title(run.settings) for run in finished}
    best = finished[0].metric(monitor) if len(datasets) == 1 else None
    facts = {
        "finished runs": str(len(finished)),
        **({"without a result": str(unfinished)} if unfinished else {}),
        **(
            {"datasets": str(len(datasets))} if best is None else {f"best {monitor}": f"{best:.4f}"}
        ),
        "total training time": f"{seconds:.0f} s" if seconds < 6000 else f"{seconds / 3600:.1f} h",
    }
    yield '<ul class="facts">'
    yield from (
        f"<li><b>{text(value)}</b><span>{text(name)}</span></li>" for name, value in facts.items()
    )
    yield "</ul>"


def _datasets(finished: Sequence[RunFolder], top: Path, monitor: str) -> Iterator[str]:
    """A section for each dataset; a colour means the same in all of them."""
    shared = _shared(finished)
    if shared:
        yield "<details><summary>Settings that all runs share</summary>"
        yield f"{definitions(dict(shared))}</details>"
    for dataset in sorted({dataset_title(run.settings) for run in finished}):
        runs = [run for run in finished if dataset_title(run.settings) == dataset]
        names = differences(runs)
        styles = run_styles(runs, names, monitor, finished)
        on_dataset = f" on {text(dataset)}" if dataset else ""
        yield f"<h2>Convergence{on_dataset}</h2>"
        yield from _charts(runs, styles, names, top)
        yield from _legend(styles)
        number = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
        yield f"<h3>{number}{on_dataset}, by {text(monitor)}</h3>"
        yield from table(runs, styles, names, shared, top, monitor)


def _charts(
    runs: Sequence[RunFolder], styles: Sequence[Style], names: Sequence[str], top: Path
) -> Iterator[str]:
    yield f'<div class="charts{" many" if len(runs) > MANY else ""}">'
    for metric, title in CURVES.items():
        lines = [
            Line(
                path(run, top),
                shown(label(run, names) or path(run, top)),
                style.color,
                style.dash,
                points=[
                    (row["train_seconds"], row[metric])
                    for row in _curve(run)
                    if metric in row and math.isfinite(row[metric] + row["train_seconds"])
                ],
            )
            for run, style in zip(runs, styles, strict=True)
        ]
        chart = line_chart(title, "seconds of training", CURVE_UNITS[metric], lines)
        yield f"<div>{chart}</div>"
    yield "</div>"


def _curve(run: RunFolder) -> list[dict[str, float]]:
    """The curve of a run; empty if it is damaged."""
    return [] if damage(run) else run.curve


def _legend(styles: Sequence[Style]) -> Iterator[str]:
    """The entries of the styles that a chart shows, each once; a list for each setting."""
    entries = dict.fromkeys(entry for style in styles for entry in style.entries)
    for name in dict.fromkeys(entry.name for entry in entries):
        yield f'<ul class="legend"><li class="soft">{text(name)}:</li>'
        for entry in entries:
            if entry.name == name:
                yield f"<li>{sample(entry.color, entry.dash)}{text(entry.value)}</li>"
        yield "</ul>"


def _shared(runs: Sequence[RunFolder]) -> dict[str, str]:
    """The settings that all of several runs have."""
    if len(runs) < 2:
        return {}
    return {
        name: value
        for name, value in runs[0].settings.items()
        if all(run.settings.get(name) == value for run in runs)
    }
