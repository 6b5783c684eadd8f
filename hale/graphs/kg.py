"""Knowledge graphs: named entities and relations, and three splits of triples."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hale.errors import ArgumentError, DatasetError, checked
from hale.graphs.columns import Column, Columns
from hale.graphs.frames import rows_or_frame
from hale.graphs.names import NameIds
from hale.graphs.paths import as_path, find_files
from hale.graphs.rdf import Literals
from hale.graphs.reading import (
    SPLITS,
    Unseen,
    number_splits,
    read_and_split,
    read_splits,
    split_and_number,
)
from hale.graphs.triple_file import STDIN, Form, require_columns

Query = tuple[Tensor, Tensor, Tensor]
"""Columns of queries: their entities, their relations, and an answer to each."""


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Names, whose positions are the ids, and int64 triples (head, relation, tail) of shape (T, 3).

    ``weight`` is the confidence of each triple of train, float32 of shape (T,), or None if all
    count the same. Two graphs are equal if their vocabularies, triples and weights are.

    Raises:
        DatasetError: a name occurs twice, a split is empty, has another shape or dtype, or
            contains an id without a name; or a weight is negative or not finite, or all are 0.
    """

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        for kind, names in (("entity", self.entities), ("relation", self.relations)):
            if len(set(names)) < len(names):
                raise DatasetError(f"{self.name}: two {kind} names are equal")
        bound_3 = torch.tensor((self.num_entities, self.num_relations, self.num_entities))
        for split, triple_T3 in self.splits.items():
            if triple_T3.dtype != torch.int64 or triple_T3.shape[1:] != (3,):
                raise DatasetError(
                    f"{self.name}: {split} must be int64 of shape (T, 3), "
                    f"got {triple_T3.dtype} of shape {tuple(triple_T3.shape)}"
                )
            if len(triple_T3) == 0:
                raise DatasetError(f"{self.name}: {split} has no triples")
            if (triple_T3 < 0).any() or (triple_T3 >= bound_3).any():
                raise DatasetError(f"{self.name}: {split} contains an id without a name")
        if self.weight is not None:
            self._require_weights(self.weight)

    def _require_weights(self, weight_T: Tensor) -> None:
        if weight_T.dtype != torch.float32 or weight_T.shape != self.train.shape[:1]:
            raise DatasetError(
                f"{self.name}: weight must be float32 of shape ({len(self.train)},), "
                f"got {weight_T.dtype} of shape {tuple(weight_T.shape)}"
            )
        if not (weight_T.isfinite() & (weight_T >= 0)).all():
            raise DatasetError(f"{self.name}: a weight is negative or not finite")
        if not weight_T.any():
            raise DatasetError(f"{self.name}: the weights of all triples of train are 0")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KnowledgeGraph) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def num_entities(self) -> int:
        """E, over all splits."""
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """R, without reciprocal relations."""
        return len(self.relations)

    @property
    def splits(self) -> dict[str, Tensor]:
        """``train``, ``valid`` and ``test`` by name."""
        return {split: getattr(self, split) for split in SPLITS}

    @cached_property
    def entity_id(self) -> NameIds:
        """Id of each entity name."""
        return NameIds((name, i) for i, name in enumerate(self.entities))

    @cached_property
    def relation_id(self) -> NameIds:
        """Id of each relation name."""
        return NameIds((name, i) for i, name in enumerate(self.relations))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over both vocabularies, all splits and the weights, in order of the ids."""
        digest = hashlib.sha256(json.dumps((self.entities, self.relations)).encode())
        for triple_T3 in self.splits.values():
            digest.update(len(triple_T3).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(triple_T3.numpy(), dtype="<i8").tobytes())
        if self.weight is not None:
            digest.update(np.ascontiguousarray(self.weight.numpy(), dtype="<f4").tobytes())
        return digest.hexdigest()

    @classmethod
    @checked
    def read(
        cls,
        path: object,
        unseen: Unseen = "error",
        held_out: float = 0.05,
        seed: int = 0,
        name: str | None = None,
        columns: Sequence[Column] | None = None,
        weight: Column | None = None,
        format: str | None = None,
        literals: Literals = "drop",
    ) -> Self:
        """Read a folder with train, valid and test, or split the triples of one or more files.

        Args:
            path: such a folder; another, whose files are read in order of their names; a file; or
                ``-`` for standard input; text or a ``Path`` (:mod:`hale.graphs.triple_file`).
            unseen: what to do with a triple of valid or test whose entity or relation is not in
                train: ``error``; ``keep`` it, as the benchmarks' protocol does (its vectors stay
                untrained); or ``drop`` and count it. A split drawn here has no unseen names.
            held_out: if the triples are split here, the share of them in valid, and in test.
            seed: of that split.
            name: name of the graph; that of the folder or file if not given.
            columns: names, or positions from 0, of the columns of head, relation and tail; if not
                given, well-known names (:mod:`hale.graphs.columns`), or the order in TSV.
            weight: name or position of the column of weights; those of train are kept.
            format: a suffix of :mod:`hale.graphs.triple_file`, to be used in place of the file's.
            literals: of RDF, ``drop`` (and count) triples whose object is one, or ``keep`` them.

        Raises:
            ArgumentError: an argument out of range.
            DatasetError: a missing or empty file, malformed content, or too few triples to split.
        """
        path, form = as_path(path), Form(_columns(columns, weight), format, literals)
        files = find_files(path, form)
        require_columns(files, form)
        if isinstance(files, dict):
            return cls(name or path.resolve().name, *read_splits(files, unseen, form))
        own = "stdin" if str(path) == STDIN else path.resolve().name.split(".")[0]
        return cls(name or own, *read_and_split(files, held_out, seed, form))

    @classmethod
    @checked
    def from_triples(
        cls,
        rows: object,
        *,
        columns: Sequence[Column] | None = None,
        weight: Column | None = None,
        valid: object = None,
        test: object = None,
        held_out: float = 0.05,
        seed: int = 0,
        unseen: Unseen = "error",
        name: str = "graph",
    ) -> Self:
        """A graph of triples in memory.

        Args:
            rows: an iterable of (head, relation, tail), or a pandas, polars or Arrow frame. Names
                are text; whole numbers stand for their decimal text.
            columns: as of :meth:`read`, but rows without names have only positions.
            weight: as of :meth:`read`.
            valid: like ``rows``. If ``valid`` and ``test`` are given, ``rows`` is train.
            test: like ``valid``.
            held_out: as of :meth:`read`.
            seed: as of :meth:`read`.
            unseen: as of :meth:`read`.
            name: name of the graph.

        Raises:
            ArgumentError: an argument out of range, or only one of ``valid`` and ``test``.
            DatasetError: too few triples, or not a name, at ``rows[7]`` (counted from 0).
        """
        chosen = _columns(columns, weight)
        if (valid is None) != (test is None):
            raise ArgumentError("valid and test must be given together, or neither")
        if valid is None:
            blocks = rows_or_frame(rows, "rows", chosen)
            return cls(name, *split_and_number(blocks, "rows", held_out, seed))
        given = {"rows": rows, "valid": valid, "test": test}
        sources = {what: rows_or_frame(source, what, chosen) for what, source in given.items()}
        return cls(name, *number_splits(sources, unseen))


def _columns(columns: Sequence[Column] | None, weight: Column | None) -> Columns:
    return Columns(None if columns is None else tuple(columns), weight)


def both_directions(triple_T3: Tensor, num_relations: int) -> tuple[Query, Query]:
    """The triples as queries, and their reciprocals (t, r + R, h)."""
    head_T, relation_T, tail_T = triple_T3.unbind(1)
    return (head_T, relation_T, tail_T), (tail_T, relation_T + num_relations, head_T)


def reciprocal(triple_T3: Tensor, num_relations: int) -> Tensor:
    """The triples, then their reciprocals; shape (2T, 3).

    Each row is a query (entity, relation) and an answer to it.
    """
    _, turned = both_directions(triple_T3, num_relations)
    return torch.cat((triple_T3, torch.stack(turned, 1)))


def reciprocal_rows(triple_T3: Tensor, row_B: Tensor, num_relations: int) -> Tensor:
    """Rows of :func:`reciprocal` by their positions, without the others; int64 of shape (3, B)."""
    turned_B = row_B >= len(triple_T3)
    triple_B3 = triple_T3.index_select(0, row_B - turned_B * len(triple_T3))
    both = both_directions(triple_B3, num_relations)
    return torch.stack(
        [torch.where(turned_B, turned, own) for own, turned in zip(*both, strict=True)]
    )
