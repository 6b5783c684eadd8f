"""A folder of runs as one HTML file that needs nothing else: curves, a table, every detail.

Names come from configs and folders of anywhere, so all text is escaped, and the page's policy
allows no script but its own.
"""

import base64
import hashlib
import html
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from hale.errors import HaleError
from hale.files import write_atomically
from hale.names import shown
from hale.report.charts import Line, line_chart
from hale.report.colors import Look, choose_look
from hale.runs import RunFolder, find_runs, varying

HERE = Path(__file__).parent
CURVES = {"valid/mrr": "MRR on valid", "valid/hits@10": "Hits@10 on valid"}
COLUMNS = (
    "valid/mrr", "test/mrr", "test/hits@1", "test/hits@3", "test/hits@10", "train_seconds",
    "steps", "parameters",
)  # fmt: skip
LOW_IS_GOOD = ("train_seconds", "steps", "parameters")
DETAILS = ("hardware", "versions", "commit", "date", "seed", "dataset_fingerprint")
LONGEST = 2000
"""Characters of a text that are shown."""
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
        *_table(finished, names, look, top, monitor),
        *_missing([run for run in runs if run.record is None], top),
        "<h2>Details</h2>",
        *(part for run in finished for part in _details(run, names, top)),
        f"<script>{script}</script>",
        "</body></html>\n",
    ])  # fmt: skip


def text(value: object) -> str:
    """Any value as text of a page or of an attribute; control characters shown as escapes."""
    return html.escape(shown(str(value), LONGEST))


def _number(name: str, value: float) -> str:
    if "/" in name:
        return f"{value:.4f}"
    return f"{value:,.1f}" if name == "train_seconds" else f"{value:,.10g}"


def _facts(finished: Sequence[RunFolder], missing: int, monitor: str) -> Iterator[str]:
    seconds = sum(run.metric("train_seconds") or 0.0 for run in finished)
    best = finished[0].metric(monitor)
    facts = {
        "finished runs": str(len(finished)),
        **({"without a result": str(missing)} if missing else {}),
        f"best {monitor}": "" if best is None else f"{best:.4f}",
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
                    _path(finished[i], top),
                    shown(_label(finished[i], names) or _path(finished[i], top)),
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


def _table(
    finished: Sequence[RunFolder], names: Sequence[str], look: Look, top: Path, monitor: str
) -> Iterator[str]:
    metrics = [name for name in dict.fromkeys((monitor, *COLUMNS)) if any(
        run.metric(name) is not None for run in finished
    )]  # fmt: skip
    best = {}
    for name in metrics:
        found = [value for run in finished if (value := run.metric(name)) is not None]
        best[name] = None if name in LOW_IS_GOOD else max(found)
    yield '<h2>Runs</h2><div class="scroll"><table><thead><tr>'
    for name in ("run", *names):
        yield f'<th scope="col"><button>{text(name)}</button></th>'
    for name in metrics:
        order = ' aria-sort="descending"' if name == monitor else ""
        yield f'<th scope="col" class="number"{order}><button>{text(name)}</button></th>'
    yield "</tr></thead><tbody>"
    for run, (color, _) in zip(finished, look.of_run, strict=True):
        path = _path(run, top)
        yield (
            f'<tr data-run="{html.escape(path)}"><td class="long" title="{text(path)}">'
            f'<span class="swatch" style="background:{color}"></span>{text(path)}</td>'
        )
        yield "".join(_setting(run.settings.get(name, "")) for name in names)
        yield "".join(_cell(name, run.metric(name), best[name]) for name in metrics)
        yield "</tr>"
    yield "</tbody></table></div>"


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


def _missing(missing: Sequence[RunFolder], top: Path) -> Iterator[str]:
    if not missing:
        return
    yield "<h2>Without a result</h2>"
    for run in missing:
        why = text(run.error or "cut short")
        yield f'<p>{text(_path(run, top))}: {why} <span class="soft">'
        yield f"{' '.join(map(text, run.overrides))}</span></p>"


def _details(run: RunFolder, names: Sequence[str], top: Path) -> Iterator[str]:
    record = run.record or {}
    label = f'<span class="soft">{text(_label(run, names))}</span>'
    yield f"<details><summary>{text(_path(run, top))} {label}</summary><dl>"
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


def _label(run: RunFolder, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {run.settings.get(name, '')}" for name in names)


def _path(run: RunFolder, top: Path) -> str:
    return str(run.path.relative_to(top))
