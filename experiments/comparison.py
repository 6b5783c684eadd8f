"""A table of the paper beside our runs: paper, mean ± std over seeds, and their difference."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from experiments.markdown import markdown_table, write_csv, write_text
from experiments.provenance import MODIFIED, STALE, is_stale
from experiments.records import NAMES, PAPER, Record, Summary, read_csv, select, summarize

METRICS = ("mrr", "hits@10", "hits@1")
NOT_RUN = "not run"
SYSTEM = ("dataset", "strategy", "model", "dim")
Paper = dict[str, str]
"""A row of ``paper.csv``; without metrics and cost for a system that the paper does not have."""


@dataclass(frozen=True)
class Line:
    """One system of a table: the paper's values, and our runs.

    Args:
        paper: its row of ``paper.csv``.
        runs: by seed; empty if it was not run.
        marks: on our values, for runs that cannot be repeated exactly.
    """

    paper: Paper
    runs: list[Record]
    marks: str

    @property
    def paper_seconds(self) -> float | None:
        """The paper's training time."""
        return 60 * float(self.paper["cost_minutes"]) if "cost_minutes" in self.paper else None

    @property
    def seconds(self) -> Summary | None:
        """Training seconds of the runs that did not share the machine."""
        return summarize([r.result["train_seconds"] for r in self.runs if r.alone])

    @property
    def hardware(self) -> str:
        """The hardware of its runs."""
        return "; ".join(sorted({r.hardware for r in self.runs}))

    def ours(self, metric: str) -> Summary | None:
        """Our test metric over seeds."""
        return summarize([r.result[f"test/{metric}"] for r in self.runs])

    def difference(self, metric: str) -> float | None:
        """Our mean minus the paper's value."""
        ours = self.ours(metric)
        return ours.mean - float(self.paper[metric]) if ours and metric in self.paper else None


def comparison(table: str, records: list[Record]) -> list[Line]:
    """The lines of a table: the paper's, in its order, then models that the paper does not have."""
    paper = [row for row in read_csv(PAPER) if row["table"] == table]
    lines = []
    for row in [*paper, *_other_models(paper, records)]:
        runs = select(records, row["dataset"], row["strategy"], row["model"], _dim(row))
        experiment = f"{table}_full" if row["strategy"] == "full" else table
        marks = MODIFIED * any(run.modified for run in runs)
        marks += STALE * any(is_stale(run, experiment) for run in runs)
        lines.append(Line(row, runs, marks))
    return lines


def _other_models(paper: list[Paper], records: list[Record]) -> list[Paper]:
    """Systems of records that differ from rows of a table of several models in the model alone."""
    models = {row["model"] for row in paper}
    if len(models) == 1:
        return []
    rows = {(row["dataset"], row["strategy"], str(_dim(row))) for row in paper}
    found = set()
    for record in records:
        dataset, strategy, model = map(record.choice, SYSTEM[:3])
        if (dataset, strategy, str(record.dim)) in rows and model not in models:
            found.add((str(dataset), str(strategy), str(model), str(record.dim)))
    return [dict(zip(SYSTEM, system, strict=True)) for system in sorted(found)]


def _dim(row: Paper) -> int:
    """Our D; the paper's >256 (fully trained baselines of table 3) is 256 here."""
    return int(row["dim"].lstrip(">"))


def build(table: str, title: str, records: list[Record], folder: Path) -> None:
    """Write ``table.md`` and ``table.csv`` of a table and print it."""
    lines = comparison(table, records)
    machines = Counter(run.hardware for line in lines for run in line.runs)
    letters = dict(zip(machines, ascii_uppercase, strict=False))
    text = f"# {title}\n\n{_legend(lines, machines, letters)}"
    header = ["trained with", "model"]
    for name in ("MRR", "H@10", "H@1"):
        header += [f"{name}, paper", "ours", "diff."]
    header += ["seconds, paper", "ours", "on", "n"]
    for dataset in dict.fromkeys(line.paper["dataset"] for line in lines):
        rows = [_markdown_row(line, letters) for line in lines if line.paper["dataset"] == dataset]
        text += f"\n## {NAMES[dataset]}\n\n{markdown_table(header, rows, left=2)}"
    write_text(folder / f"{table}.md", text)
    columns = ["table", *SYSTEM, "metric", "paper", "mean", "std", "n", "difference",
               "paper_seconds", "seconds", "hardware", "marks"]  # fmt: skip
    csv_rows = [_csv_row(table, line, metric) for line in lines for metric in METRICS]
    write_csv(folder / f"{table}.csv", columns, csv_rows)
    print(text)
    print(f"{folder / table}.md, {folder / table}.csv")


def _legend(lines: list[Line], machines: Counter[str], letters: dict[str, str]) -> str:
    where = "; ".join(f"{letters[name]}, {name} ({count} runs)" for name, count in machines.items())
    notes = {
        MODIFIED: "at least one run on a modified checkout, or with no commit recorded",
        STALE: "at least one run with settings that differ from today's recipe",
    }
    marked = [
        f"{mark} {what}" for mark, what in notes.items() if any(mark in x.marks for x in lines)
    ]
    return (
        "Filtered test metrics: the paper's (GTX 1070), ours as mean ± sample standard deviation "
        "over n seeds, and the difference. Seconds are training time, without validation; a dash "
        "means that runs shared the machine, or that the paper does not have the system.\n\n"
        f"Hardware: {where or 'no runs'}.\n"
    ) + (f"\n{'; '.join(marked)}.\n" if marked else "")


def _markdown_row(line: Line, letters: dict[str, str]) -> list[str]:
    cells = [NAMES[line.paper["strategy"]], NAMES.get(line.paper["model"], line.paper["model"])]
    for metric in METRICS:
        ours, difference = line.ours(metric), line.difference(metric)
        cells += [
            f"{float(line.paper[metric]):.3f}" if metric in line.paper else "-",
            NOT_RUN if ours is None else f"{ours}{' ' * bool(line.marks)}{line.marks}",
            "" if difference is None else f"{difference:+.3f}",
        ]
    seconds = f"{line.seconds.mean:.0f}" if line.seconds else "-" if line.runs else ""
    on = "".join(sorted({letters[run.hardware] for run in line.runs}))
    paper_seconds = "-" if line.paper_seconds is None else f"{line.paper_seconds:.0f}"
    return [*cells, paper_seconds, seconds, on, str(len(line.runs))]


def _csv_row(table: str, line: Line, metric: str) -> list[str]:
    ours, seconds = line.ours(metric), line.seconds
    numbers = {
        "mean": ours.mean if ours else None,
        "std": ours.std if ours else None,
        "n": len(line.runs),
        "difference": line.difference(metric),
        "paper_seconds": line.paper_seconds,
        "seconds": seconds.mean if seconds else None,
    }
    return [
        table,
        *(line.paper[key] for key in SYSTEM),
        metric,
        line.paper.get(metric, ""),
        *("" if value is None else f"{value:.6g}" for value in numbers.values()),
        line.hardware,
        line.marks,
    ]
