"""Ids as tensors: those that users give are checked before they are an address in memory.

Others are stored in as few bytes as they fit, and sorted in as little memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hale.errors import ArgumentError, DatasetError, require_type
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.named_triples import MOST


def as_int64(name: str, id_X: Tensor) -> Tensor:
    """Ids as int64, whichever integers they are given as.

    Raises:
        ArgumentError: they are not integers; booleans are none.
    """
    return as_ids(name, id_X).to(torch.int64)


def as_ids(name: str, id_X: Tensor) -> Tensor:
    """Ids as int32 if they are given so, as int64 otherwise.

    Raises:
        ArgumentError: they are not integers; booleans are none.
    """
    require_type(name, id_X, Tensor)
    if id_X.is_floating_point() or id_X.is_complex() or id_X.dtype == torch.bool:
        raise ArgumentError(f"{name} must be ids, whole numbers, got {id_X.dtype}")
    return id_X if id_X.dtype == torch.int32 else id_X.to(torch.int64)


def query_rows(graph: KnowledgeGraph, query_B2: Tensor) -> Tensor:
    """Queries (entity, relation) as int64 of shape (B, 2); relations from R on are reciprocal.

    Raises:
        ArgumentError: another type or shape, or an id out of range.
    """
    columns = ("entity", graph.num_entities), ("relation", 2 * graph.num_relations)
    return _as_rows("queries", query_B2, columns)


def triple_rows(graph: KnowledgeGraph, triple_T3: Tensor) -> Tensor:
    """Triples of ids as int64 of shape (T, 3).

    Raises:
        ArgumentError: another type or shape, or an id out of range.
    """
    entity = "entity", graph.num_entities
    return _as_rows("triples", triple_T3, (entity, ("relation", graph.num_relations), entity))


def _as_rows(name: str, id_TX: Tensor, columns: Sequence[tuple[str, int]]) -> Tensor:
    """Rows of ids; ``columns`` says of what each one's ids are, and how many of these there are."""
    id_TX = as_int64(name, id_TX)
    if id_TX.dim() != 2 or id_TX.shape[1] != len(columns):
        raise ArgumentError(
            f"{name} must have the shape (T, {len(columns)}), got {tuple(id_TX.shape)}"
        )
    for at, (kind, count) in enumerate(columns):
        column_T = id_TX[:, at]
        outside_T = (column_T < 0) | (column_T >= count)
        if outside_T.any():
            row = int(outside_T.int().argmax())
            raise ArgumentError(
                f"{name}[{row}]: no {kind} has id {int(column_T[row])}: ids are 0 to {count - 1}"
            )
    return id_TX


def least(count: int) -> torch.dtype:
    """The type of ids below ``count``: int32 if they fit, or else int64."""
    return torch.int32 if count <= 2**31 else torch.int64


def ascending(id_X: Tensor) -> Tensor:
    """The ids in ascending order; on the CPU sorted in place, which needs no other memory."""
    if id_X.device.type != "cpu":
        return id_X.sort().values
    id_X.numpy().sort()
    return id_X


def grouped(
    query_T: Tensor, answer_T: Tensor, num_entities: int, num_queries: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Answers by query: distinct queries and answers ascend.

    Pairs are sorted as one number each, below E x ``num_queries``. Where that exceeds int64, the
    queries that occur are numbered first.

    Args:
        query_T: ids of queries, int64; overwritten.
        answer_T: an answer to each.
        num_entities: E; answers are below.
        num_queries: ids of queries are below.

    Returns:
        ``query_Q``, the number of its answers ``count_Q``, and ``answer_A``, in the :func:`least`
        type; the others are int64.

    Raises:
        DatasetError: there are too many queries and entities.
    """
    number_Q = None
    if num_entities * num_queries > MOST:
        number_Q, query_T = torch.unique(query_T, return_inverse=True)
        if num_entities * len(number_Q) > MOST:
            raise DatasetError(
                f"{len(number_Q)} queries and {num_entities} entities are too many: their product "
                "must be below 2^63"
            )
    pair_A = torch.unique_consecutive(ascending(query_T.mul_(num_entities).add_(answer_T)))
    answer_A = (pair_A % num_entities).to(least(num_entities))
    pair_A.div_(num_entities, rounding_mode="floor")
    query_Q, count_Q = torch.unique_consecutive(pair_A, return_counts=True)
    return query_Q if number_Q is None else number_Q, count_Q, answer_A
