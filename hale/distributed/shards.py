"""The entities of which one of several processes has the rows: a range of ids."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hale.distributed import tensors
from hale.errors import HaleError


@dataclass(frozen=True)
class Shard:
    """Rows ``first`` to ``stop`` of E, one of W parts that are equal but for the last.

    Args:
        num_entities: E.
        rank: number of the process.
        processes: W.

    Raises:
        HaleError: a process would have no entity.
    """

    num_entities: int
    rank: int
    processes: int

    def __post_init__(self) -> None:
        if self.size * (self.processes - 1) >= self.num_entities:
            raise HaleError(
                f"{self.num_entities} entities cannot be sharded over {self.processes} processes, "
                "because some would have none: choose fewer trainer.devices"
            )

    @property
    def size(self) -> int:
        """Rows of each part but the last, which may have fewer."""
        return -(-self.num_entities // self.processes)

    @property
    def first(self) -> int:
        """The first entity."""
        return self.rank * self.size

    @property
    def stop(self) -> int:
        """After the last entity."""
        return min(self.first + self.size, self.num_entities)

    @property
    def entities(self) -> range:
        """Those of this process."""
        return range(self.first, self.stop)

    def __len__(self) -> int:
        """Rows of this process."""
        return self.stop - self.first

    def rows(self, entity_X: Tensor) -> Tensor:
        """The row of each entity in this process's part; -1 if it is in another."""
        is_here_X = (entity_X >= self.first) & (entity_X < self.stop)
        return torch.where(is_here_X, entity_X - self.first, -1)

    def total(self, value_X: Tensor) -> Tensor:
        """The sum over processes, not differentiable; a collective."""
        return value_X if self.processes == 1 else tensors.total(value_X)

    def from_all(self, row_BX: Tensor) -> Tensor:
        """The rows of all processes, ``row_NX``; a collective."""
        if self.processes == 1:
            return row_BX
        return tensors.from_all(row_BX, tensors.counts(len(row_BX), row_BX.device))

    def own_total(self, value_NX: Tensor, count: int) -> Tensor:
        """Of the sum over processes the ``count`` rows of this one, ``value_BX``; a collective."""
        if self.processes == 1:
            return value_NX
        count_W = tensors.counts(count, value_NX.device)
        return tensors.to_owners(value_NX, count_W).sum(0)

    def ask(self, entity_B: Tensor, answer: Callable[..., Tensor], *column_B: Tensor) -> Tensor:
        """What the processes that have these entities answer, ``answer_BX``.

        A collective, differentiable where ``answer`` is. It waits for the device.

        Args:
            entity_B: entity ids.
            answer: from rows of the own part, and the other columns of each, to as many rows.
            column_B: further integers that are sent along.
        """
        if not ((entity_B >= 0) & (entity_B < self.num_entities)).all():
            raise IndexError(f"an entity id is not in [0, {self.num_entities})")
        owner_B = entity_B // self.size
        order_B = owner_B.argsort(stable=True)
        send_W = torch.bincount(owner_B, minlength=self.processes)
        one_W = [1] * self.processes
        receive = tensors.exchange(send_W, one_W, one_W).tolist()
        send = send_W.tolist()
        question_BX = torch.stack((entity_B - owner_B * self.size, *column_B), 1)
        asked_SX = tensors.exchange(question_BX[order_B], send, receive)
        answer_SX = answer(*asked_SX.unbind(1))
        sorted_BX = tensors.exchange(answer_SX, receive, send)
        return torch.empty_like(sorted_BX).index_copy(0, order_B, sorted_BX)
