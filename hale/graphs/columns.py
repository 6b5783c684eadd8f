"""Which columns of a table hold head, relation and tail, and which the weight."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hale.errors import ArgumentError, DatasetError
from hale.graphs.names import shown

log = logging.getLogger(__name__)

ENDS = (
    ("head", "tail"), ("h", "t"), ("subject", "object"), ("subj", "obj"), ("s", "o"),
    ("source", "target"), ("src", "dst"), ("from", "to"),
)  # fmt: skip
"""Well-known names of the columns of heads and tails."""
RELATIONS = (
    "relation", "relationship", "rel", "r", "predicate", "pred", "p", "property", "edge", "type",
    "label",
)  # fmt: skip
"""Well-known names of the column of relations."""
EXAMPLE = "dataset.columns=[subject,predicate,object]"
MOST_SHOWN = 12
"""Columns that a message names."""

Column = str | int
"""A column's name, or its position, from 0."""


class Layout(NamedTuple):
    """Where a table has what.

    ``width`` is the number of columns, ``triple`` are the positions of head, relation and tail, and
    ``header`` says whether the first row has names.
    """

    width: int
    triple: tuple[int, int, int]
    weight: int | None
    header: bool


@dataclass(frozen=True)
class Columns:
    """The columns that a user has chosen: ``triple`` those of head, relation and tail.

    Raises:
        ArgumentError: not three different names or positions, or a weight that is neither.
    """

    triple: tuple[Column, ...] | None = None
    weight: Column | None = None

    def __post_init__(self) -> None:
        if self.triple is not None and (
            len(self.triple) != 3 or len(set(self.triple)) < 3 or not all(map(_valid, self.triple))
        ):
            raise ArgumentError(
                "columns must be three different names or positions (from 0), of head, relation "
                f"and tail, as in {EXAMPLE}, got {list(self.triple)}"
            )
        if self.weight is not None and not _valid(self.weight):
            raise ArgumentError(f"weight must be a column's name or position, got {self.weight!r}")

    @property
    def named(self) -> bool:
        """Whether a name is among them."""
        return any(isinstance(column, str) for column in (*(self.triple or ()), self.weight))

    def of_names(self, names: Sequence[str], place: str) -> Layout:
        """The layout of a table whose columns have these names.

        Raises:
            DatasetError: a column is missing or ambiguous, or which ones to take is unclear.
        """
        weight = None if self.weight is None else _position(self.weight, names, place)
        triple = self.triple or well_known(names)
        if triple is None:
            raise DatasetError(
                f"{place}: head, relation and tail are not clear from the columns' names: choose "
                f"by name, as in {EXAMPLE}, or by position, as in dataset.columns=[0,1,2], if they "
                f"are not names; found {_listed(names)}"
            )
        at = [_position(column, names, place) for column in triple]
        return Layout(len(names), (at[0], at[1], at[2]), weight, True)

    def of_first_row(self, fields: Sequence[str], place: str, headed: bool) -> Layout:
        """The layout of a table from its first row, which may or may not be a header.

        Args:
            fields: of the first row.
            place: of the first row.
            headed: whether a header is usual in the format. Where it is, a first row of other names
                is refused unless the columns are chosen.

        Raises:
            DatasetError: as :meth:`of_names`.
        """
        if self.named or well_known(fields) or (headed and self.triple is None):
            layout = self.of_names(fields, place)
            used = [fields[at] for at in layout.triple]
            level = logging.INFO if headed else logging.WARNING
            log.log(level, "%s: a header, columns %s taken", place, _listed(used))
            return layout
        weight, triple = self.weight, self.triple
        assert not isinstance(weight, str)
        if triple is None:
            triple = tuple(i for i in range(4) if i != weight)[:3]
        width = len(fields) if self.triple else 3 + (weight is not None)
        for column in (*triple, *(() if weight is None else (weight,))):
            if int(column) >= width:
                raise DatasetError(f"{place}: no column {column}: it has {width}, counted from 0")
        at = [int(column) for column in triple]
        return Layout(width, (at[0], at[1], at[2]), weight, False)


def well_known(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Positions of head, relation and tail if exactly one set of well-known names is there."""
    lower = [name.strip().lower() for name in names]
    ends = [(lower.index(h), lower.index(t)) for h, t in ENDS if h in lower and t in lower]
    relations = [i for i, name in enumerate(lower) if name in RELATIONS]
    if len(ends) != 1 or len(relations) != 1:
        return None
    return ends[0][0], relations[0], ends[0][1]


def _valid(column: object) -> bool:
    return isinstance(column, str) or (type(column) is int and column >= 0)


def _position(column: Column, names: Sequence[str], place: str) -> int:
    if isinstance(column, int):
        if column < len(names):
            return column
        raise DatasetError(f"{place}: no column {column}: it has {len(names)}, counted from 0")
    found = [i for i, name in enumerate(names) if name == column]
    if len(found) == 1:
        return found[0]
    what = "two columns are called" if found else "no column is called"
    raise DatasetError(f"{place}: {what} '{shown(column)}'; found {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(shown(name) for name in names[:MOST_SHOWN]) + more
