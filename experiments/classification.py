"""Triple classification on CoDEx: ``python -m experiments.classification results``.

Runs ``hale classify`` on every recorded run of CoDEx-S and CoDEx-M whose model was kept, which
writes ``classification.json`` beside its ``result.json``, and lists all of these with the accuracy
and F1 that CoDEx's authors publish for their LibKGE models.
"""

import json
import sys
from pathlib import Path

from experiments.command import from_records
from experiments.markdown import markdown_table, write_csv, write_text
from experiments.records import NAMES, Record, read_csv
from experiments.systems import strategy
from hale.cli import run_command
from hale.errors import HaleError

PUBLISHED = Path(__file__).with_name("codex_classification.csv")
"""github.com/tsafavi/codex, README: models of up to 512 dimensions, tuned for this task."""
FILE = "classification.json"
HEADER = ("model", "D", "trained with", "accuracy", "F1", "seed")
INTRO = """# Triple classification

The true triples of the test split and as many hard negatives, classified by a threshold for each
relation, fitted on the valid split. LibKGE's are the published numbers of CoDEx's authors, who
tuned models for this task; ours are the models of the link-prediction tables. Made by
`make classification`.
"""


def classify(record: Record) -> dict[str, float] | None:
    """Accuracy and F1 on the test split; None if neither they nor the model were kept.

    Raises:
        HaleError: the command failed.
    """
    folder = record.run.path
    if not (folder / FILE).exists():
        if not (folder / "model").is_dir():
            return None
        words = ["classify", str(folder), "--format", "json", "--out", str(folder / FILE)]
        if run_command(words) != 0:
            raise HaleError(f"{folder}: classification failed")
    rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    found: dict[str, float] = next(row for row in rows if row["split"] == "test")
    return found


def build(records: list[Record], folder: Path) -> None:
    """Write ``classification.md`` and ``classification.csv`` and print the table."""
    text, csv_rows = INTRO, []
    for dataset in ("codex_s", "codex_m"):
        rows = [_published(row) for row in read_csv(PUBLISHED) if row["dataset"] == dataset]
        for record in records:
            found = classify(record) if record.choice("dataset") == dataset else None
            if found is not None:
                rows.append(_row(record, found))
        rows.sort(key=lambda row: row[HEADER.index("accuracy")], reverse=True)
        text += f"\n## {NAMES[dataset]}\n\n{markdown_table(HEADER, rows)}"
        csv_rows += [[dataset, *row] for row in rows]
    write_text(folder / "classification.md", text)
    write_csv(folder / "classification.csv", ["dataset", *HEADER], csv_rows)
    print(text)


def _published(row: dict[str, str]) -> list[str]:
    return [NAMES[row["model"]], "≤ 512", "LibKGE", row["accuracy"], row["f1"], ""]


def _row(record: Record, found: dict[str, float]) -> list[str]:
    model = str(record.choice("model"))
    return [
        NAMES.get(model, model), str(record.dim), strategy(record),
        f"{found['accuracy']:.3f}", f"{found['f1']:.3f}", str(record.seed),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(from_records(__doc__, build))
