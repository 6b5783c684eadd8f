"""Knowledge graphs: named entities and relations, and three splits of triples."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hale.errors import DatasetError
from hale.graphs.reading import SPLITS, Unseen, read_and_split, read_splits


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Names, whose positions are the ids, and int64 triples (head, relation, tail) of shape (T, 3).

    Two graphs are equal if their vocabularies and their triples are.

    Raises:
        DatasetError: a name occurs twice, or a split is empty, has another shape or dtype, or
            contains an id without a name.
    """

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor

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
    def entity_id(self) -> dict[str, int]:
        """Id of each entity name."""
        return {name: i for i, name in enumerate(self.entities)}

    @cached_property
    def relation_id(self) -> dict[str, int]:
        """Id of each relation name."""
        return {name: i for i, name in enumerate(self.relations)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over both vocabularies and all splits, in the order of their ids."""
        digest = hashlib.sha256(json.dumps((self.entities, self.relations)).encode())
        for triple_T3 in self.splits.values():
            digest.update(len(triple_T3).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(triple_T3.numpy(), dtype="<i8").tobytes())
        return digest.hexdigest()

    @classmethod
    def read(
        cls,
        path: str | Path,
        unseen: Unseen = "error",
        held_out: float = 0.05,
        seed: int = 0,
        name: str | None = None,
    ) -> Self:
        """Read a folder with train, valid and test, or split a single file.

        Args:
            path: the folder or the file, in a format of :mod:`hale.graphs.triple_file`.
            unseen: what to do with a triple of valid or test whose entity or relation does not
                occur in train: ``error``; ``keep`` it, as the benchmarks' protocol does (its
                vectors stay untrained); or ``drop`` it and log the number of dropped triples. A
                split drawn here has no unseen names.
            held_out: for a single file, the share of its triples in valid, and in test.
            seed: for a single file, the seed of the split.
            name: name of the graph; that of the folder or file if not given.

        Raises:
            ArgumentError: an argument out of range.
            DatasetError: a missing or empty file, a malformed line, or a file from which too few
                triples can be held out.
        """
        path = Path(path).expanduser()
        if path.is_file():
            return cls(name or path.name.split(".")[0], *read_and_split(path, held_out, seed))
        return cls(name or path.resolve().name, *read_splits(path, unseen))


def reciprocal(triple_T3: Tensor, num_relations: int) -> Tensor:
    """The triples, then their reciprocals (t, r + R, h); shape (2T, 3).

    Each row is a query (entity, relation) and an answer to it.
    """
    head_T, relation_T, tail_T = triple_T3.unbind(1)
    return torch.cat((triple_T3, torch.stack((tail_T, relation_T + num_relations, head_T), 1)))
