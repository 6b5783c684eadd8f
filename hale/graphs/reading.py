"""Reading your own dataset: a folder with train, valid and test, or a single file to be split.

File formats are those of :mod:`hale.graphs.triple_file`. Ids are assigned in the order of first
appearance in train, valid and test, so names that occur in train precede those that do not. A
triple repeated within a split counts once; a triple that occurs in two splits is kept in both; a
warning is logged in either case.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hale.errors import ArgumentError, DatasetError
from hale.graphs.names import UnknownNameError, resolve
from hale.graphs.splitting import split as draw_split
from hale.graphs.triple_file import FORMATS_READ, SUFFIXES, numbered_triples

SPLITS = ("train", "valid", "test")

log = logging.getLogger(__name__)

Unseen = Literal["error", "keep", "drop"]
Triple = tuple[int, int, int]


class Splits(NamedTuple):
    """Names by id, and the triples of each split, int64 of shape (T, 3)."""

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor


def read_splits(folder: Path, unseen: Unseen) -> Splits:
    """Read the three splits in ``folder``; see :meth:`hale.graphs.kg.KnowledgeGraph.read`.

    Raises:
        ArgumentError: ``unseen`` is not one of its values.
        DatasetError: a missing or empty file, or a malformed line.
    """
    if unseen not in ("error", "keep", "drop"):
        raise ArgumentError(f"unseen must be error, keep or drop, got {unseen!r}")
    files = [_find(folder, split) for split in SPLITS]
    entities, relations = _Vocabulary(), _Vocabulary()
    train = _read_file(files[0], entities, relations)
    trained = (len(entities), len(relations))
    held_out = [_read_file(file, entities, relations, unseen, trained) for file in files[1:]]
    if unseen == "drop":
        entities.truncate(trained[0])
        relations.truncate(trained[1])
    splits = [train, *held_out]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if shared := len(splits[i].keys() & splits[j].keys()):
            log.warning("%d triples of %s are also in %s", shared, files[j], files[i].name)
    return Splits(entities.names(), relations.names(), *(_tensor(split) for split in splits))


def read_and_split(path: Path, held_out: float, seed: int) -> Splits:
    """Read a single file and split it (:func:`hale.graphs.splitting.split`).

    Raises:
        ArgumentError: the share or the seed is out of range.
        DatasetError: one file of three splits, another format, a malformed line, or too few
            triples.
    """
    if _stem(path) in SPLITS:
        raise DatasetError(
            f"{path} is not a folder: give the folder with train, valid and test, or rename the "
            "file to have it split"
        )
    if not path.name.endswith(SUFFIXES):
        raise DatasetError(f"{path} has an unknown format: {FORMATS_READ}")
    entities, relations = _Vocabulary(), _Vocabulary()
    triple_T3 = _tensor(_read_file(path, entities, relations))
    return Splits(entities.names(), relations.names(), *draw_split(triple_T3, held_out, seed))


def read_triples(path: Path, entities: Iterable[str], relations: Iterable[str]) -> Tensor:
    """Read a file whose names are all known; int64 of shape (T, 3), without repeated triples.

    Raises:
        DatasetError: an unknown name or a malformed line.
    """
    entity_id, relation_id = ({name: i for i, name in enumerate(n)} for n in (entities, relations))
    triples: dict[Triple, None] = {}
    for number, names in numbered_triples(path):
        head, relation, tail = (name.decode(errors="replace") for name in names)
        try:
            triple = (
                resolve("entity", entity_id, head),
                resolve("relation", relation_id, relation),
                resolve("entity", entity_id, tail),
            )
        except UnknownNameError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        triples[triple] = None
    if not triples:
        raise DatasetError(f"{path} has no triples")
    return _tensor(triples)


def _tensor(triples: Iterable[Triple]) -> Tensor:
    return torch.from_numpy(np.array(list(triples), np.int64))


class _Vocabulary(dict[bytes, int]):
    """Ids of names, assigned on first use."""

    def __missing__(self, name: bytes) -> int:
        if not name.strip():
            raise ValueError("empty field")
        if b"\0" in name:
            raise ValueError("NUL byte: not UTF-8 text, convert the file (it may be UTF-16)")
        try:
            name.decode()
        except UnicodeDecodeError:
            raise ValueError("not UTF-8: convert the file") from None
        self[name] = len(self)
        return self[name]

    def names(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in self)

    def truncate(self, length: int) -> None:
        while len(self) > length:
            self.popitem()


def _find(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: give the folder with train.txt")
    found = [file for suffix in SUFFIXES if (file := folder / (split + suffix)).is_file()]
    if not found:
        raise DatasetError(
            f"{folder} has no {split}.txt or {split}.tsv (.nt, .gz and .zst are read too)"
        )
    if len(found) > 1:
        raise DatasetError(f"{folder} has both {found[0].name} and {found[1].name}: remove one")
    return found[0]


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _read_file(
    path: Path,
    entities: _Vocabulary,
    relations: _Vocabulary,
    unseen: Unseen = "keep",
    trained: tuple[int, int] = (0, 0),
) -> dict[Triple, None]:
    """Distinct triples in order; ``trained`` are the numbers of entities and relations in train."""
    triples: dict[Triple, None] = {}
    count = dropped = 0
    for number, names in numbered_triples(path):
        count += 1
        try:
            triple = (entities[names[0]], relations[names[1]], entities[names[2]])
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        if unseen != "keep" and (new := _first_new(triple, trained)) is not None:
            if unseen == "error":
                raise DatasetError(
                    f"{path}:{number}: {('head', 'relation', 'tail')[new]} "
                    f"{names[new].decode()!r} does not occur in train: "
                    "fix it, or set dataset.unseen to keep or drop"
                )
            dropped += 1
            continue
        triples[triple] = None
    if dropped:
        log.warning("%s: dropped %d triples with names that do not occur in train", path, dropped)
    if not triples:
        raise DatasetError(f"{path} has no triples{' left' if dropped else ''}")
    if repeated := count - dropped - len(triples):
        log.warning("%s: %d repeated triples count once", path, repeated)
    return triples


def _first_new(triple: Triple, trained: tuple[int, int]) -> int | None:
    """Position of the triple's first id that does not occur in train, if any."""
    bounds = (trained[0], trained[1], trained[0])
    return next((at for at in range(3) if triple[at] >= bounds[at]), None)
