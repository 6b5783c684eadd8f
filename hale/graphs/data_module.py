"""The LightningDataModule: queries of a graph and their known answers, in batches."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from hale.distributed.shards import Shard
from hale.errors import require_whole
from hale.graphs.batches import QueryBatch
from hale.graphs.indexed import on_device, sample_queries, scaled_weights
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.loaders import RankingLoader, TrainLoader


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
        self._device: torch.device | None = None

    @property
    def num_entities(self) -> int:
        """E."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """2R: the relations of queries, reciprocal ones included."""
        return 2 * self.graph.num_relations

    @property
    def train_triple_T3(self) -> Tensor:
        """Training triples, on the device."""
        return self.graph.train.to(self._device)

    def setup(self, stage: str | None = None) -> None:
        """Put indices on the device, unless they are there already."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device != self._device:
            self._device, self._weight_T = device, scaled_weights(self.graph.weight)
            answers = None if self.shard is None else self.shard.entities
            self.train_answers, self.all_answers = on_device(self.graph, device, answers)

    def train_dataloader(self) -> TrainLoader:
        """Shuffled training queries."""
        return TrainLoader(
            self.graph.train, self.train_answers, self.batch_size, self.seed,
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
        triple_T3, relations = self.graph.splits[split], self.graph.num_relations
        query_T3 = sample_queries(reciprocal(triple_T3, relations), count)
        return RankingLoader(
            query_T3, self.all_answers, self.ranking_batch_size, *self._process(), self.shard
        )

    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        if self.shard is not None:
            return self.shard.rank, self.shard.processes
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
