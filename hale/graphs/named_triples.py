"""Triples by name, in blocks, as the readers of all formats yield them; and their ids."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hale.errors import DatasetError
from hale.graphs.names import NameIds, UnknownNameError, resolve, shown

Ids = npt.NDArray[np.int64]

MOST = 2**63 - 1
"""The largest int64."""
SPACE = " \t\n\r\v\f"
"""Characters of which a name must not consist alone."""


@dataclass(frozen=True)
class NamedTriples:
    """Consecutive triples of a source: N heads, relations and tails, and N weights if it has them.

    Weights are numbers or their text, unchecked. ``place`` says where the triple at a position is,
    for messages.
    """

    head: Sequence[str]
    relation: Sequence[str]
    tail: Sequence[str]
    weight: Sequence[Any] | None
    place: Callable[[int], str]

    def names(self, position: int) -> tuple[str, str, str]:
        """Head, relation and tail of one triple."""
        return self.head[position], self.relation[position], self.tail[position]


class Vocabulary(dict[str, int]):
    """Ids of names, assigned on first use."""

    def __missing__(self, name: str) -> int:
        if not name.strip(SPACE):
            raise ValueError("empty field")
        if "\0" in name:
            raise ValueError("a name contains a NUL character: remove it")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError("a name contains half a surrogate pair: decode it as UTF-8") from None
        self[name] = len(self)
        return self[name]

    def truncate(self, length: int) -> None:
        """Forget all names but the first ``length``."""
        while len(self) > length:
            self.popitem()


class KnownNames(NameIds):
    """Ids of a graph's names, or of what :func:`hale.graphs.names.resolve` takes for one.

    ``id:7`` is a name as any other here: files have names.
    """

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__((name, i) for i, name in enumerate(names))
        self._kind = kind

    def __missing__(self, name: str) -> int:
        if name.startswith("id:") and not self.alike(name):
            raise UnknownNameError(f"no {self._kind} is named '{shown(name)}'")
        return resolve(self._kind, self, name)


def to_ids(
    block: NamedTriples, entities: Mapping[str, int], relations: Mapping[str, int]
) -> npt.NDArray[np.int32]:
    """Ids of a block, shape (N, 3); heads and tails are looked up in the order of the triples.

    Raises:
        DatasetError: a name that one of the mappings refuses, with its place.
    """
    count = len(block.head)
    id_N3 = np.empty((count, 3), np.int32)
    name_2N = [""] * (2 * count)
    name_2N[0::2], name_2N[1::2] = block.head, block.tail
    try:
        entity_2N = np.fromiter(map(entities.__getitem__, name_2N), np.int32, 2 * count)
        id_N3[:, 1] = np.fromiter(map(relations.__getitem__, block.relation), np.int32, count)
    except ValueError:
        _raise_first(block, entities, relations)
        raise
    id_N3[:, 0], id_N3[:, 2] = entity_2N[0::2], entity_2N[1::2]
    return id_N3


def _raise_first(
    block: NamedTriples, entities: Mapping[str, int], relations: Mapping[str, int]
) -> None:
    for position in range(len(block.head)):
        head, relation, tail = block.names(position)
        try:
            _ = entities[head], relations[relation], entities[tail]
        except (UnknownNameError, ValueError) as error:
            raise DatasetError(f"{block.place(position)}: {error}") from None


def to_weights(block: NamedTriples) -> npt.NDArray[np.float32]:
    """Weights of a block, shape (N,).

    Raises:
        DatasetError: a weight that is missing or not a finite number of at least 0, with its place.
    """
    given = block.weight if block.weight is not None else ()
    with np.errstate(over="ignore"):
        try:
            weight_N = np.fromiter(map(float, given), np.float64, len(given)).astype(np.float32)
        except (TypeError, ValueError):
            weight_N = np.array([_number(value) for value in given], np.float32)
    wrong_N = ~(np.isfinite(weight_N) & (weight_N >= 0))
    if wrong_N.any():
        position = int(wrong_N.argmax())
        raise DatasetError(
            f"{block.place(position)}: weight must be a finite number of at least 0, "
            f"got {given[position]!r}"
        )
    return weight_N


def _number(value: Any) -> float:
    """The value as a number; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def joined(
    ids: Sequence[npt.NDArray[np.int32]], weights: Sequence[npt.NDArray[np.float32]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
    """Triples of blocks, shape (T, 3), and their weights, shape (T,); None if no block has any.

    Where some blocks have weights, the triples of the others count once: their weights are 1.

    Args:
        ids: of each block, shape (N, 3).
        weights: of each block, shape (N,), or (0,) if it has none.
    """
    triple_T3 = np.concatenate((np.empty((0, 3), np.int64), *ids), dtype=np.int64)
    if not any(map(len, weights)):
        return triple_T3, None
    filled = [
        weight_N if len(weight_N) else np.ones(len(id_N3), np.float32)
        for id_N3, weight_N in zip(ids, weights, strict=True)
    ]
    return triple_T3, np.concatenate(filled)


def distinct(
    triple_T3: npt.NDArray[np.int64], weight_T: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]:
    """The triples without repetitions, in order, each with the largest of its weights."""
    if not len(triple_T3):
        return triple_T3, weight_T
    (key_T,) = keys([triple_T3.T])
    sorted_T = np.sort(key_T)
    if not (sorted_T[1:] == sorted_T[:-1]).any():
        return triple_T3, weight_T
    order_T = np.argsort(key_T, kind="stable")
    sorted_T = key_T[order_T]
    start = np.flatnonzero(np.concatenate(([True], sorted_T[1:] != sorted_T[:-1])))
    first = order_T[start]
    back = np.argsort(first)
    if weight_T is not None:
        weight_T = np.maximum.reduceat(weight_T[order_T], start)[back]
    return triple_T3[first[back]], weight_T


def keys(parts: Sequence[Iterable[Ids]]) -> list[Ids]:
    """A number for each row of each part, the same for equal rows; each of shape (T,).

    The numbers have the order of the rows. They are made of the ids by multiplication; where that
    would exceed int64, the values that occur are numbered before.

    Args:
        parts: of each the columns, of shape (T,) and at least 0, as ``triple_T3.T``.
    """
    first, *others = (list(columns) for columns in zip(*parts, strict=True))
    found, count = first, _bound(first)
    for columns in others:
        bound = _bound(columns)
        if count * bound > MOST:
            found, count = _numbered(found)
        if count * bound > MOST:
            columns, bound = _numbered(columns)
        found = [key_T * bound + id_T for key_T, id_T in zip(found, columns, strict=True)]
        count *= bound
    return found


def _bound(columns: Iterable[Ids]) -> int:
    return 1 + max((int(id_T.max()) for id_T in columns if len(id_T)), default=0)


def _numbered(columns: Sequence[Ids]) -> tuple[list[Ids], int]:
    """Numbers from 0 of the values, in their order, and how many there are."""
    values, number_X = np.unique(np.concatenate(columns), return_inverse=True)
    return np.split(number_X, np.cumsum([len(id_T) for id_T in columns])[:-1]), len(values)
