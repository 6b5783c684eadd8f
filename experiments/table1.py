"""Table 1, statistics of the datasets, counted from the data: ``python -m experiments.table1``."""

import sys
from pathlib import Path

from experiments.markdown import markdown_table, write_csv, write_text
from experiments.records import NAMES, read_csv
from hale.errors import HaleError
from hale.graphs.published import benchmark

PAPER = Path(__file__).with_name("paper_table1.csv")
COLUMNS = ("relations", "entities", "train", "valid", "test")
NOTE = (
    "Counted from the files; the paper's number is in brackets where it differs. The paper's "
    "86,845 training triples of WN18RR are a misprint: the benchmark has 86,835.\n"
)


def count(dataset: str) -> dict[str, int] | None:
    """The statistics of a benchmark; None, with a message, if its files are not available."""
    try:
        graph = benchmark(dataset)
    except HaleError as error:
        print(error, file=sys.stderr)
        return None
    sizes = {split: len(triple_T3) for split, triple_T3 in graph.splits.items()}
    return {"relations": graph.num_relations, "entities": graph.num_entities} | sizes


def build(folder: Path) -> None:
    """Write ``table1.md`` and ``table1.csv`` and print the table."""
    rows, csv_rows = [], []
    for paper in read_csv(PAPER):
        found = count(paper["dataset"])
        row = [NAMES[paper["dataset"]]]
        for column in COLUMNS:
            number = int(paper[column])
            if found is None:
                row.append(f"not available ({number:,})")
                csv_rows.append([paper["dataset"], column, paper[column], ""])
            else:
                differs = f" ({number:,})" if number != found[column] else ""
                row.append(f"{found[column]:,}{differs}")
                csv_rows.append([paper["dataset"], column, paper[column], str(found[column])])
        rows.append([*row, f"{int(paper['seconds']):,} s"])
    header = ["dataset", *COLUMNS, "training limit"]
    text = f"# Table 1: the datasets\n\n{NOTE}\n{markdown_table(header, rows)}"
    write_text(folder / "table1.md", text)
    write_csv(folder / "table1.csv", ["dataset", "statistic", "paper", "counted"], csv_rows)
    print(text)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
