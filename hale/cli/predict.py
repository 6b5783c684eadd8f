"""``hale predict``: the best answers to a query, or to a file of queries."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hale.cli.output import add_table_arguments, require_writable, write_rows
from hale.errors import HaleError
from hale.graphs.names import UnknownNameError
from hale.graphs.triple_file import read_blocks, table_form
from hale.runs.model_path import find_model
from hale.runs.tables import Row
from hale.runs.terminal import as_utf8

if TYPE_CHECKING:
    from hale.runs.trained import TrainedModel

SUMMARY = "the best answers to queries, by name"
ASKED = "?"
"""In a file of queries, stands for the head or tail to predict."""
LEAST_IMPORTANT = ("known", "rank")

Query = tuple[str | None, str, str | None]
"""Head, relation and tail, as typed; one of head and tail is None."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and a query or a file of queries."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    parser.add_argument(
        "--head", metavar="NAME", type=as_utf8, help="a name, or id:7; predicts tails"
    )
    parser.add_argument("--relation", metavar="NAME", type=as_utf8, help="a name, or id:7")
    parser.add_argument(
        "--tail", metavar="NAME", type=as_utf8, help="a name, or id:7; predicts heads"
    )
    parser.add_argument(
        "--queries", metavar="FILE",
        help="many queries: head, relation, tail separated by tabs, ? for the one to predict",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    parser.add_argument(
        "--filter-known", action="store_true", help="exclude known answers, those in any split"
    )
    add_table_arguments(parser)
    parser.error = _error_of(parser)  # type: ignore[method-assign]


def _error_of(parser: argparse.ArgumentParser) -> Any:
    """``parser.error``, with a hint where a name begins with a dash."""
    usual = parser.error

    def error(message: str) -> NoReturn:
        option = re.match(r"argument (--head|--relation|--tail): expected one argument", message)
        usual(f"{message} (if the name begins with -: {option[1]}=-NAME)" if option else message)

    return error


def run(args: argparse.Namespace) -> None:
    """Answer the queries and write a row per answer.

    Raises:
        HaleError: no or several queries, an unknown name, or no answer left.
    """
    single = (args.head, args.relation, args.tail)
    if (args.queries is None) == (not any(part is not None for part in single)):
        raise HaleError("give either --relation with --head or --tail, or --queries FILE")
    if args.queries is None and args.relation is None:
        raise HaleError("give the --relation of the query")
    folder = find_model(args.model)
    asked = None if args.queries is None else _read(Path(args.queries))
    require_writable(args.out)
    from hale.runs.trained import load

    model = load(folder)
    queries = [model.query(*single)] if asked is None else _resolve(asked, model)
    k = min(args.k, sys.maxsize)  # more than there are entities is all of them
    rows = _rows(model, queries, k, args.filter_known)
    if not rows:
        raise HaleError("every entity is a known answer: leave out --filter-known")
    title = f"{model.graph.name}: best answers"
    write_rows(rows, args.format, args.out, title, LEAST_IMPORTANT)


def _rows(
    model: "TrainedModel", queries: Sequence[tuple[int, int]], k: int, filter_known: bool
) -> list[Row]:
    import torch

    rows: list[Row] = []
    answers = model.answers(torch.tensor(queries), k, filter_known)
    for (entity, relation), found in zip(queries, answers, strict=True):
        given = model.graph.entities[entity]
        reverse, relation = divmod(relation, model.graph.num_relations)
        for rank, answer in enumerate(found, 1):
            head, tail = (answer.entity, given) if reverse else (given, answer.entity)
            rows.append(
                {
                    "head": head,
                    "relation": model.graph.relations[relation],
                    "tail": tail,
                    "rank": rank,
                    "score": answer.score,
                    "known": answer.known,
                }
            )
    return rows


def _read(path: Path) -> dict[str, Query]:
    """The queries of a file, by place (``FILE:LINE``)."""
    queries: dict[str, Query] = {}
    for block in read_blocks(path, table_form(path)):
        for at in range(len(block.head)):
            place, (head, relation, tail) = block.place(at), block.names(at)
            if (head == ASKED) == (tail == ASKED):
                raise HaleError(f"{place}: exactly one of head and tail must be {ASKED}")
            queries[place] = (None, relation, tail) if head == ASKED else (head, relation, None)
    if not queries:
        raise HaleError(f"{path} has no queries")
    return queries


def _resolve(queries: dict[str, Query], model: "TrainedModel") -> list[tuple[int, int]]:
    found = []
    for place, query in queries.items():
        try:
            found.append(model.query(*query))
        except UnknownNameError as error:
            raise HaleError(f"{place}: {error}") from None
    return found
