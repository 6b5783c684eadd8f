"""Batches of queries for training and ranking, sliced from tensors on the device.

There are no worker processes and no collation: an epoch shuffles its queries once, and a batch is
a slice of them.
"""

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from hale.distributed.shards import Shard
from hale.errors import HaleError, require_whole
from hale.graphs.batches import Part, QueryBatch
from hale.graphs.indexed import on_device
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.queries import QueryIndex, sample_queries


class TrainLoader:
    """Yields every training query once per epoch, in an order drawn from (seed, epoch).

    Neither the order nor the negatives of a batch depend on earlier draws, so the state is the
    current epoch and the number of its batches yielded so far: a resumed run sees the batches that
    the interrupted run would have seen.

    With several processes each takes its own rows of every batch; ``batch_size`` counts the rows
    of all processes. Of a last batch with fewer rows than processes some have none.

    Args:
        query_T3: queries (entity, relation) and their answers, on the device.
        answers: index of all training answers, on the same device.
        batch_size: queries per batch.
        seed: of the order and of the negatives.
        rank: index of this process.
        world_size: number of processes.
        weight_T: weight of each query, on the same device; None if all count the same.
        shard: the entities of this process, if each has a part of them.
    """

    def __init__(
        self,
        query_T3: Tensor,
        answers: QueryIndex,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weight_T: Tensor | None = None,
        shard: Shard | None = None,
    ) -> None:
        self._query_3T = query_T3.T.contiguous()
        self._weight_T = weight_T
        self._shard = shard
        self._answers = answers
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._batches = -(-len(query_T3) // batch_size)
        self._epoch = 0
        self._yielded = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._batches

    def __iter__(self) -> Iterator[QueryBatch]:
        """Continue the current epoch where the last iteration stopped, or start the next one.

        Lightning may abandon an iteration and start another, as it does in the first epoch after
        some checkpoints; no batch is skipped or repeated.
        """
        if self._yielded == self._batches:
            self._epoch += 1
            self._yielded = 0
        order = torch.randperm(
            self._query_3T.shape[1], generator=self._generator("cpu", self._epoch)
        )
        order = order.to(self._query_3T.device)
        query_3T = self._query_3T[:, order]
        weight_T = None if self._weight_T is None else self._weight_T[order]
        for batch in range(self._yielded, self._batches):
            self._yielded = batch + 1
            first, last = batch * self._batch_size, (batch + 1) * self._batch_size
            mine = slice(first + self._rank, last, self._world_size)
            entity_B, relation_B, target_B = query_3T[:, mine]
            generator = self._generator(query_3T.device, self._epoch, batch, self._rank)
            weight_B = None if weight_T is None else weight_T[mine]
            part = self._part(min(last, len(order)) - first)
            yield QueryBatch(
                entity_B, relation_B, target_B, self._answers, generator, weight_B, part,
                self._shard,
            )  # fmt: skip

    def _part(self, total: int) -> Part | None:
        return Part(total, self._rank, self._world_size) if self._world_size > 1 else None

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches of it yielded so far, and batches per epoch."""
        return {"epoch": self._epoch, "yielded": self._yielded, "batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from ``state`` at the next iteration.

        Raises:
            HaleError: the state is that of another dataset or batch size.
        """
        if state["batches"] != self._batches:
            raise HaleError(
                f"the checkpoint's epochs have {state['batches']} batches, this run's have "
                f"{self._batches}: resume with the same dataset and batch_size"
            )
        self._epoch, self._yielded = state["epoch"], state["yielded"]

    def _generator(self, device: torch.device | str, *stream: int) -> torch.Generator:
        mixed = np.random.SeedSequence((self._seed, *stream)).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(mixed[0]))


class RankingLoader:
    """Yields queries in their order, with the index of the answers that filtered ranks exclude.

    With several processes each takes every ``world_size``-th query. Those that share the entities
    have equally many batches, of which the last may be empty.

    Args:
        query_T3: queries (entity, relation) and the answers to rank, on the device.
        answers: index of the answers of all splits, on the same device.
        batch_size: queries per batch and process.
        rank: index of this process.
        world_size: number of processes.
        shard: the entities of this process, if each has a part of them.
    """

    def __init__(
        self,
        query_T3: Tensor,
        answers: QueryIndex,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shard: Shard | None = None,
    ) -> None:
        self._query_3T = query_T3[rank::world_size].T.contiguous()
        self._answers = answers
        self._batch_size = batch_size
        self._shard = shard
        of_first = -(-len(query_T3) // world_size)
        self._rows = self._query_3T.shape[1] if shard is None else of_first

    def __len__(self) -> int:
        """Batches."""
        return -(-self._rows // self._batch_size)

    def __iter__(self) -> Iterator[QueryBatch]:
        """Slice the queries into batches."""
        for start in range(0, self._rows, self._batch_size):
            entity_B, relation_B, target_B = self._query_3T[:, start : start + self._batch_size]
            yield QueryBatch(entity_B, relation_B, target_B, self._answers, shard=self._shard)


class QueryDataModule(pl.LightningDataModule):
    """Both directions of every triple as queries, on the trainer's device (without one, the CPU).

    Training batches carry the index of training answers, ranking batches that of all splits.

    Args:
        graph: the knowledge graph.
        batch_size: training queries per step, over all processes; at least 1.
        seed: of the order of training queries and of sampled negatives; at least 0.
        ranking_batch_size: validation and test queries per batch and process; at least 1.
        valid_queries: queries that each validation ranks, the same random ones in every validation
            and run, whatever the seed; all if None or if there are no more; at least 1.
        test_queries: the same of the test.
        shard: the entities of this process, if each has a part of them.

    Raises:
        ArgumentError: a size or the seed is not a whole number in its range.
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        batch_size: int,
        seed: int,
        ranking_batch_size: int = 1024,
        valid_queries: int | None = None,
        test_queries: int | None = None,
        shard: Shard | None = None,
    ) -> None:
        super().__init__()
        sizes = {"batch_size": batch_size, "ranking_batch_size": ranking_batch_size}
        samples = {"valid_queries": valid_queries, "test_queries": test_queries}
        asked = {name: count for name, count in samples.items() if count is not None}
        for name, size in (sizes | asked).items():
            require_whole(name, size, at_least=1)
        require_whole("seed", seed, at_least=0)
        self.graph = graph
        self.batch_size = batch_size
        self.seed = seed
        self.ranking_batch_size = ranking_batch_size
        self.valid_queries = valid_queries
        self.test_queries = test_queries
        self.shard = shard
        self._query_T3: dict[str, Tensor] = {}

    @property
    def num_entities(self) -> int:
        """E."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """2R: the relations of queries, reciprocal ones included."""
        return 2 * self.graph.num_relations

    @property
    def train_query_T3(self) -> Tensor:
        """Training queries (entity, relation) and their answers, on the device."""
        return self._query_T3["train"]

    def setup(self, stage: str | None = None) -> None:
        """Put queries and indices on the device, unless they are there already."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self._query_T3 and self._query_T3["train"].device == device:
            return
        found = on_device(self.graph, device)
        self._query_T3, self._weight_T, self.train_answers, self.all_answers = found

    def train_dataloader(self) -> TrainLoader:
        """Shuffled training queries."""
        return TrainLoader(
            self._query_T3["train"], self.train_answers, self.batch_size, self.seed,
            *self._process(), self._weight_T, self.shard,
        )  # fmt: skip

    def val_dataloader(self) -> RankingLoader:
        """Queries of the valid split, or the sample of them."""
        return self._ranking_loader("valid", self.valid_queries)

    def test_dataloader(self) -> RankingLoader:
        """Queries of the test split, or the sample of them."""
        return self._ranking_loader("test", self.test_queries)

    def transfer_batch_to_device(
        self, batch: QueryBatch, device: torch.device, dataloader_idx: int
    ) -> QueryBatch:
        """Return ``batch`` unchanged: it is on the device already."""
        return batch

    def _ranking_loader(self, split: str, count: int | None) -> RankingLoader:
        query_T3 = sample_queries(self._query_T3[split], count)
        return RankingLoader(
            query_T3, self.all_answers, self.ranking_batch_size, *self._process(), self.shard
        )

    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        if self.shard is not None:
            return self.shard.rank, self.shard.processes
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
