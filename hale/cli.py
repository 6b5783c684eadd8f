"""The commands beside training, and what they share: arguments, output, one-line errors.

Each command is a module of :mod:`hale.commands` with ``run(args)``, imported when it is called, so
that ``--help`` answers at once.
"""

import argparse
import importlib
import logging
import sys

from hale.errors import HaleError

COMMANDS = {
    "predict": "the best answers to queries, by name",
    "evaluate": "ranking metrics of a trained model on any split or file",
    "classify": "accuracy and F1 of telling true triples from false ones",
    "export": "embeddings with names: TSV, NumPy, word2vec, TensorBoard projector",
    "results": "a sorted table of finished runs",
    "report": "curves and tables of a folder of runs as one HTML page",
    "stats": "what a dataset holds: counts, kinds of relations, leakage, duplicates",
}


def run_command(arguments: list[str]) -> int:
    """Run a command and return its exit code: 1 for a user's mistake, one line on stderr.

    Raises:
        BrokenPipeError: the reader of the output had enough.
    """
    args = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        importlib.import_module(f"hale.commands.{args.command}").run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # an OSError, but nobody's mistake: the front door closes it
        raise
    except (HaleError, OSError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"hale {args.command}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(prog="hale", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    each = {
        name: commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        for name, text in COMMANDS.items()
    }
    for name in ("predict", "evaluate", "classify", "export"):
        each[name].add_argument(
            "model", metavar="FOLDER", help="a run's folder, or the model in it"
        )
    _predict(each["predict"])
    _evaluate(each["evaluate"])
    _classify(each["classify"])
    _export(each["export"])
    _results(each["results"])
    _report(each["report"])
    each["stats"].add_argument(
        "dataset", metavar="DATASET",
        help="a folder of triples, a file of triples, or a dataset's name (family, wn18rr, ...)",
    )  # fmt: skip
    for name in ("evaluate", "classify", "stats"):
        each[name].add_argument("--per-relation", action="store_true", help="a row per relation")
    for name in ("predict", "evaluate", "classify", "results", "stats"):
        _table(each[name])
    return top


def _predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("--head", metavar="NAME", help="a name, or id:7; tails are asked for")
    command.add_argument("--relation", metavar="NAME", help="a name, or id:7")
    command.add_argument("--tail", metavar="NAME", help="a name, or id:7; heads are asked for")
    command.add_argument(
        "--queries", metavar="FILE",
        help="many queries: head, relation, tail separated by tabs, ? for what is asked for",
    )  # fmt: skip
    command.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    command.add_argument(
        "--filter-known", action="store_true", help="leave out what the dataset already says"
    )


def _evaluate(command: argparse.ArgumentParser) -> None:
    what = command.add_mutually_exclusive_group()
    what.add_argument("--split", choices=("train", "valid", "test"), default="test")
    what.add_argument(
        "--triples", metavar="FILE", help="triples of known names, instead of a split"
    )


def _classify(command: argparse.ArgumentParser) -> None:
    for split in ("valid", "test"):
        command.add_argument(
            f"--{split}-negatives", metavar="FILE",
            help=f"false triples beside the {split} split (default: the hard ones of CoDEx)",
        )  # fmt: skip


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format", choices=("tsv", "numpy", "word2vec", "projector"), default="tsv"
    )
    command.add_argument("--out", metavar="FOLDER", required=True, help="where to write")


def _results(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="FOLDER", help="searched with all folders in it")
    command.add_argument(
        "--sort", metavar="COLUMN", default="test/mrr", help="best first (default: test/mrr)"
    )


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="FOLDER", help="searched with all folders in it")
    command.add_argument(
        "--out", metavar="FILE", default="report.html", help="the page (default: report.html)"
    )


def _table(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format", choices=("table", "tsv", "json", "parquet"),
        help="default: a table on a terminal, else TSV",
    )  # fmt: skip
    command.add_argument("--out", metavar="FILE", help="write to a file, not to the terminal")
