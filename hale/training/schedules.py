"""Learning-rate schedules: the factor on the optimizer's rate at a spent share of the budget.

``progress`` is in [0, 1], of seconds or of steps, whichever the budget is in.
"""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from hale.training.budget import WallClockBudget
from hale.training.module import is_written


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def linear(progress: float, floor: float = 0.02) -> float:
    """From 1 down to ``floor`` along a line."""
    return max(floor, 1.0 - progress)


def cosine(progress: float, floor: float = 0.0) -> float:
    """From 1 down to ``floor`` along half a cosine."""
    return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2


class BudgetSchedule(pl.Callback):
    """Sets the learning rate of every parameter group by the share of the budget that is spent.

    ``lr``, the first group's, is logged with the training losses.

    Args:
        budget: of the run.
        schedule: factor on the learning rate at a spent share in [0, 1].
    """

    def __init__(self, budget: WallClockBudget, schedule: Callable[[float], float]) -> None:
        self.budget = budget
        self.schedule = schedule
        self._base_lrs: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """The learning rates that the factor multiplies."""
        return {"base_lrs": self._base_lrs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them from the checkpoint."""
        self._base_lrs = state_dict["base_lrs"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the optimizer's own learning rates."""
        if not self._base_lrs:
            self._base_lrs = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rates of this step."""
        factor = self.schedule(min(self.budget.progress, 1.0))
        for group, lr in zip(trainer.optimizers[0].param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * factor

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the learning rate of this step."""
        if is_written(trainer, trainer.global_step):
            pl_module.log("lr", trainer.optimizers[0].param_groups[0]["lr"], batch_size=1)
