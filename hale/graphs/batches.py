"""Batches of queries with one true answer each, for losses and for ranking."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hale.distributed.shards import Shard
from hale.graphs.queries import Known, QueryIndex


class Part(NamedTuple):
    """The rows of a batch that one of several processes has: ``first``, then every W-th."""

    total: int
    """B, of all processes."""
    first: int
    """The rank of the process."""
    processes: int
    """W."""


@dataclass  # not frozen: Lightning sets fields of a copy where training is not in float32
class QueryBatch:
    """Queries with one true answer each, and the index of all their known answers.

    The known answers are those of train in a training batch, those of all splits in a ranking
    batch. Only training batches have a ``generator``, seeded for each batch, and only those of a
    graph with weights a ``weight_B``, float32 with a mean of 1 over train. Where several processes
    share a batch, each has a ``part`` of its rows; where they also share the entities, each has the
    known answers in its ``shard`` of them.
    """

    entity_B: Tensor
    relation_B: Tensor
    target_B: Tensor
    answers: QueryIndex
    generator: torch.Generator | None = None
    weight_B: Tensor | None = None
    part: Part | None = None
    shard: Shard | None = None

    def __len__(self) -> int:
        """The rows of this process; B if there is no other."""
        return len(self.entity_B)

    @property
    def total(self) -> int:
        """B, the rows of all processes."""
        return len(self) if self.part is None else self.part.total

    def rows(self, count: int) -> int:
        """How many of the batch's first ``count`` rows this process has: its own first ones."""
        if self.part is None:
            return min(count, len(self))
        return max(0, -(-(count - self.part.first) // self.part.processes))

    def known(self, rows: int) -> Known:
        """The known answers of the first ``rows`` queries, including their targets.

        Of a batch with a shard: a collective, those of the queries of all processes that lie in
        the shard, as rows of it.
        """
        query_B2 = torch.stack((self.entity_B[:rows], self.relation_B[:rows]), 1)
        if self.shard is None:
            return self.answers.lookup(*query_B2.unbind(1))
        query_N2 = self.shard.from_all(query_B2)
        row_P, entity_P = self.answers.lookup(*query_N2.unbind(1)).pairs()
        at_P = self.shard.rows(entity_P)
        is_here_P = at_P >= 0
        return Known.of_pairs(row_P[is_here_P], at_P[is_here_P], len(query_N2))

    def known_counts(self) -> Tensor:
        """How many known answers each query has, ``count_B``; a collective if it has a shard."""
        known = self.known(len(self))
        count_N = known.stop_N - known.start_N
        return count_N if self.shard is None else self.shard.own_total(count_N, len(self))

    def mean(self, value_X: Tensor, count: int | None = None) -> Tensor:
        """The mean of values of the batch's first queries, each times its query's weight; a scalar.

        ``value_X`` may have further dimensions, as (X, K), which are averaged too. The product is
        divided by the number of values, not by the sum of the batch's weights: so the loss of a
        batch is an unbiased estimate of that of train, in which the weights have a mean of 1.

        Several processes have different values; the mean of what it returns on each is the mean
        over the rows of all.

        Args:
            value_X: of the first X = ``rows(count)`` queries of this process.
            count: of the batch's first queries, over all processes; all by default.
        """
        if self.weight_B is not None:
            weight_X = self.weight_B[: len(value_X)]
            value_X = value_X * weight_X.view(-1, *[1] * (value_X.dim() - 1))
        if self.part is None:
            return value_X.mean()
        columns = math.prod(value_X.shape[1:])
        everywhere = (self.total if count is None else count) * columns
        return value_X.sum() * (self.part.processes / everywhere)

    def negatives(self, count: int) -> Tensor:
        """``entity_BK`` drawn uniformly from all entities with the batch's generator.

        Raises:
            ValueError: the batch has no generator.
        """
        if self.generator is None:
            raise ValueError("a ranking batch has no negatives: take one from the training loader")
        return torch.randint(
            self.answers.num_entities,
            (len(self), count),
            device=self.entity_B.device,
            generator=self.generator,
        )

    def is_answer(self, candidate_BK: Tensor) -> Tensor:
        """Whether each candidate is a known answer of its query, ``bool_BK``.

        A collective if the batch has a shard.
        """
        if self.shard is None:
            return self.answers.contains(self.entity_B, self.relation_B, candidate_BK)
        shard, columns = self.shard, candidate_BK.shape[1]

        def answer(row_S: Tensor, entity_S: Tensor, relation_S: Tensor) -> Tensor:
            candidate_S1 = row_S[:, None] + shard.first
            return self.answers.contains(entity_S, relation_S, candidate_S1).to(torch.uint8)

        query = (each_B.repeat_interleave(columns) for each_B in (self.entity_B, self.relation_B))
        found_X1 = shard.ask(candidate_BK.flatten(), answer, *query)
        return found_X1.view_as(candidate_BK).bool()
