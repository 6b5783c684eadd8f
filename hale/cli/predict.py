"""``hale predict``: the best answers to one query, or to a file of them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import Row, add_table_arguments, write_rows
from hale.errors import HaleError
from hale.graphs.names import UnknownNameError
from hale.graphs.triple_file import numbered_triples

if TYPE_CHECKING:
    from hale.runs.trained import TrainedModel

SUMMARY = "the best answers to queries, by name"

ASKED = "?"
"""Stands in a file of queries for the head or the tail that is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and one query or a file of them."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    parser.add_argument("--head", metavar="NAME", help="a name, or id:7; tails are predicted")
    parser.add_argument("--relation", metavar="NAME", help="a name, or id:7")
    parser.add_argument("--tail", metavar="NAME", help="a name, or id:7; heads are predicted")
    parser.add_argument(
        "--queries", metavar="FILE",
        help="many queries: head, relation, tail separated by tabs, ? for what is predicted",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    parser.add_argument(
        "--filter-known", action="store_true", help="leave out what the dataset already says"
    )
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Answer the queries of the arguments."""
    single = (args.head, args.relation, args.tail)
    if (args.queries is None) == (single == (None, None, None)):
        raise HaleError("give either --relation with --head or --tail, or --queries FILE")
    if args.queries is None and args.relation is None:
        raise HaleError("give the --relation that is asked about")
    from hale.runs.trained import load

    model = load(args.model)
    queries = [model.query(*single)] if args.queries is None else _read(Path(args.queries), model)
    rows = _rows(model, queries, args.k, args.filter_known)
    if not rows:
        raise HaleError("every entity is a known answer: leave out --filter-known")
    write_rows(rows, args.format, args.out, f"{model.graph.name}: best answers")


def _rows(
    model: "TrainedModel", queries: list[tuple[int, int]], k: int, filter_known: bool
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


def _read(path: Path, model: "TrainedModel") -> list[tuple[int, int]]:
    queries = []
    for number, names in numbered_triples(path):
        head, relation, tail = (name.decode(errors="replace") for name in names)
        if (head == ASKED) == (tail == ASKED):
            raise HaleError(f"{path}:{number}: exactly one of head and tail must be {ASKED}")
        asked = (None, relation, tail) if head == ASKED else (head, relation, None)
        try:
            queries.append(model.query(*asked))
        except UnknownNameError as error:
            raise HaleError(f"{path}:{number}: {error}") from None
    if not queries:
        raise HaleError(f"{path} has no queries")
    return queries
