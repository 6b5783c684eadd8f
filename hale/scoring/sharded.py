"""The entity table and the scores of one of several processes, each of which has some entities.

Rows are looked up where they are, and the LogSumExp over all entities is that of the LogSumExps
over the shards: only queries and rows travel, never a negative, whatever the number of entities.
So do Megatron-LM's vocabulary-parallel cross-entropy and BESS (Cattaneo et al., 2022).

    W  processes     B  queries of this process     N  queries of all, in the order of ranks
"""

import torch
from torch import Tensor

from hale.distributed import tensors
from hale.distributed.shards import Shard
from hale.errors import HaleError
from hale.graphs.queries import Known
from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator
from hale.scoring.kernels.operations import chosen_scores
from hale.scoring.table import ScoreMatrix, Table

NO_TERM = -1e30
"""Stands for the LogSumExp of no entity, whose gradient would not be defined."""


class ShardedTable(Table):
    """A table of which this process has the rows of a shard.

    Args:
        tensor: those rows.
        shard: which they are.
    """

    def __init__(self, tensor: Tensor, shard: Shard) -> None:
        super().__init__(tensor)
        self.shard = shard

    def __len__(self) -> int:
        """The rows of all processes."""
        return self.shard.num_entities

    def lookup(self, index: Tensor) -> Tensor:
        """The rows at an index, from the processes that have them; a collective."""
        row_BX = self.shard.ask(index.flatten(), super().lookup)
        return row_BX.view(*index.shape, self.tensor.shape[1])

    def part(self) -> Table:
        """The rows of this process, at the end of the chain."""
        part = Table(self.tensor)
        part._next = self._next
        return part

    def scores(
        self,
        query_BD: Tensor,
        scale_B: Tensor,
        comparator: Comparator,
        activation: Activation,
        own_B: Tensor | None = None,
    ) -> ScoreMatrix:
        """The scores of queries against the rows of all processes."""
        return ShardedScores(query_BD, scale_B, self, comparator, activation, own_B=own_B)


class ShardedScores(ScoreMatrix):
    """Scores of the queries of this process against the entities of all.

    Each method is a collective. ``clusters`` are those of the shard.
    """

    entity: ShardedTable

    @property
    def entity_ED(self) -> Tensor:
        """What no process has.

        Raises:
            HaleError: always.
        """
        raise HaleError(
            "this loss reads the whole entity table, of which each process has a part: train it "
            "with trainer=ddp or on one device, or choose another loss"
        )

    @property
    def columns(self) -> int:
        """The entities of the process that has most."""
        return self.entity.shard.size

    def at(self, entity_BK: Tensor) -> Tensor:
        """Scores of chosen entities, ``score_BK``; differentiable."""
        row_XD = self.entity.lookup(entity_BK.flatten())
        place_BK = torch.arange(len(row_XD), device=row_XD.device).view_as(entity_BK)
        rest = self.comparator, self.activation
        return chosen_scores(self.query_BD, self.scale_B, Table(row_XD), place_BK, *rest)

    def logsumexp(self, known: Known | None = None) -> Tensor:
        """LogSumExp of each row over all entities but its known ones, ``lse_B``.

        Args:
            known: of the queries of all processes, in this shard and as rows of it, as
                :meth:`hale.graphs.batches.QueryBatch.known` returns them.
        """
        count_W, scores = self._everywhere()
        lse_WB = tensors.to_owners(scores.raw_logsumexp(known), count_W).clamp(min=NO_TERM)
        is_empty_B = (lse_WB == NO_TERM).all(0)
        return lse_WB.logsumexp(0).masked_fill(is_empty_B, 0.0)

    def here(self) -> ScoreMatrix:
        """The scores of the queries of all processes against the entities of this one."""
        return self._everywhere()[1]

    def place(self, entity_B: Tensor) -> Tensor:
        """The row of an entity of each of all queries in this process; -1 in another."""
        return self.entity.shard.rows(self.entity.shard.from_all(entity_B))

    def total(self, value_X: Tensor) -> Tensor:
        """The sum over processes."""
        return self.entity.shard.total(value_X)

    def own(self, value_NX: Tensor) -> Tensor:
        """Of the sum over processes the rows for the queries of this one, ``value_BX``."""
        return self.entity.shard.own_total(value_NX, len(self))

    def _everywhere(self) -> tuple[list[int], ScoreMatrix]:
        count_W = tensors.counts(len(self), self.query_BD.device)
        packed_BX = torch.cat((self.query_BD, self.scale_B[:, None]), 1)
        packed_NX = tensors.from_all(packed_BX, count_W)
        own_N = None
        if self.own_B is not None:
            own_N = self.entity.shard.rows(tensors.from_all(self.own_B, count_W))
        here = ScoreMatrix(
            packed_NX[:, :-1].contiguous(), packed_NX[:, -1].contiguous(), self.entity.part(),
            self.comparator, self.activation, self.clusters, own_N,
        )  # fmt: skip
        return count_W, here
