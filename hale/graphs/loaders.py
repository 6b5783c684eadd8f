"""Batches of queries for training and ranking, as tensors on the device.

There are no worker processes and no collation: queries are made from the triples many batches at a
time, and a batch is a slice of them.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hale.distributed.shards import Shard
from hale.errors import HaleError
from hale.graphs.batches import Part, QueryBatch
from hale.graphs.ids import least
from hale.graphs.kg import reciprocal_rows
from hale.graphs.queries import QueryIndex

ROWS = 1 << 18
"""So many training queries are made at a time, or one batch if that has more."""


class TrainLoader:
    """Yields every training query once per epoch, in an order drawn from (seed, epoch).

    Queries are both directions of the triples, made for some batches at a time, so that each takes
    the 4 bytes of its place in the order. Neither that nor the negatives of a batch depend on
    earlier draws, so the state is the current epoch and the number of its batches yielded so far:
    a resumed run sees the batches that the interrupted run would have seen.

    With several processes each takes its own rows of every batch; ``batch_size`` counts the rows
    of all processes. Of a last batch with fewer rows than processes some have none.

    Args:
        triple_T3: training triples, on the CPU; not copied.
        answers: index of all training answers, on the device of the batches.
        batch_size: queries per batch.
        seed: of the order and of the negatives.
        rank: index of this process.
        world_size: number of processes.
        weight_T: weight of each triple, on the CPU; None if all count the same.
        shard: the entities of this process, if each has a part of them.
    """

    def __init__(
        self,
        triple_T3: Tensor,
        answers: QueryIndex,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weight_T: Tensor | None = None,
        shard: Shard | None = None,
    ) -> None:
        self._triple_T3 = triple_T3
        self._weight_T = weight_T
        self._shard = shard
        self._answers = answers
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._batches = -(-2 * len(triple_T3) // batch_size)
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
        queries, size, weight_T = 2 * len(self._triple_T3), self._batch_size, self._weight_T
        device, num_relations = self._answers.device, self._answers.num_relations // 2
        draw = self._generator("cpu", self._epoch)
        order_X = torch.randperm(queries, generator=draw, dtype=least(queries))
        step = max(1, ROWS // size)
        for start in range(self._yielded, self._batches, step):
            row_M = order_X[start * size : (start + step) * size]
            query_3M = reciprocal_rows(self._triple_T3, row_M, num_relations).to(device)
            weight_M = None if weight_T is None else weight_T[row_M % len(weight_T)].to(device)
            for batch in range(start, min(start + step, self._batches)):
                self._yielded = batch + 1
                first = (batch - start) * size
                mine = slice(first + self._rank, first + size, self._world_size)
                entity_B, relation_B, target_B = query_3M[:, mine]
                part = Part(min(size, queries - batch * size), self._rank, self._world_size)
                yield QueryBatch(
                    entity_B, relation_B, target_B, self._answers,
                    self._generator(device, self._epoch, batch, self._rank),
                    None if weight_M is None else weight_M[mine],
                    part if self._world_size > 1 else None, self._shard,
                )  # fmt: skip

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
        query_T3: queries (entity, relation) and the answers to rank; moved to the index's device.
        answers: index of the answers of all splits.
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
        self._query_3T = query_T3[rank::world_size].T.contiguous().to(answers.device)
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
