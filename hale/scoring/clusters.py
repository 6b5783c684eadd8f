"""Entities in clusters of equal size that lie together, and those of a table that is being trained.

E  entities     C  clusters of TILE entities     D  dimension     S  nodes of a tree of one size
n  entities of each
"""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 96
"""Entities of a cluster, and of a tile in the kernels."""
SAMPLE = 128
"""Entities of a node that decide along which direction it is split."""
CENTRES_EVERY, FIRST_REBUILD = 25, 100
"""Steps between two updates of the centres; steps after which the clusters are first rebuilt, and
then whenever the number of steps has doubled. Both are multiplied by :func:`interval_factor`."""


class Clusters(NamedTuple):
    """All entities in clusters of ``TILE`` that lie together; the last one may be smaller."""

    order_E: Tensor
    """Ids by cluster, int64."""
    place_E: Tensor
    """Where an entity is in ``order_E``, int64."""
    centre_CD: Tensor
    """Mean vectors."""

    @property
    def log_size_C(self) -> Tensor:
        """Logarithms of the numbers of entities."""
        size_C = self.centre_CD.new_full((len(self.centre_CD),), TILE)
        size_C[-1] = len(self.order_E) - TILE * (len(size_C) - 1)
        return size_C.log()


def in_clusters(entity_ED: Tensor) -> Tensor:
    """The ids of all entities so that each ``TILE`` of them lie together, ``order_E``.

    A tree halves the entities, level by level, along the line between the means of the two halves
    that the principal direction of a sample gives (three rounds), into nodes of whole clusters.
    Nodes of one size, of which there are at most three, are consecutive and are halved at once;
    their paths from the root (0 left, 1 right) bring the clusters into the order of the tree, whose
    last one may be smaller.
    """
    order_E = torch.arange(len(entity_ED), device=entity_ED.device)
    dim = entity_ED.shape[1]
    ordered_ED, spare_ED = entity_ED.clone(), torch.empty_like(entity_ED)
    paths = {len(order_E): order_E.new_zeros(1)}
    while max(paths) > TILE:
        halves: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        stop = 0
        for size, path_S in paths.items():
            start, stop = stop, stop + size * len(path_S)
            at_Sn = torch.arange(start, stop, device=order_E.device).view(-1, size)
            if size <= TILE:
                halves[size].append((at_Sn, 2 * path_S))
                continue
            at_Sn = at_Sn.gather(1, _along(ordered_ED[start:stop].view(-1, size, dim)).argsort(1))
            half = -(-size // TILE) // 2 * TILE
            halves[half].append((at_Sn[:, :half], 2 * path_S))
            halves[size - half].append((at_Sn[:, half:], 2 * path_S + 1))
        largest_first = sorted(halves.items(), reverse=True)
        place_E = torch.cat([at_Sn.flatten() for _, parts in largest_first for at_Sn, _ in parts])
        torch.index_select(ordered_ED, 0, place_E, out=spare_ED)
        ordered_ED, spare_ED, order_E = spare_ED, ordered_ED, order_E[place_E]
        paths = {size: torch.cat([path_S for _, path_S in parts]) for size, parts in largest_first}
    if TILE not in paths:  # a single cluster
        return order_E
    whole = TILE * len(paths[TILE])
    order_CT = order_E[:whole].view(-1, TILE)[paths[TILE].argsort()]
    return torch.cat((order_CT.flatten(), order_E[whole:]))


def _along(point_SnD: Tensor) -> Tensor:
    """Where the points of each node lie along the direction that halves it best."""
    sample_SnD = point_SnD[:, :: -(-point_SnD.shape[1] // SAMPLE)]
    return (point_SnD @ _directions(sample_SnD)[:, :, None]).squeeze(2)


def _directions(point_SnD: Tensor) -> Tensor:
    """Along which each set of points is best halved, ``direction_SD``, of any length."""
    point_SnD = point_SnD - point_SnD.mean(1, keepdim=True)
    axis_S = point_SnD.square().sum(1).argmax(1)
    direction_SD = F.one_hot(axis_S, point_SnD.shape[2]).to(point_SnD)
    for _ in range(3):
        along_Sn = torch.einsum("snd,sd->sn", point_SnD, direction_SD)
        direction_SD = F.normalize(torch.einsum("snd,sn->sd", point_SnD, along_Sn), dim=1)
    for _ in range(3):
        along_Sn = torch.einsum("snd,sd->sn", point_SnD, direction_SD)
        side_Sn = torch.where(along_Sn > along_Sn.median(1, keepdim=True).values, 1.0, -1.0)
        direction_SD = torch.einsum("snd,sn->sd", point_SnD, side_Sn.to(point_SnD))
    return direction_SD


def centres(entity_ED: Tensor, order_E: Tensor) -> Tensor:
    """Mean vectors of the clusters, ``centre_CD``."""
    whole = len(order_E) // TILE * TILE
    ordered_ED = entity_ED.index_select(0, order_E)
    centre_CD = ordered_ED[:whole].view(-1, TILE, entity_ED.shape[1]).mean(1)
    if whole < len(order_E):
        centre_CD = torch.cat((centre_CD, ordered_ED[whole:].mean(0, keepdim=True)))
    return centre_CD


def interval_factor(num_entities: int) -> int:
    """How many times as seldom a large table is clustered, which takes 4 µs per entity."""
    return max(1, num_entities // 100_000)


class EntityClusters(nn.Module):
    """The clusters of an entity table that is being trained, or of one process's part of it.

    Args:
        num_entities: E.
        dim: D.
        kept: whether the clusters are kept with checkpoints, or found anew by a resumed run.
    """

    order_E: Tensor
    place_E: Tensor
    centre_CD: Tensor
    steps: Tensor

    def __init__(self, num_entities: int, dim: int, kept: bool = True) -> None:
        super().__init__()
        buffers = {
            "order_E": torch.arange(num_entities),
            "place_E": torch.arange(num_entities),
            "centre_CD": torch.zeros(-(-num_entities // TILE), dim),
            "steps": torch.zeros(2, dtype=torch.int64),  # now, at the next rebuild
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=kept)

    @torch.no_grad()
    def step(self, entity_ED: Tensor) -> Clusters:
        """The clusters for the next step; rebuilt, or with new centres, when it is time to."""
        now, rebuild = self.steps.tolist()
        factor = interval_factor(len(entity_ED))
        if now >= rebuild:
            self.order_E = in_clusters(entity_ED)
            self.place_E = self.order_E.argsort()
            self.steps[1] = max(factor * FIRST_REBUILD, 2 * now)
        if now >= rebuild or now % (factor * CENTRES_EVERY) == 0:
            self.centre_CD = centres(entity_ED, self.order_E)
        self.steps[0] += 1
        return Clusters(self.order_E, self.place_E, self.centre_CD)
