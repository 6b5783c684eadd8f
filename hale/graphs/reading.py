"""Reading your own triples: a folder with train, valid and test, or triples that are split here.

File formats are those of :mod:`hale.graphs.triple_file`. Ids are assigned in the order of first
appearance in train, valid and test, so names that occur in train precede those that do not. A
triple repeated within a split counts once, with the largest of its weights; a triple that occurs in
two splits is kept in both; a warning is logged in either case.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hale.errors import ArgumentError, DatasetError
from hale.graphs.named_triples import (
    KnownNames,
    NamedTriples,
    Vocabulary,
    distinct,
    joined,
    keys,
    to_ids,
    to_weights,
)
from hale.graphs.names import shown
from hale.graphs.splitting import draw
from hale.graphs.triple_file import STDIN, Form, read_blocks, table_form

SPLITS = ("train", "valid", "test")

log = logging.getLogger(__name__)

Unseen = Literal["error", "keep", "drop"]


class Splits(NamedTuple):
    """Names by id, the triples of each split, int64 of shape (T, 3), and the weights of train."""

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    weight: Tensor | None


class _Part(NamedTuple):
    """Distinct triples of shape (T, 3), and their weights if the source has them."""

    triple_T3: npt.NDArray[np.int64]
    weight_T: npt.NDArray[np.float32] | None


def read_splits(files: Mapping[str, Path], unseen: Unseen, form: Form) -> Splits:
    """Read the three splits in files; see :meth:`hale.graphs.kg.KnowledgeGraph.read`.

    Raises:
        ArgumentError: ``unseen`` is not one of its values.
        DatasetError: an empty file, or malformed content.
    """
    blocks = {str(files[split]): read_blocks(files[split], form) for split in SPLITS}
    return number_splits(blocks, unseen)


def number_splits(sources: Mapping[str, Iterable[NamedTriples]], unseen: Unseen) -> Splits:
    """Names and ids of train, valid and test, each given by a name for messages and its triples.

    Raises:
        ArgumentError: ``unseen`` is not one of its values.
        DatasetError: a source without triples, or malformed content.
    """
    require_unseen(unseen)
    vocabularies = Vocabulary(), Vocabulary()
    (first, train_blocks), *others = sources.items()
    train = _collect(train_blocks, first, vocabularies)
    trained = (len(vocabularies[0]), len(vocabularies[1]))
    parts = [train]
    parts += [_collect(blocks, name, vocabularies, unseen, trained) for name, blocks in others]
    if unseen == "drop":
        for vocabulary, length in zip(vocabularies, trained, strict=True):
            vocabulary.truncate(length)
    _warn_of_overlaps(tuple(sources), [part.triple_T3 for part in parts])
    weight = None if train.weight_T is None else torch.from_numpy(train.weight_T)
    entities, relations = map(tuple, vocabularies)
    train_T3, valid_T3, test_T3 = (torch.from_numpy(part.triple_T3) for part in parts)
    return Splits(entities, relations, train_T3, valid_T3, test_T3, weight)


def split_and_number(
    blocks: Iterable[NamedTriples], what: str, held_out: float, seed: int
) -> Splits:
    """Names and ids of triples, and a split of them (:mod:`hale.graphs.splitting`).

    Raises:
        ArgumentError: the share or the seed is out of range.
        DatasetError: malformed content, or too few triples.
    """
    vocabularies = Vocabulary(), Vocabulary()
    part = _collect(blocks, what, vocabularies)
    drawn_T = draw(part.triple_T3, held_out, seed)
    train_T3, valid_T3, test_T3 = (
        torch.from_numpy(part.triple_T3[drawn_T == split]) for split in range(3)
    )
    weight = None if part.weight_T is None else torch.from_numpy(part.weight_T[drawn_T == 0])
    entities, relations = map(tuple, vocabularies)
    return Splits(entities, relations, train_T3, valid_T3, test_T3, weight)


def read_and_split(files: Sequence[Path], held_out: float, seed: int, form: Form) -> Splits:
    """Read files one after the other and split their triples.

    Raises:
        ArgumentError: the share or the seed is out of range.
        DatasetError: one file of three splits, malformed content, or too few triples.
    """
    if files[0].name.split(".")[0] in SPLITS:
        raise DatasetError(
            f"{files[0]} is not a folder: give the folder with train, valid and test, or rename "
            "the file to have it split"
        )
    blocks = chain.from_iterable(read_blocks(file, form) for file in files)
    what = "standard input" if str(files[0]) == STDIN else str(files[0])
    if len(files) > 1:
        what = str(files[0].parent)
        log.info("%s: reading and splitting %s", what, ", ".join(file.name for file in files))
    return split_and_number(blocks, what, held_out, seed)


def read_triples(path: Path, entities: Sequence[str], relations: Sequence[str]) -> Tensor:
    """Read a file whose names are all known; int64 of shape (T, 3), without repeated triples.

    A file whose suffix names no format is TSV.

    Raises:
        DatasetError: an unknown name, or malformed content.
    """
    known = KnownNames("entity", entities), KnownNames("relation", relations)
    chunks = [to_ids(block, *known) for block in read_blocks(path, table_form(path))]
    if not chunks:
        raise DatasetError(f"{path} has no triples")
    return torch.from_numpy(distinct(np.concatenate(chunks, dtype=np.int64), None)[0])


def _collect(
    blocks: Iterable[NamedTriples],
    what: str,
    vocabularies: tuple[Vocabulary, Vocabulary],
    unseen: Unseen = "keep",
    trained: tuple[int, int] = (0, 0),
) -> _Part:
    """Distinct triples in order; ``trained`` are the numbers of entities and relations in train."""
    chunks, weights, dropped = [], [], 0
    for block in blocks:
        id_N3, weight_N = admitted(block, vocabularies, trained, unseen, _unseen)
        dropped += len(block.head) - len(id_N3)
        chunks.append(id_N3)
        weights.append(weight_N)
    if dropped:
        log.warning("%s: dropped %d triples with names that do not occur in train", what, dropped)
    triple_T3, weight_T = joined(chunks, weights)
    if not len(triple_T3):
        raise DatasetError(f"{what} has no triples{' left' if dropped else ''}")
    part = _Part(*distinct(triple_T3, weight_T))
    if repeated := len(triple_T3) - len(part.triple_T3):
        kept = "" if part.weight_T is None else ", each with its largest weight"
        log.warning("%s: %d repeated triples count once%s", what, repeated, kept)
    return part


def require_unseen(unseen: str) -> None:
    """Raise ArgumentError unless it is one of its values."""
    if unseen not in ("error", "keep", "drop"):
        raise ArgumentError(f"unseen must be error, keep or drop, got {unseen!r}")


def admitted(
    block: NamedTriples,
    vocabularies: tuple[Vocabulary, Vocabulary],
    trained: tuple[int, int],
    unseen: Unseen,
    refusal: Callable[[NamedTriples, int, int], str],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Ids of a block's triples, shape (N, 3), and their weights, without those that are dropped.

    Args:
        block: with N triples before any is dropped.
        vocabularies: of entities and relations, which are extended.
        trained: numbers of entities and relations that are not unseen.
        unseen: what to do with a triple that has another one.
        refusal: the message about such a triple, by its row in the block and the name's column.

    Raises:
        DatasetError: malformed content, or a triple that is refused.
    """
    id_N3, weight_N = to_ids(block, *vocabularies), to_weights(block)
    if unseen == "keep":
        return id_N3, weight_N
    new_N3 = id_N3 >= np.array((trained[0], trained[1], trained[0]))
    new_N = new_N3.any(1)
    if unseen == "error" and new_N.any():
        raise DatasetError(refusal(block, *divmod(int(new_N3.argmax()), 3)))
    return id_N3[~new_N], weight_N[~new_N] if len(weight_N) else weight_N


def _unseen(block: NamedTriples, row: int, at: int) -> str:
    return (
        f"{block.place(row)}: {('head', 'relation', 'tail')[at]} '{shown(block.names(row)[at])}' "
        "does not occur in train: fix it, or set dataset.unseen to keep or drop"
    )


def _warn_of_overlaps(names: Sequence[str], splits: Sequence[npt.NDArray[np.int64]]) -> None:
    key_3 = keys([triple_T3.T for triple_T3 in splits])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if shared := int(np.isin(key_3[j], key_3[i]).sum()):
            log.warning("%d triples of %s are also in %s", shared, names[j], names[i])
