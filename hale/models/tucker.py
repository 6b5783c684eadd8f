"""TuckER (Balazevic et al., EMNLP 2019)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from hale.comparators import Comparator, NegativeDot
from hale.lookup import rows
from hale.models.base import QueryModel
from hale.models.bilinear import multiply_grouped


class TuckER(QueryModel):
    """Phi(e, r) = W x_1 e x_2 r with one core tensor W, batch norm and dropout between the steps.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, real numbers per entity.
        relation_dim: real numbers per relation; ``dim`` if not given.
        input_dropout: share of the entity's coordinates dropped.
        matrix_dropout: share of the entries of a relation's matrix ``W x_2 r`` dropped; all
            queries of the relation in a batch have the same matrix, which is contracted once.
        query_dropout: share of the query's coordinates dropped.
        init_std: standard deviation of initial vectors; 1 / sqrt(2 dim) if not given. The core
            starts uniform on [-1, 1].
    """

    comparator: ClassVar[Comparator] = NegativeDot()

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_dim: int | None = None,
        input_dropout: float = 0.2,
        matrix_dropout: float = 0.2,
        query_dropout: float = 0.3,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, False, init_std)
        relation_dim = dim if relation_dim is None else relation_dim
        if relation_dim < 1:
            raise ValueError(f"model.relation_dim must be at least 1, got {relation_dim}")
        self.relation = self.normal(num_relations, relation_dim)
        self.core = nn.Parameter(torch.rand(relation_dim, dim * dim) * 2 - 1)
        self.input_norm, self.query_norm = nn.BatchNorm1d(dim), nn.BatchNorm1d(dim)
        self.input_dropout = nn.Dropout(input_dropout)
        self.matrix_dropout = nn.Dropout(matrix_dropout)
        self.query_dropout = nn.Dropout(query_dropout)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Contract the core with the relation, then with the entity."""
        entity_BD = self.input_dropout(self.input_norm(entity_BD))
        present_U, group_B = torch.unique(relation_B, return_inverse=True)
        matrix_UX = self.matrix_dropout(rows(self.relation, present_U) @ self.core)
        matrix_UDD = matrix_UX.view(-1, self.dim, self.dim)
        product_BD = multiply_grouped(entity_BD, matrix_UDD, group_B)
        query_BD: Tensor = self.query_dropout(self.query_norm(product_BD))
        return query_BD
