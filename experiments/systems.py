"""Every recorded run on a page: ``python -m experiments.systems results docs/systems.md``."""

import argparse
import shlex
import sys
from pathlib import Path

from experiments.markdown import markdown_table, write_text
from experiments.records import NAMES, Record, read_records
from hale.errors import HaleError
from hale.runs.record import overrides_of

HEADER = ("model", "D", "trained with", "MRR", "H@1", "H@10", "seconds", "steps", "seed",
          "hardware", "commit", "command")  # fmt: skip
INTRO = """# Systems

All recorded runs that were tested: filtered test metrics, seconds of training (without validation),
and the command that repeats the run. A `+` after the commit means a modified checkout. Made from
the records by `make systems`. A command takes today's recipe, which may differ from that of the
record's date: `config` in its `result.json` has the values it ran with.
"""


def command(record: Record) -> str:
    """The command line that repeats a run."""
    return shlex.join(["python", "-m", "hale.run", *overrides_of(record.result)])


def strategy(record: Record) -> str:
    """The paper's name of the strategy; loss and activation if none was chosen."""
    name = record.choice("strategy")
    if name is None:
        return f"{record.choice('loss')}, {record.choice('activation')}"
    return NAMES.get(name, name)


def page(records: list[Record]) -> str:
    """The page in Markdown, a section for each dataset, the best run first."""
    text = INTRO
    tested = [record for record in records if "test/mrr" in record.result]
    tested.sort(key=lambda record: -record.result["test/mrr"])
    for dataset in sorted({str(record.choice("dataset")) for record in tested}):
        rows = [_row(record) for record in tested if record.choice("dataset") == dataset]
        text += f"\n## {NAMES.get(dataset, dataset)}\n\n{markdown_table(HEADER, rows)}"
    return text if tested else text + "\nNo runs are recorded.\n"


def _row(record: Record) -> list[str]:
    result = record.result
    model = str(record.choice("model"))
    return [
        NAMES.get(model, model), str(record.dim), strategy(record),
        *(f"{result[f'test/{metric}']:.3f}" for metric in ("mrr", "hits@1", "hits@10")),
        f"{result['train_seconds']:.0f}" + ("" if record.alone else " (shared)"),
        str(result["steps"]), str(record.seed), record.hardware,
        _short(result["commit"] or ""), f"`{command(record)}`",
    ]  # fmt: skip


def _short(commit: str) -> str:
    """Eight digits, and the ``+`` of a modified checkout."""
    return commit[:8] + "+" * commit.endswith("+")


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of records, at any depth")
    parser.add_argument("page", type=Path)
    given = parser.parse_args()
    try:
        write_text(given.page, page(read_records([given.folder])))
    except HaleError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
