"""A table of the paper beside our runs: paper, mean ± std over seeds, and their difference."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from experiments.markdown import markdown_table, write_csv, write_text
from experiments.records import NAMES, PAPER, Record, Summary, read_csv, select, summarize

METRICS = ("mrr", "hits@10", "hits@1")
NOT_RUN = "not run"


@dataclass(frozen=True)
class Line:
    """One system of a table: what the paper says of it, and our runs.

    Args:
        paper: its row of ``paper.csv``.
        runs: by seed; empty where it was not run.
    """

    paper: dict[str, str]
    runs: list[Record]

    @property
    def paper_seconds(self) -> float:
        """The paper's training time."""
        return 60 * float(self.paper["cost_minutes"])

    @property
    def seconds(self) -> Summary | None:
        """Seconds on the training clock, of runs that had the machine for themselves."""
        return summarize([r.result["train_seconds"] for r in self.runs if r.alone])

    @property
    def hardware(self) -> str:
        """What the runs trained on."""
        return "; ".join(sorted({r.hardware for r in self.runs}))

    def ours(self, metric: str) -> Summary | None:
        """Our test metric over seeds."""
        return summarize([r.result[f"test/{metric}"] for r in self.runs])

    def difference(self, metric: str) -> float | None:
        """Our mean less the paper's value."""
        ours = self.ours(metric)
        return ours.mean - float(self.paper[metric]) if ours else None


def comparison(table: str, records: list[Record]) -> list[Line]:
    """The lines of a table, in the paper's order."""
    return [
        Line(row, select(records, row["dataset"], row["strategy"], row["model"], _dim(row)))
        for row in read_csv(PAPER)
        if row["table"] == table
    ]


def _dim(row: dict[str, str]) -> int:
    """Our D; the paper's >256 (fully trained baselines of table 3) is 256 here."""
    return int(row["dim"].lstrip(">"))


def build(table: str, title: str, records: list[Record], folder: Path) -> None:
    """Write ``table.md`` and ``table.csv`` of a table and print it."""
    lines = comparison(table, records)
    machines = Counter(run.hardware for line in lines for run in line.runs)
    letters = dict(zip(machines, ascii_uppercase, strict=False))
    text = f"# {title}\n\n{_legend(machines, letters)}"
    for dataset in dict.fromkeys(line.paper["dataset"] for line in lines):
        rows = [_markdown_row(line, letters) for line in lines if line.paper["dataset"] == dataset]
        header = ["strategy", "model"]
        for name in ("MRR", "H@10", "H@1"):
            header += [f"{name}, paper", "ours", "diff."]
        header += ["seconds, paper", "ours", "on", "n"]
        text += f"\n## {NAMES[dataset]}\n\n{markdown_table(header, rows, left=2)}"
    write_text(folder / f"{table}.md", text)
    header = ["table", "dataset", "strategy", "model", "dim", "metric", "paper", "mean", "std", "n",
              "difference", "paper_seconds", "seconds", "hardware"]  # fmt: skip
    csv_rows = [_csv_row(table, line, metric) for line in lines for metric in METRICS]
    write_csv(folder / f"{table}.csv", header, csv_rows)
    print(text)
    print(f"{folder / table}.md, {folder / table}.csv")


def _legend(machines: Counter[str], letters: dict[str, str]) -> str:
    where = "; ".join(f"{letters[name]}, {name} ({count} runs)" for name, count in machines.items())
    return (
        "Filtered test metrics: the paper's (GTX 1070), ours as mean ± sample standard deviation "
        "over n seeds, and the difference of the two. Seconds are of the training clock; a dash "
        "stands where runs shared the machine.\n\n"
        f"Hardware: {where or 'no runs'}.\n"
    )


def _markdown_row(line: Line, letters: dict[str, str]) -> list[str]:
    cells = [NAMES[line.paper["strategy"]], NAMES[line.paper["model"]]]
    for metric in METRICS:
        ours, difference = line.ours(metric), line.difference(metric)
        cells += [
            f"{float(line.paper[metric]):.3f}",
            NOT_RUN if ours is None else str(ours),
            "" if difference is None else f"{difference:+.3f}",
        ]
    seconds = f"{line.seconds.mean:.0f}" if line.seconds else "-" if line.runs else ""
    on = "".join(sorted({letters[run.hardware] for run in line.runs}))
    return [*cells, f"{line.paper_seconds:.0f}", seconds, on, str(len(line.runs))]


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
        *(line.paper[key] for key in ("dataset", "strategy", "model", "dim")),
        metric,
        line.paper[metric],
        *("" if value is None else f"{value:.6g}" for value in numbers.values()),
        line.hardware,
    ]
