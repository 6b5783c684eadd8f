"""Which entities a LogSumExp visits: those near a query all, of those far away a sample.

Most of the gradient of HaLE's uniformity comes from a few entities, which lie together. Entities
are therefore clustered, once in a while, and queries that lie together are grouped, in each step.
The sums of a group are over all entities of the clusters near it, and over those of a few others,
drawn at random, which stand for all of these: the expected sum is the sum over all entities.

E  entities     C  clusters of TILE entities     N  queries     G  groups of GROUP queries
D  dimension
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import ArgumentError
from hale.scoring.activations import Activation
from hale.scoring.clusters import TILE, Clusters
from hale.scoring.comparators import Comparator

GROUP = 16
"""Queries of a group, in the kernels too."""
NEAR_WEIGHT = 0.8
"""Share of a group's sums, as estimated, that the near clusters hold, unless these are too many:
see :func:`most_clusters`."""


class Candidates(NamedTuple):
    """The weight that each entity has in the sums of each group of queries.

    Entities lie in clusters of ``TILE`` consecutive ones of ``order_E``; queries n and m are in one
    group if ``n // GROUP == m // GROUP``. All entities of a cluster have one weight.
    """

    order_E: Tensor
    """Ids of all entities, each once, int64."""
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

    def tiles(self) -> float:
        """How many clusters an average query meets."""
        return float((self.log_weight_GC > -math.inf).sum(1).double().mean())

    def require_fit(self, queries: int, entities: int) -> None:
        """Raise ArgumentError unless they are of so many queries and entities."""
        shape = (-(-queries // GROUP), -(-entities // TILE))
        if self.log_weight_GC.shape != shape or len(self.order_E) != entities:
            raise ArgumentError(
                f"candidates of {queries} queries and {entities} entities have a weight for "
                f"{shape[0]} groups and {shape[1]} clusters, not {tuple(self.log_weight_GC.shape)}"
            )


def most_clusters(clusters: int) -> int:
    """How many clusters are near a group at most, and how many others are drawn.

    A tenth up to 40,000 entities; then it grows with the square root of their number.
    """
    return min(-(-clusters // 10), math.ceil(2 * math.sqrt(clusters)))


@torch.no_grad()
def near(
    query_ND: Tensor,
    scale_N: Tensor,
    clusters: Clusters,
    comparator: Comparator,
    activation: Activation,
) -> tuple[Tensor, Candidates]:
    """Group queries that lie together; choose the clusters near each group, and draw some others.

    Near are those that hold ``NEAR_WEIGHT`` of the group's sums, as if all entities of a cluster
    were at its centre, but no more than :func:`most_clusters`. As many of the others are drawn,
    without replacement, by the device's default generator.

    Returns:
        ``order_N``, the queries by group, and the candidates of the queries in this order.
    """
    part_NC, nearest_N = _parts(query_ND, scale_N, clusters, comparator, activation)
    order_N = nearest_N.argsort(stable=True)
    groups, (queries, count) = -(-len(order_N) // GROUP), part_NC.shape
    part_NC = F.pad(part_NC[order_N], (0, 0, 0, groups * GROUP - queries))
    part_GC = part_NC.view(groups, GROUP, count).sum(1)
    most = most_clusters(count)
    part_GK, near_GK = (part_GC / part_GC.sum(1, keepdim=True)).topk(most)
    needed_GK = part_GK.cumsum(1) - part_GK < NEAR_WEIGHT
    log_weight_GC = torch.zeros_like(part_GC).scatter_(1, near_GK, needed_GK.to(part_GC))
    is_near_GC = log_weight_GC > 0
    draw_GC = torch.rand_like(part_GC).masked_fill_(is_near_GC, 2.0)
    draw_GK, drawn_GK = draw_GC.topk(most, largest=False)
    others_G1 = count - is_near_GC.sum(1, keepdim=True)
    chance_G1 = others_G1.clamp(max=most) / others_G1.clamp(min=1)
    weight_GK = torch.where(draw_GK < 1, -chance_G1.log().expand_as(draw_GK), 0.0)
    log_weight_GC.fill_(-math.inf).scatter_(1, drawn_GK, weight_GK)
    log_weight_GC.masked_fill_(is_near_GC, 0.0)
    return order_N, Candidates(clusters.order_E, clusters.place_E, log_weight_GC)


def _parts(
    query_ND: Tensor,
    scale_N: Tensor,
    clusters: Clusters,
    comparator: Comparator,
    activation: Activation,
) -> tuple[Tensor, Tensor]:
    """Parts of the clusters in the sum of each query, ``part_NC``, and its nearest cluster.

    The parts are as if all entities of a cluster were at its centre.
    """
    distance_NC = comparator(
        query_ND @ clusters.centre_CD.T,
        query_ND.square().sum(1, keepdim=True),
        clusters.centre_CD.square().sum(1),
        scale_N[:, None],
    )
    part_NC = (clusters.log_size_C - activation(distance_NC)).softmax(1)
    return part_NC, distance_NC.argmin(1)
