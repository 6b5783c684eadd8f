"""Ids that users give as tensors, checked before they are an address in memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hale.errors import ArgumentError, require_type
from hale.graphs.kg import KnowledgeGraph


def as_int64(name: str, id_X: Tensor) -> Tensor:
    """Ids as int64, whichever integers they are given as.

    Raises:
        ArgumentError: they are not integers; booleans are none.
    """
    require_type(name, id_X, Tensor)
    if id_X.is_floating_point() or id_X.is_complex() or id_X.dtype == torch.bool:
        raise ArgumentError(f"{name} must be ids, whole numbers, got {id_X.dtype}")
    return id_X.to(torch.int64)


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
