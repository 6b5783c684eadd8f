"""Distances of queries and entities for ranking, computed a block at a time.

B  queries     E  entities     D  dimension     C  queries of one block     F  D + 1
"""

import torch
from torch import Tensor

from hale.errors import DivergedError
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.table import ScoreMatrix

BLOCK_BYTES = {"cpu": 6 << 20, "cuda": 256 << 20}
"""Bytes of a block of distances: fits a CPU's cache, or saturates a GPU."""
LEAST_ROWS, TILED_ROWS = 16, 128
"""Rows of a block of all entities at least; if these are too many, rows of a block of some of them,
so that the entities are read less often."""


class Distances:
    """Distances of the queries of a score matrix and its entities, a block at a time.

    Squared Euclidean distances omit the term scale * |q|^2: the order of each row is the same,
    rounding errors are smaller, and a single matrix product remains. A query's own entity, where
    it is excluded, is at the largest finite distance.
    """

    def __init__(self, scores: ScoreMatrix) -> None:
        dtype = torch.promote_types(scores.query_BD.dtype, torch.float32)
        self._query_BD, self._entity_ED = scores.query_BD.to(dtype), scores.entity_ED.to(dtype)
        self._scale_B1 = scores.scale_B.to(dtype)[:, None]
        self._comparator, self._own_B = scores.comparator, scores.own_B
        self._query_sq_B1 = self._query_BD.square().sum(1, keepdim=True)
        self._entity_sq_E = self._entity_ED.square().sum(1)
        self._euclidean = isinstance(scores.comparator, SquaredEuclidean)
        _require_finite(self._scale_B1)  # divided by infinity, a distance would be 0
        if self._euclidean:
            _require_finite(self._scale_B1 * self._query_sq_B1)
            left = (-2 * self._scale_B1 * self._query_BD, self._scale_B1)
            self._left_BF = torch.cat(left, 1)
            self._right_EF = torch.cat((self._entity_ED, self._entity_sq_E[:, None]), 1)
        self._held: tuple[slice, slice] | None = None
        self._out_X, self._block_CE = self.zeros(0), self.zeros(0)

    def zeros(self, count: int) -> Tensor:
        """Distances of 0."""
        return self._query_BD.new_zeros(count)

    def rows_of_all(self, columns: int) -> int:
        """How many rows of a block with so many entities fit, or the least number."""
        return max(LEAST_ROWS, self._block_cells() // columns)

    def block_shape(self, columns: int) -> tuple[int, int]:
        """Rows and entities of a block, if a process has at most so many entities."""
        cells = self._block_cells()
        if cells >= LEAST_ROWS * columns:
            return cells // columns, columns
        return TILED_ROWS, max(1, cells // TILED_ROWS)

    def _block_cells(self) -> int:
        return BLOCK_BYTES[self._query_BD.device.type] // self._query_BD.dtype.itemsize

    def block(self, rows: slice, columns: slice) -> Tensor:
        """A block, ``distance_CE``, which the caller may overwrite before asking for another.

        Raises:
            DivergedError: a distance is NaN or infinite.
        """
        if self._held != (rows, columns):
            self._held, self._block_CE = (rows, columns), self._compute(rows, columns)
            _require_finite(self._block_CE)
            if self._own_B is not None:
                own_C = self._own_B[rows] - columns.start
                row_X = ((own_C >= 0) & (own_C < self._block_CE.shape[1])).nonzero().flatten()
                self._block_CE[row_X, own_C[row_X]] = torch.finfo(self._block_CE.dtype).max
        return self._block_CE

    def _compute(self, rows: slice, columns: slice) -> Tensor:
        if not self._euclidean:
            dot_CE = self._query_BD[rows] @ self._entity_ED[columns].T
            norms = self._query_sq_B1[rows], self._entity_sq_E[columns]
            return self._comparator(dot_CE, *norms, self._scale_B1[rows])
        left_CF, right_EF = self._left_BF[rows], self._right_EF[columns]
        size = len(left_CF) * len(right_EF)
        if len(self._out_X) < size:
            self._out_X = self._query_BD.new_empty(size)
        out_CE = self._out_X[:size].view(len(left_CF), len(right_EF))
        return torch.mm(left_CF, right_EF.T, out=out_CE)


def _require_finite(distance: Tensor) -> None:
    """Raise DivergedError unless all are finite; a finite sum, one cheap pass, is sufficient."""
    if not distance.sum().isfinite() and not distance.isfinite().all():
        raise DivergedError(
            "scores are NaN or infinite and cannot be ranked: training diverged; "
            "lower optimizer.lr, or bound the distance with activation=hanon"
        )
