"""Base classes of models: entity vectors, a query vector, and the comparator of the two."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.distributed import tensors
from hale.distributed.shards import Shard
from hale.errors import ArgumentError, require, require_whole
from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator, NegativeDot, SquaredEuclidean
from hale.scoring.sharded import ShardedTable
from hale.scoring.table import ScoreMatrix, Table, lookup

SOFTPLUS_ONE = 0.5413248546129181
"""softplus(SOFTPLUS_ONE) = 1: the raw value at which positive parameters start."""
MULTIPLES = {2: ("even", "pairs"), 4: ("a multiple of 4", "fours")}
"""What ``dim`` must be where coordinates belong together, and how these come."""
DRAWN_AT_ONCE = 1 << 20
"""Numbers of the initial entity table that are drawn at a time where it is sharded."""
_shard: ContextVar[Shard | None] = ContextVar("_shard", default=None)


@contextmanager
def sharded(shard: Shard | None) -> Iterator[None]:
    """Models that are made in the block have the rows of one process in their entity table."""
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)


class QueryModel(nn.Module, ABC):
    """Maps a query (entity, relation) to a vector, which the comparator compares with entities.

    Derive from :class:`DistanceModel` or :class:`DotProductModel`.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension, counted in real numbers per entity.
        init_std: standard deviation of initial vectors; sqrt(initial_norm_sq / dim) if not given.

    Raises:
        ArgumentError: an argument out of range.
    """

    comparator: ClassVar[Comparator]
    initial_norm_sq: ClassVar[float] = 0.5
    """Expected squared norm of initial vectors; 1/2 makes initial squared distances about 1."""
    dim_multiple: ClassVar[int] = 1
    """How many coordinates belong together, of which ``dim`` must be a multiple."""
    dropout: float = 0.0
    """Probability with which a coordinate of a query's entity is 0 in training."""

    def __init__(
        self, num_entities: int, num_relations: int, dim: int, init_std: float | None = None
    ) -> None:
        super().__init__()
        require_whole("dim", dim, at_least=1)
        if dim % self.dim_multiple:
            what, groups = MULTIPLES[self.dim_multiple]
            raise ArgumentError(
                f"dim must be {what} for {type(self).__name__}, whose coordinates come in "
                f"{groups}, got {dim}"
            )
        if init_std is not None:
            require("init_std", init_std, above=0)
        self.dim = dim
        self.init_std = (self.initial_norm_sq / dim) ** 0.5 if init_std is None else init_std
        self.num_relations = num_relations
        self.shard = _shard.get()
        self.entity = (
            self.normal(num_entities, dim)
            if self.shard is None
            else nn.Parameter(initial_rows(self.shard, dim) * self.init_std)
        )
        self.irreflexive_R: Tensor | None
        self.register_buffer("irreflexive_R", None, persistent=False)

    @abstractmethod
    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """The query vectors Phi(e, r) for entity vectors and relation ids, ``query_BD``."""

    @property
    def num_entities(self) -> int:
        """E."""
        return self.entity.shape[0] if self.shard is None else self.shard.num_entities

    def table(self) -> Table:
        """The entity vectors."""
        if self.shard is None:
            return Table(self.entity)
        return ShardedTable(tensors.own_rows(self.entity), self.shard)

    def distribute(self) -> None:
        """Make the entity table known to PyTorch as one of which this process has some rows."""
        if self.shard is not None and not tensors.is_distributed(self.entity):
            shape = torch.Size((self.shard.num_entities, self.dim))
            self.entity = nn.Parameter(tensors.distribute(self.entity.detach(), shape))

    def scale(self, relation_B: Tensor) -> Tensor:
        """The comparator's positive scale for each query, ``scale_B``; 1 unless it is trained."""
        return torch.ones(relation_B.shape, dtype=self.entity.dtype, device=self.entity.device)

    def candidates(self, entity: Table) -> Table:
        """The vectors that queries are compared with: by default the entities'."""
        return entity

    def exclude_own(self, irreflexive_R: Tensor) -> None:
        """Do not compare queries of these relations, bool, with the query's own entity."""
        self.irreflexive_R = irreflexive_R.to(self.entity.device)

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """The regularisation of each triple, ``penalty_B``, if any; the loss adds its mean."""
        return None

    def scores(self, entity_B: Tensor, relation_B: Tensor, activation: Activation) -> ScoreMatrix:
        """The scores of queries against all entities."""
        entity = self.table()
        entity_BD = entity.lookup(entity_B)
        if self.dropout:
            entity_BD = F.dropout(entity_BD, self.dropout, self.training)
        query_BD = self.query(entity_BD, relation_B)
        own_B = None
        if self.irreflexive_R is not None:
            own_B = torch.where(self.irreflexive_R[relation_B], entity_B, -1)
        candidates = self.candidates(entity)
        return candidates.scores(
            query_BD, self.scale(relation_B), self.comparator, activation, own_B
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of ``params`` for the optimizer, each with its ``lr_multiplier``."""
        return [{"params": list(self.parameters()), "lr_multiplier": 1.0}]

    def normal(self, num_rows: int, num_columns: int) -> nn.Parameter:
        """A (num_rows, num_columns) parameter drawn with the model's ``init_std``."""
        return nn.Parameter(torch.randn(num_rows, num_columns) * self.init_std)


class DistanceModel(QueryModel):
    """A model compared by a distance, squared Euclidean by default, times the relation's scale c_r.

    A subclass declares the parameters of its relations in :meth:`build` and combines them with
    entity vectors in :meth:`query`; all subclasses share this constructor.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension, counted in real numbers per entity.
        relation_scale: train one positive scalar c_r per relation that multiplies the distance
            (Eq. 8; "RelRatio" in table 5); otherwise the scale is 1.
        scale_lr_multiplier: learning-rate multiplier of c_r; above 0.
        dropout: probability with which a coordinate of a query's entity is 0 in training; the
            others are divided by 1 - dropout. In [0, 1).
        init_std: standard deviation of initial vectors; sqrt(initial_norm_sq / dim) if not given.

    Raises:
        ArgumentError: an argument out of range.
    """

    comparator: ClassVar[Comparator] = SquaredEuclidean()

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        scale_lr_multiplier: float = 1.0,
        dropout: float = 0.0,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, init_std)
        if not isinstance(relation_scale, bool):
            raise ArgumentError(f"relation_scale must be true or false, got {relation_scale!r}")
        require("scale_lr_multiplier", scale_lr_multiplier, above=0)
        require("dropout", dropout, at_least=0, below=1)
        self.dropout = dropout
        self.scale_lr_multiplier = scale_lr_multiplier
        self.raw_scale = (
            nn.Parameter(torch.full((num_relations,), SOFTPLUS_ONE)) if relation_scale else None
        )
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Declare the parameters of the ``num_relations`` relations, as attributes."""

    def scale(self, relation_B: Tensor) -> Tensor:
        """c_r of each query, ``scale_B``."""
        if self.raw_scale is None:
            return super().scale(relation_B)
        return lookup(F.softplus(self.raw_scale)[:, None], relation_B).squeeze(1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters; those of c_r are a group of their own if their learning rate differs."""
        if self.raw_scale is None or self.scale_lr_multiplier == 1:
            return super().parameter_groups()
        rest = [p for p in self.parameters() if p is not self.raw_scale]
        return [
            {"params": rest, "lr_multiplier": 1.0},
            {"params": [self.raw_scale], "lr_multiplier": self.scale_lr_multiplier},
        ]


class DotProductModel(QueryModel):
    """A model compared by dot product; its relation parameters include a scale, so no c_r."""

    comparator: ClassVar[Comparator] = NegativeDot()


def initial_rows(shard: Shard, dim: int) -> Tensor:
    """The shard's rows of ``torch.randn(E, dim)``, which is never whole in memory.

    Every process draws all numbers, so that the global generators remain equal, and those of one
    process.
    """
    row_SD, whole = torch.empty(len(shard), dim), shard.num_entities * dim
    block = DRAWN_AT_ONCE  # PyTorch draws in groups of 16, and at least 16 numbers
    starts = range(0, max(whole - 16, 1), block)
    flat_X, first = row_SD.view(-1), shard.first * dim
    for start in starts:
        stop = whole if start == starts[-1] else start + block
        drawn_X = torch.randn(stop - start)
        low, high = max(start, first), min(stop, first + len(flat_X))
        if low < high:
            flat_X[low - first : high - first] = drawn_X[low - start : high - start]
    return row_SD


def random_angles(num_rows: int, num_columns: int) -> nn.Parameter:
    """A (num_rows, num_columns) parameter of angles, uniform over the circle, in radians."""
    return nn.Parameter((torch.rand(num_rows, num_columns) * 2 - 1) * torch.pi)


def random_signs(num_rows: int, num_columns: int) -> nn.Parameter:
    """A (num_rows, num_columns) parameter of factors near 1 or -1 at random: reflections."""
    sign = torch.randn(num_rows, num_columns).sign()
    return nn.Parameter(sign + 0.1 * torch.randn(num_rows, num_columns))
