"""The training clock: seconds spent in training steps, and their number.

The clock starts with the first training step and runs through training steps only: validation and
checkpointing stop it, and a resumed run continues from the checkpoint's reading. On CUDA the device
is synchronised before the clock is read, every ``SYNC_STEPS`` steps. Of several processes the first
reads its clock and tells the others, so all decide the same in the same step.
"""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from hale.distributed import processes

SYNC_STEPS = 16
"""Steps between two readings of the clock on CUDA, where each reading waits for the device."""


class TrainingClock(pl.Callback):
    """Measures ``train_seconds`` and counts ``steps_done``; both are kept in checkpoints.

    A step is one of the optimizer, of one batch or of several whose gradients are accumulated.
    ``stepped`` says whether the last batch completed one. ``train_seconds`` is logged at every
    validation, as the x-axis of curves. ``cpu_seconds`` are those of the process meanwhile, over
    all its threads.

    Args:
        clock: a monotonic clock in seconds.
        cpu_clock: of the process's CPU seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.clock = clock
        self.cpu_clock = cpu_clock
        self.train_seconds = 0.0
        self.cpu_seconds = 0.0
        self.steps_done = 0
        self.stepped = False
        self._since: float | None = None
        self._cpu_since = 0.0

    def now(self) -> float:
        """Seconds up to this moment; of several processes, up to the last reading."""
        if self._since is None or processes.process_count() > 1:
            return self.train_seconds
        running = self.clock() - self._since
        return self.train_seconds + running

    def read(self, device: torch.device) -> None:
        """Wait for the device and bring the seconds up to date."""
        assert self._since is not None
        synchronize(device)
        now, cpu_now = self.clock(), self.cpu_clock()
        self.train_seconds = processes.seconds_of_first(self.train_seconds + now - self._since)
        self.cpu_seconds += cpu_now - self._cpu_since
        self._since, self._cpu_since = now, cpu_now

    def state_dict(self) -> dict[str, Any]:
        """The reading."""
        return {
            "train_seconds": self.train_seconds,
            "cpu_seconds": self.cpu_seconds,
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint's reading."""
        self.train_seconds = state_dict["train_seconds"]
        self.cpu_seconds = state_dict["cpu_seconds"]
        self.steps_done = state_dict["steps_done"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock unless it runs."""
        if self._since is None:
            synchronize(pl_module.device)
            self._since, self._cpu_since = self.clock(), self.cpu_clock()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the steps; read the clock where reading is free, or due."""
        self.stepped = trainer.global_step > self.steps_done
        self.steps_done = trainer.global_step
        due = self.stepped and self.steps_done % SYNC_STEPS == 0
        if pl_module.device.type != "cuda" or due:
            self.read(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock; the next training step starts it."""
        if self._since is not None:
            self.read(pl_module.device)
            self._since = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation's place on the training clock."""
        if not trainer.sanity_checking:
            pl_module.log("train_seconds", self.train_seconds)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.on_validation_start(trainer, pl_module)


def synchronize(device: torch.device) -> None:
    """Wait until a CUDA device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
