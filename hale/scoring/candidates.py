"""Which entities a LogSumExp visits: those near a query all, of those far away a sample.

E  entities     C  clusters of TILE entities     N  queries     G  groups of GROUP queries
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hale.errors import ArgumentError

TILE, GROUP = 96, 16
"""Entities of a cluster, queries of a group. The kernels' TILE and GROUP are the same."""


class Candidates(NamedTuple):
    """The weight that each entity has in the sums of each group of queries.

    Entities lie in clusters of ``TILE`` consecutive ones of ``order_E``; queries n and m are in one
    group if ``n // GROUP == m // GROUP``. All entities of a cluster have one weight.
    """

    order_E: Tensor
    """Ids of all entities, int64."""
    place_E: Tensor
    """Where an entity is in ``order_E``, int64."""
    log_weight_GC: Tensor
    """Logarithms, float32: 0 for a cluster that is visited, -inf for one that is not, and
    ``log(1 / p)`` for one that was drawn with probability p."""

    def log_weights(self, rows: slice, count: int) -> Tensor:
        """``log_weight_NE`` of a slice of ``count`` queries, for the reference."""
        start = rows.start or 0
        group_N = torch.arange(start, start + count, device=self.place_E.device) // GROUP
        return self.log_weight_GC[group_N][:, self.place_E // TILE]

    def require_fit(self, queries: int, entities: int) -> None:
        """Raise ArgumentError unless they are of so many queries and entities."""
        shape = (-(-queries // GROUP), -(-entities // TILE))
        if self.log_weight_GC.shape != shape or len(self.order_E) != entities:
            raise ArgumentError(
                f"candidates of {queries} queries and {entities} entities have a weight for "
                f"{shape[0]} groups and {shape[1]} clusters, not {tuple(self.log_weight_GC.shape)}"
            )
