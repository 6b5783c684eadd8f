"""Bilinear models, score e^T M_r e': RESCAL, ComplEx, QuatE, and DistMult by dot product."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import require
from hale.models.base import DotProductModel
from hale.models.euclidean import complex_modulus, complex_multiply
from hale.models.regularizers import f2, n3
from hale.scoring.table import lookup


def multiply_grouped(vector_BD: Tensor, matrix_GDX: Tensor, group_B: Tensor) -> Tensor:
    """``vector_b @ matrix_g`` for the group g of each row, ``product_BX``.

    The rows of a group are multiplied together, so no matrix is copied for each row. On CUDA it
    synchronises with the device to learn the groups' sizes.
    """
    order_B = group_B.argsort()
    present_U, count_U = torch.unique_consecutive(group_B[order_B], return_counts=True)
    parts = torch.split(vector_BD.index_select(0, order_B), count_U.tolist())
    matrices = matrix_GDX.index_select(0, present_U).unbind(0)
    product_BX = torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])
    return product_BX.index_select(0, order_B.argsort())


class RESCAL(DotProductModel):
    """Phi(e, r) = e^T M_r with a full matrix for each relation (Nickel et al., ICML 2011).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension of entities; a relation is a D x D matrix.
        f2: weight of the squared Frobenius norms of a batch's factors; at least 0.
        init_std: standard deviation of initial values; 1 / sqrt(2 dim) if not given.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        f2: float = 0.0,
        init_std: float | None = None,
    ) -> None:
        require("f2", f2, at_least=0)
        super().__init__(num_entities, num_relations, dim, init_std)
        self.f2 = f2
        self.relation = self.normal(num_relations, dim * dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        matrix_RDD = self.relation.view(-1, self.dim, self.dim)
        return multiply_grouped(entity_BD, matrix_RDD, relation_B)

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """Squared Frobenius norms of the factors, times their weight; ``penalty_B``."""
        if not self.f2:
            return None
        norm_R1 = torch.linalg.vector_norm(self.relation, dim=1, keepdim=True)
        relation_B1 = lookup(norm_R1, relation_B)
        entity = self.table()
        head_BD, tail_BD = entity.lookup(entity_B), entity.lookup(target_B)
        return self.f2 * f2(head_BD, relation_B1, tail_BD)


class DistMultDot(DotProductModel):
    """Phi(e, r) = e * r, elementwise, compared by dot product (Yang et al., ICLR 2015).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension, counted in real numbers per entity.
        n3: weight of the nuclear 3-norm of a batch's factors (Lacroix et al., ICML 2018); at
            least 0.
        init_std: standard deviation of initial values; 1 / sqrt(2 dim) if not given.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        n3: float = 0.05,
        init_std: float | None = None,
    ) -> None:
        require("n3", n3, at_least=0)
        super().__init__(num_entities, num_relations, dim, init_std)
        self.n3 = n3
        self.relation = self.normal(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return entity_BD * self.factors(relation_B)

    def factors(self, relation_B: Tensor) -> Tensor:
        """The vectors of relations, ``relation_BD``."""
        return lookup(self.relation, relation_B)

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """Nuclear 3-norms of the factors' moduli, times their weight; ``penalty_B``."""
        if not self.n3:
            return None
        relation_BD, entity = self.factors(relation_B), self.table()
        factors = (entity.lookup(entity_B), relation_BD, entity.lookup(target_B))
        return self.n3 * n3(*(self.modulus(factor_BD) for factor_BD in factors))

    def modulus(self, factor_BD: Tensor) -> Tensor:
        """The values whose cubed absolute values N3 sums: for complex factors, their moduli."""
        return factor_BD


class ComplEx(DistMultDot):
    """DistMultDot over complex numbers, with score Re <e, r, conj e'>.

    ``dim`` counts real numbers: D = 32 are 16 complex coordinates.

    Source: Trouillon et al. (ICML 2016), with the regularisation of Lacroix et al. (ICML 2018).
    """

    dim_multiple: ClassVar[int] = 2

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return complex_multiply(entity_BD, self.factors(relation_B))

    def modulus(self, factor_BD: Tensor) -> Tensor:
        return complex_modulus(factor_BD)


class QuatE(DistMultDot):
    """DistMultDot over quaternions, with unit quaternions for relations: a rotation of each four.

    ``dim`` counts real numbers: D = 32 are 8 quaternions (real, i, j, k).

    Source: Zhang et al. (NeurIPS 2019), with the regularisation of Lacroix et al. (ICML 2018) in
    place of L2. Without the type constraints that its authors' .348 on FB15k-237 has.
    """

    dim_multiple: ClassVar[int] = 4

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """The Hamilton product of the entity and the relation."""
        return quaternion_multiply(entity_BD, self.factors(relation_B))

    def factors(self, relation_B: Tensor) -> Tensor:
        """Unit quaternions."""
        relation_BD = super().factors(relation_B)
        return F.normalize(_fours(relation_BD), dim=2).flatten(1)

    def modulus(self, factor_BD: Tensor) -> Tensor:
        """Lengths of the quaternions."""
        length_BH: Tensor = torch.linalg.vector_norm(_fours(factor_BD), dim=2)
        return length_BH


def quaternion_multiply(x_BD: Tensor, y_BD: Tensor) -> Tensor:
    """The Hamilton product of quaternions, four coordinates each (real, i, j, k)."""
    a, b, c, d = _fours(x_BD).unbind(2)
    p, q, r, s = _fours(y_BD).unbind(2)
    product = (
        a * p - b * q - c * r - d * s,
        a * q + b * p + c * s - d * r,
        a * r - b * s + c * p + d * q,
        a * s + b * r - c * q + d * p,
    )
    return torch.stack(product, 2).flatten(1)


def _fours(x_BD: Tensor) -> Tensor:
    return x_BD.view(len(x_BD), x_BD.shape[1] // 4, 4)
