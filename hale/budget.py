"""The budget of a run: seconds on the training clock, or steps, and what follows from it.

The clock starts with the first training step and runs through training steps only: validation and
checkpointing stop it, and it goes on from a checkpoint where it was saved. Compilation and
warm-up are done on throw-away steps before it starts and are reported as ``warm_up_seconds``.
On CUDA the device is synchronised before the clock is read, every ``SYNC_STEPS`` steps.
"""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch

from hale.errors import HaleError
from hale.module import LinkPrediction, is_written
from hale.queries import QueryBatch

SYNC_STEPS = 16
"""Steps between two readings of the clock on CUDA, where each reading waits for the device."""


class WallClockBudget(pl.Callback):
    """Stops training when the budget is spent and sets the learning rate by the share spent.

    Exactly one of ``seconds`` and ``steps`` is given. With ``steps`` a run is exactly reproducible
    on CPU; with ``seconds`` it stops within one step of them (``SYNC_STEPS`` on CUDA).
    ``train_seconds`` is logged at every validation and with the training losses.

    Args:
        seconds: of the training clock.
        steps: optimizer steps.
        schedule: factor on the learning rate at a spent share in [0, 1].
        clock: a monotonic clock in seconds.

    Raises:
        HaleError: the budget is missing, doubled, or not above 0.
    """

    warm_up_steps: ClassVar[int] = 2

    def __init__(
        self,
        seconds: float | None = None,
        steps: int | None = None,
        schedule: Callable[[float], float] = lambda progress: 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if (seconds is None) == (steps is None):
            raise HaleError(
                "give exactly one of budget.seconds and budget.steps and set the other to null, "
                f"got seconds={seconds} and steps={steps}"
            )
        for name, value in (("seconds", seconds), ("steps", steps)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise HaleError(f"budget.{name} must be above 0, got {value}")
        self.seconds = seconds
        self.steps = steps
        self.schedule = schedule
        self.clock = clock
        self.train_seconds = 0.0
        self.steps_done = 0
        self.warm_up_seconds = 0.0
        self._since: float | None = None
        self._base_rates: list[float] = []

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, at least 0; 1 and more is all of it."""
        if self.steps is not None:
            return self.steps_done / self.steps
        assert self.seconds is not None
        running = 0.0 if self._since is None else self.clock() - self._since
        return (self.train_seconds + running) / self.seconds

    def state_dict(self) -> dict[str, Any]:
        """What is spent."""
        return {
            "train_seconds": self.train_seconds,
            "steps_done": self.steps_done,
            "warm_up_seconds": self.warm_up_seconds,
            "base_rates": self._base_rates,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was spent."""
        self.train_seconds = state_dict["train_seconds"]
        self.steps_done = state_dict["steps_done"]
        self.warm_up_seconds = state_dict["warm_up_seconds"]
        self._base_rates = state_dict["base_rates"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warm up off the clock; nothing is left to do where a resumed run has spent all."""
        if not self._base_rates:
            self._base_rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        if self.progress >= 1:
            trainer.should_stop = True
            return
        started = self.clock()
        assert isinstance(pl_module, LinkPrediction)
        batch = next(iter(trainer.datamodule.train_dataloader()))  # type: ignore[attr-defined]
        warm_up(pl_module, batch, self.warm_up_steps)
        self.warm_up_seconds += self.clock() - started

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let the clock run and set the learning rate."""
        if self._since is None:
            _wait_for(pl_module.device)
            self._since = self.clock()
        factor = self.schedule(min(self.progress, 1.0))
        for group, rate in zip(trainer.optimizers[0].param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop where the budget is spent."""
        self.steps_done += 1
        if pl_module.device.type != "cuda" or self.steps_done % SYNC_STEPS == 0 or self._at_end():
            _wait_for(pl_module.device)
            self._read()
            if self.progress >= 1:
                trainer.should_stop = True
        if is_written(trainer, trainer.global_step):
            pl_module.log("train_seconds", self.train_seconds, batch_size=1)

    def _at_end(self) -> bool:
        return self.steps is not None and self.steps_done >= self.steps

    def _read(self) -> None:
        """Move what has passed from the running stretch to the total."""
        assert self._since is not None
        now = self.clock()
        self.train_seconds += now - self._since
        self._since = now

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock; the next training step starts it."""
        if self._since is not None:
            _wait_for(pl_module.device)
            self._read()
            self._since = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the validation its place on the training clock."""
        if not trainer.sanity_checking:
            pl_module.log("train_seconds", self.train_seconds)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.on_validation_start(trainer, pl_module)


def warm_up(module: LinkPrediction, batch: QueryBatch, steps: int) -> None:
    """Take throw-away steps on a copy of the model: compilation, caches, allocators.

    Parameters, buffers and the global generator's state are left as they were; the batch's own
    generator must be the caller's to spend.
    """
    model = module.model
    state = torch.get_rng_state()
    module.model = copy.deepcopy(model)
    try:
        for _ in range(steps):
            torch.autograd.backward(module.loss_parts(batch)["loss"])
    finally:
        module.model = model
        torch.set_rng_state(state)
        _wait_for(module.device)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
