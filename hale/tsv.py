"""Reading train, valid and test triples from a folder of tab-separated files.

Each split is a ``.txt`` or ``.tsv`` file: UTF-8, one triple a line, head, relation and tail
separated by tabs, no header. Names are taken as they stand, numbers included; a byte order mark
and CRLF line ends are stripped.

Ids are given in the order of first appearance over train, valid and test, so whatever occurs in
train comes before whatever does not. A triple repeated within a split counts once; a triple that
occurs in two splits stays in both; a warning is logged in either case.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from hale.errors import HaleError

SPLITS = ("train", "valid", "test")
SUFFIXES = (".txt", ".tsv")
MAX_LINE_BYTES = 1 << 16
"""A longer line is no triple; the bound keeps a wrong file from filling the memory."""

log = logging.getLogger(__name__)

Unseen = Literal["error", "keep", "drop"]
Triple = tuple[int, int, int]


class DatasetError(HaleError):
    """A dataset that cannot be used; one line says what, where, and how to mend it."""


class Splits(NamedTuple):
    """Names by id, and the triples of each split, int64 of shape (T, 3)."""

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor


def read_splits(folder: Path, unseen: Unseen) -> Splits:
    """Read the three splits in ``folder``; see :meth:`hale.kg.KnowledgeGraph.read`.

    Raises:
        DatasetError: a missing or empty file, or a line that is no triple.
    """
    if unseen not in ("error", "keep", "drop"):
        raise DatasetError(f"dataset.unseen must be error, keep or drop, got {unseen!r}")
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


def read_triples(path: Path, entities: Iterable[str], relations: Iterable[str]) -> Tensor:
    """Read one file whose names are all known; int64 of shape (T, 3).

    Raises:
        DatasetError: a line that is no triple of known names.
    """
    vocabularies = _Vocabulary.of(entities), _Vocabulary.of(relations)
    known = (len(vocabularies[0]), len(vocabularies[1]))
    return _tensor(_read_file(path, *vocabularies, "error", known))


def _tensor(triples: Iterable[Triple]) -> Tensor:
    return torch.from_numpy(np.array(list(triples), np.int64))


class _Vocabulary(dict[bytes, int]):
    """Ids of names, given on first sight."""

    def __missing__(self, name: bytes) -> int:
        if not name.strip():
            raise ValueError("empty field")
        if b"\0" in name:
            raise ValueError("NUL byte: the file is not UTF-8 text")
        try:
            name.decode()
        except UnicodeDecodeError:
            raise ValueError("not UTF-8: convert the file") from None
        self[name] = len(self)
        return self[name]

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        return cls((name.encode(), i) for i, name in enumerate(names))

    def names(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in self)

    def truncate(self, length: int) -> None:
        while len(self) > length:
            self.popitem()


def _find(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: give the one that holds train.txt")
    found = [file for suffix in SUFFIXES if (file := folder / (split + suffix)).is_file()]
    if not found:
        raise DatasetError(f"{folder} has no {split}.txt or {split}.tsv")
    if len(found) > 1:
        raise DatasetError(f"{folder} has both {split}.txt and {split}.tsv: remove one")
    return found[0]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without byte order mark and line end; none is read far beyond the bound."""
    mark = b"\xef\xbb\xbf"
    while line := file.readline(MAX_LINE_BYTES + 8):
        yield line.removeprefix(mark).rstrip(b"\r\n")
        mark = b""


def _read_file(
    path: Path,
    entities: _Vocabulary,
    relations: _Vocabulary,
    unseen: Unseen = "keep",
    trained: tuple[int, int] = (0, 0),
) -> dict[Triple, None]:
    """Distinct triples in order; ``trained`` counts the entities and relations of train."""
    triples: dict[Triple, None] = {}
    number = dropped = 0
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            if len(line) > MAX_LINE_BYTES:
                raise DatasetError(f"{path}:{number}: line is longer than {MAX_LINE_BYTES} bytes")
            fields = line.split(b"\t")
            if len(fields) != 3:
                raise DatasetError(
                    f"{path}:{number}: got {len(fields)} tab-separated fields, "
                    "want 3 (head, relation, tail)"
                )
            try:
                triple = (entities[fields[0]], relations[fields[1]], entities[fields[2]])
            except ValueError as error:
                raise DatasetError(f"{path}:{number}: {error}") from None
            if unseen != "keep" and (new := _first_new(triple, trained)) is not None:
                if unseen == "error":
                    raise DatasetError(
                        f"{path}:{number}: {('head', 'relation', 'tail')[new]} "
                        f"{fields[new].decode()!r} does not occur in train: "
                        "mend it, or set dataset.unseen to keep or drop"
                    )
                dropped += 1
                continue
            triples[triple] = None
    if dropped:
        log.warning("%s: dropped %d triples with names that train lacks", path, dropped)
    if not triples:
        raise DatasetError(f"{path} has no triples{' left' if dropped else ''}")
    if repeated := number - dropped - len(triples):
        log.warning("%s: %d repeated triples count once", path, repeated)
    return triples


def _first_new(triple: Triple, trained: tuple[int, int]) -> int | None:
    """Position of the triple's first id that train lacks."""
    bounds = (trained[0], trained[1], trained[0])
    return next((at for at in range(3) if triple[at] >= bounds[at]), None)
