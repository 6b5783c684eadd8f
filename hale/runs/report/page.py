"""A folder of runs as one HTML file that needs nothing else: curves, a table, every detail.

Names come from configs and folders of anywhere, so all text is escaped, and the page's policy
allows no script but its own.
"""

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from hale.errors import HaleError
from hale.graphs.names import shown
from hale.runs.files import write_atomically
from hale.runs.folders import RunFolder, find_runs, varying
from hale.runs.report.charts import Line, line_chart
from hale.runs.report.colors import Look, choose_look
from hale.runs.report.tables import details, label, missing, path, table, text

HERE = Path(__file__).parent
CURVES = {"valid/mrr": "MRR on valid", "valid/hits@10": "Hits@10 on valid"}
MANY = 12
"""Curves of a chart above which they are drawn thinner."""


def write_report(top: Path, out: Path) -> int:
    """Write the page of all runs at or below ``top`` and return how many finished ones it shows.

    Raises:
        HaleError: no folder, or no finished run in it.
    """
    runs = find_runs(top)
    if not any(run.record is not None for run in runs):
        raise HaleError(f"{top} holds no finished run: train one, or look higher")
    page = report(runs, top)
    with write_atomically(out) as file:
        file.write(page)
    return sum(run.record is not None for run in runs)


def report(runs: Sequence[RunFolder], top: Path) -> str:
    """The page of some runs below ``top``, at least one of them finished."""
    finished = [run for run in runs if run.record is not None]
    monitor = finished[0].settings.get("monitor", "valid/mrr")
    finished.sort(key=lambda run: -(run.metric(monitor) or -math.inf))
    names = varying(finished)
    look = choose_look(finished, names, monitor)
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = top.resolve().name
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style></head><body>",
        f"<h1>{text(title)}</h1>",
        *_facts(finished, len(runs) - len(finished), monitor),
        *_charts(finished, names, look, top),
        *table(finished, names, look, top, monitor),
        *missing([run for run in runs if run.record is None], top),
        "<h2>Details</h2>",
        *(part for run in finished for part in details(run, names, top)),
        f"<script>{script}</script>",
        "</body></html>\n",
    ])  # fmt: skip


def _facts(finished: Sequence[RunFolder], unfinished: int, monitor: str) -> Iterator[str]:
    seconds = sum(run.metric("train_seconds") or 0.0 for run in finished)
    datasets = {run.settings.get("dataset") for run in finished}
    best = finished[0].metric(monitor) if len(datasets) == 1 else None
    facts = {
        "finished runs": str(len(finished)),
        **({"without a result": str(unfinished)} if unfinished else {}),
        **(
            {"datasets": str(len(datasets))} if best is None else {f"best {monitor}": f"{best:.4f}"}
        ),
        "of training in all": f"{seconds:.0f} s" if seconds < 6000 else f"{seconds / 3600:.1f} h",
    }
    yield '<ul class="facts">'
    yield from (
        f"<li><b>{text(value)}</b><span>{text(name)}</span></li>" for name, value in facts.items()
    )
    yield "</ul>"
    common = {
        name: finished[0].settings.get(name, "")
        for name in ("dataset", "model", "loss", "activation", "model.dim", "seed")
        if len({run.settings.get(name, "") for run in finished}) == 1
    }
    words = ", ".join(f"{name} {value}" for name, value in common.items() if value)
    if words:
        yield f'<p class="soft">All runs: {text(words)}</p>'


def _charts(
    finished: Sequence[RunFolder], names: Sequence[str], look: Look, top: Path
) -> Iterator[str]:
    datasets = sorted({run.settings.get("dataset", "") for run in finished})
    for dataset in datasets:
        here = [i for i, run in enumerate(finished) if run.settings.get("dataset", "") == dataset]
        yield f"<h2>Convergence{f' on {text(dataset)}' if dataset else ''}</h2>"
        yield f'<div class="charts{" many" if len(here) > MANY else ""}">'
        for metric, title in CURVES.items():
            lines = [
                Line(
                    path(finished[i], top),
                    shown(label(finished[i], names) or path(finished[i], top)),
                    *look.of_run[i],
                    points=[
                        (row["train_seconds"], row[metric])
                        for row in finished[i].curve
                        if metric in row and math.isfinite(row[metric] + row["train_seconds"])
                    ],
                )
                for i in here
            ]
            yield f"<div>{line_chart(title, 'seconds of training', lines)}</div>"
        yield "</div>"
        yield from _legend(look)


def _legend(look: Look) -> Iterator[str]:
    yield '<ul class="legend">'
    for name, value, color, dash in look.legend:
        pattern = f' stroke-dasharray="{dash}"' if dash else ""
        sample = (
            f'<line x1="0" x2="30" y1="5" y2="5" stroke-width="2.5" stroke="{color}"{pattern}/>'
        )
        yield (
            f'<li><svg viewBox="0 0 30 10" aria-hidden="true">{sample}</svg>'
            f'<span class="name">{text(name)}</span> {text(value)}</li>'
        )
    yield "</ul>"
