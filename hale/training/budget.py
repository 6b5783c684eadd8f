"""The budget of a run: seconds on the training clock, or optimizer steps."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from hale.errors import HaleError, require
from hale.training.clock import TrainingClock
from hale.training.module import is_written

ENOUGH_EPOCHS, ENOUGH_STEPS = 5, 50
"""With fewer a model may be no better than popularity. On WN18RR, FB15k-237, CoDEx-S and the family
graph it is not in 2 epochs, and is in 4 (MuRE, 32 dimensions; FB15k-237: .227 and .269 to .233)."""
PLENTY_EPOCHS = 50
"""In fewer a graph may still be learned slowly: Gene Ontology's MRR is .004 after 7 and .34 after
55 (RotL, 32 dimensions)."""
NEVER = sys.maxsize
"""So many batches lie between two validations until one is due."""
WANTED = 2
"""So many times these are advised: in 8 epochs WN18RR has nearly half its MRR, CoDEx-S more."""


class WallClockBudget(pl.Callback):
    """Stops training when the budget is spent; its share spent is what schedules follow.

    Exactly one of ``seconds`` and ``steps`` is given. With ``steps`` a run is exactly reproducible
    on CPU; with ``seconds`` it stops within one step of them (``SYNC_STEPS`` on CUDA). Both
    callbacks, the budget and its ``clock``, belong in the trainer, the clock first.

    Args:
        seconds: of the training clock.
        steps: optimizer steps.
        spent: the part of the budget that a search before training has spent.
        clock: a monotonic clock in seconds.

    Raises:
        HaleError: the budget is missing, given twice, or not above what is spent of it.
    """

    def __init__(
        self,
        seconds: float | None = None,
        steps: int | None = None,
        spent: float = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if (seconds is None) == (steps is None):
            raise HaleError(
                "give exactly one of budget.seconds and budget.steps and set the other to null, "
                f"got seconds={seconds} and steps={steps}"
            )
        if seconds is not None:
            require("seconds", seconds, above=spent)
        if steps is not None:
            require("steps", steps, above=spent)
        self.seconds = seconds
        self.steps = steps
        self.spent = spent
        self.clock = TrainingClock(clock)
        self._stopped = False
        if seconds is not None:
            self.clock.train_seconds = float(spent)

    @property
    def progress(self) -> float:
        """The share spent of what the search left, at least 0; 1 and more is all of it."""
        return self._share(self.clock.now())

    @property
    def progress_read(self) -> float:
        """The progress at the last reading of the clock, from which decisions follow."""
        return self._share(self.clock.train_seconds)

    def _share(self, seconds: float) -> float:
        if self.steps is not None:
            return self.clock.steps_done / (self.steps - self.spent)
        assert self.seconds is not None
        return (seconds - self.spent) / (self.seconds - self.spent)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep whether training is over: early stopping ends it before the budget does."""
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it from the checkpoint."""
        self._stopped = checkpoint["should_stop"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where a resumed run has spent all, or had stopped."""
        if self.progress >= 1 or self._stopped:
            trainer.should_stop = True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop when the budget is spent; log it with the training losses."""
        if not self.clock.stepped:
            return
        if self.steps is not None and self.clock.steps_done >= self.steps - self.spent:
            self.clock.read(pl_module.device)
            trainer.should_stop = True
        elif self.seconds is not None and self.clock.train_seconds >= self.seconds:
            trainer.should_stop = True
        if is_written(trainer, trainer.global_step):
            pl_module.log("train_seconds", self.clock.train_seconds, batch_size=1)
            pl_module.log("budget_share", min(self.progress, 1.0), batch_size=1)


class Cadence(pl.Callback):
    """Validates at even shares of the budget, the last time at its end: one decision per step.

    Where a step passes several of these shares there is one validation. The trainer needs
    ``val_check_interval=NEVER`` and ``check_val_every_n_epoch=None``; the clock and the budget
    come before this callback.

    Args:
        budget: of the run.
        validations: at most so many; at least 1.
    """

    def __init__(self, budget: WallClockBudget, validations: int) -> None:
        self.budget = budget
        self.validations = validations
        self._passed = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out the shares that a resumed run has passed."""
        self._passed = self._shares()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Have the trainer validate after this batch if its step has passed a share."""
        trainer.val_check_batch = NEVER
        if self.budget.clock.stepped and (passed := self._shares()) > self._passed:
            trainer.val_check_batch, self._passed = 1, passed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the shares that passed until the clock was stopped."""
        self._passed = self._shares()

    def _shares(self) -> int:
        """How many of the shares the clock's reading has passed, the last at the end alone."""
        progress = self.budget.progress_read
        if progress >= 1:
            return self.validations
        return min(math.floor(self.validations * progress + 1e-9), self.validations - 1)


def enough_steps(steps_per_epoch: int) -> int:
    """With fewer steps a run is too short to learn much."""
    return max(ENOUGH_EPOCHS * steps_per_epoch, ENOUGH_STEPS)


def wanted_steps(steps_per_epoch: int) -> int:
    """Steps that are advised where a run is too short."""
    return WANTED * enough_steps(steps_per_epoch)


def budget_for(setting: str, steps: int, step_seconds: float) -> str:
    """The budget that holds so many steps, rounded up to two digits."""
    amount = steps if setting == "budget.steps" else steps * step_seconds
    unit = 10 ** max(0, math.floor(math.log10(max(amount, 1.0))) - 1)
    return f"{setting}={math.ceil(amount / unit) * unit}"
