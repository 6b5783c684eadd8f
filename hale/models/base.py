"""What every model is: entity vectors, a query vector, and a comparator between the two."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.activations import Activation
from hale.comparators import Comparator, SquaredEuclidean
from hale.lookup import Table, rows
from hale.scores import ScoreMatrix

SOFTPLUS_ONE = 0.5413248546129181
"""softplus(SOFTPLUS_ONE) = 1: where positive parameters start."""


class QueryModel(nn.Module, ABC):
    """Embeds a query (entity, relation) as a vector that its comparator holds against entities.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, real numbers per entity.
        relation_scale: train one positive scalar c_r per relation that multiplies the distance
            (Eq. 8; "RelRatio" in table 5). A number above 0 is its pace, what its steps count
            against those of the vectors (True is 1); without it the scale is 1.
        init_std: standard deviation of initial vectors; 1 / sqrt(2 dim) if not given, so that the
            squared distance of two entities is about 1.
    """

    comparator: ClassVar[Comparator] = SquaredEuclidean()
    initial_norm_sq: ClassVar[float] = 0.5
    """Expected squared norm of initial vectors."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"model.dim must be at least 1, got {dim}")
        if init_std is not None and not 0 < init_std < float("inf"):
            raise ValueError(f"model.init_std must be a finite number above 0, got {init_std}")
        if not 0 <= relation_scale < float("inf"):
            raise ValueError(
                "model.relation_scale must be true, false or a finite number above 0, "
                f"got {relation_scale}"
            )
        self.dim = dim
        self.init_std = (self.initial_norm_sq / dim) ** 0.5 if init_std is None else init_std
        self.num_relations = num_relations
        self.entity = self.normal(num_entities, dim)
        self.relation_scale = relation_scale
        self.raw_scale = (
            nn.Parameter(torch.full((num_relations,), SOFTPLUS_ONE)) if relation_scale else None
        )

    @property
    def num_entities(self) -> int:
        """E."""
        return self.entity.shape[0]

    def candidates(self, entity: Table) -> Table:
        """The vectors that queries are compared with: those of the entities."""
        return entity

    def scale(self, relation_B: Tensor) -> Tensor:
        """The comparator's positive scale of each query, ``scale_B``."""
        if self.raw_scale is None:
            return self.entity.new_ones(relation_B.shape)
        moved_R = self.relation_scale * (self.raw_scale - SOFTPLUS_ONE)
        return rows(F.softplus(SOFTPLUS_ONE + moved_R)[:, None], relation_B).squeeze(1)

    @abstractmethod
    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """The query vectors Phi(e, r) of entity vectors and relation ids, ``query_BD``."""

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """The weighted regularisation of a batch's triples, a scalar added to the loss, if any."""
        return None

    def scores(self, entity_B: Tensor, relation_B: Tensor, activation: Activation) -> ScoreMatrix:
        """The scores of queries against all entities."""
        entity = Table(self.entity)
        query_BD = self.query(entity.rows(entity_B), relation_B)
        return ScoreMatrix(
            query_BD, self.scale(relation_B), self.candidates(entity), self.comparator, activation
        )

    def normal(self, rows: int, columns: int) -> nn.Parameter:
        """A (rows, columns) parameter drawn with the model's ``init_std``."""
        return nn.Parameter(torch.randn(rows, columns) * self.init_std)


def random_angles(rows: int, columns: int) -> nn.Parameter:
    """A (rows, columns) parameter of angles, uniform over the circle, in radians."""
    return nn.Parameter((torch.rand(rows, columns) * 2 - 1) * torch.pi)


def random_signs(rows: int, columns: int) -> nn.Parameter:
    """A (rows, columns) parameter of factors near 1 or -1 at random, which make a reflection."""
    sign = torch.randn(rows, columns).sign()
    return nn.Parameter(sign + 0.1 * torch.randn(rows, columns))


def require_even(dim: int, model: str) -> None:
    """Raise ValueError unless ``dim`` splits into planes."""
    if dim % 2:
        raise ValueError(
            f"model.dim must be even for {model}, whose coordinates come in pairs, got {dim}"
        )


def require_weight(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least 0."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"model.{name} must be a finite number of at least 0, got {value}")
