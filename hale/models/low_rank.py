"""A compound operation and a matrix of low rank for each relation: hale's own model."""

import torch
from torch import Tensor, nn

from hale.errors import require_whole
from hale.models.euclidean import CompoundE

TILE = 16
"""Queries of one relation that are multiplied at once."""
MOST_COLUMNS = 1024
"""Of the factors of a matrix."""
INITIAL_STD = 0.01
"""Of the left factors, so that the matrices start near 0."""


class LowRankE(CompoundE):
    """Phi(e, r) = Rot(r) (e * s) + U_r V_r^T e + r', with U_r and V_r of ``rank`` columns.

    CompoundE (Ge et al., ACL 2023) acts on each plane of coordinates alone; the added matrix lets
    the coordinates of a query depend on all of the entity's. Not in the paper.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension, counted in real numbers per entity.
        rank: of the added matrix, from 1 to 1,024; a relation has ``2 D rank`` more parameters than
            in CompoundE.
        relation_scale: as in :class:`~hale.models.base.DistanceModel`, like all that follow.
        scale_lr_multiplier: learning-rate multiplier of c_r.
        dropout: of the coordinates of a query's entity, in training.
        init_std: standard deviation of initial vectors.

    Raises:
        ArgumentError: an argument out of range.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        rank: int = 4,
        relation_scale: bool = True,
        scale_lr_multiplier: float = 1.0,
        dropout: float = 0.0,
        init_std: float | None = None,
    ) -> None:
        require_whole("rank", rank, at_least=1, at_most=MOST_COLUMNS)
        self.rank = rank
        options = relation_scale, scale_lr_multiplier, dropout, init_std
        super().__init__(num_entities, num_relations, dim, *options)

    def build(self) -> None:
        super().build()
        size = self.num_relations, self.dim * self.rank
        self.left = nn.Parameter(torch.randn(size) * INITIAL_STD)
        self.right = nn.Parameter(torch.randn(size) * self.dim**-0.5)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        right_RDK = self.right.view(-1, self.dim, self.rank)
        left_RKD = self.left.view(-1, self.rank, self.dim)
        low_BD = multiply_tiled(entity_BD, (right_RDK, left_RKD), relation_B)
        return super().query(entity_BD, relation_B) + low_BD


def multiply_tiled(vector_BD: Tensor, factors: tuple[Tensor, ...], group_B: Tensor) -> Tensor:
    """``vector_b @ factor_g @ ...`` for the group g of each row, ``product_BX``.

    Rows of a group are multiplied together, ``TILE`` at a time. The number of tiles follows from
    the shapes, so nothing waits for a CUDA device; some tiles are empty. Each tile has a copy of
    its factors: for large matrices use :func:`hale.models.bilinear.multiply_grouped`.

    Args:
        vector_BD: rows.
        factors: matrices of each group, (G, D, K), (G, K, X) and so on.
        group_B: the group of each row.
    """
    groups = len(factors[0])
    tiles = len(group_B) // TILE + groups
    slot_B, group_T = _tiled(group_B, groups, tiles)
    slots_SD = vector_BD.new_zeros(tiles * TILE, vector_BD.shape[1])
    product_TtX = slots_SD.index_copy(0, slot_B, vector_BD).view(tiles, TILE, -1)
    for factor_GDX in factors:
        product_TtX = torch.bmm(product_TtX, factor_GDX.index_select(0, group_T))
    return product_TtX.flatten(0, 1).index_select(0, slot_B)


def _tiled(group_B: Tensor, groups: int, tiles: int) -> tuple[Tensor, Tensor]:
    """A place for each row among tiles that have one group each, and the tiles' groups."""
    count_G = torch.bincount(group_B, minlength=groups)
    tiles_G = (count_G + TILE - 1) // TILE
    end_G = tiles_G.cumsum(0)
    shift_G = (end_G - tiles_G) * TILE - (count_G.cumsum(0) - count_G)
    order_B = group_B.argsort()
    place_B = torch.arange(len(group_B), device=group_B.device)
    slot_B = torch.empty_like(group_B)
    slot_B[order_B] = place_B + shift_G[group_B[order_B]]
    tile_T = torch.arange(tiles, device=group_B.device)
    return slot_B, torch.searchsorted(end_G, tile_T, right=True).clamp(max=groups - 1)
