"""The convergence curve of a run: one row per validation, on the training clock."""

import csv
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hale.distributed import processes
from hale.runs.files import write_atomically
from hale.runs.record import defined
from hale.training.clock import TrainingClock


class Curve(pl.Callback):
    """Keeps ``step``, ``train_seconds`` and ``valid/*`` of every validation in a CSV file.

    The rows are part of the checkpoint, so a resumed run has one curve; what was done after the
    checkpoint, and is lost, is not on it.

    Args:
        path: of the CSV file, rewritten whole at each validation.
        clock: the run's training clock.
    """

    def __init__(self, path: Path, clock: TrainingClock) -> None:
        self.path = path
        self.clock = clock
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the checkpoint's rows."""
        self.rows = state_dict["rows"]

    def best(self, metric: str) -> dict[str, float]:
        """The first row with the greatest value of ``metric``; an undefined value is the least."""
        return max(self.rows, key=lambda row: -math.inf if math.isnan(row[metric]) else row[metric])

    def at(self, step: int) -> dict[str, float] | None:
        """The row of the validation after ``step`` steps, if there is one."""
        return next((row for row in self.rows if row["step"] == step), None)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows of a resumed run, without what was done after its checkpoint."""
        if self.rows:
            self._write()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row and write the file."""
        if trainer.sanity_checking:
            return
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("valid/")
        }
        self.rows.append(
            {"step": trainer.global_step, "train_seconds": self.clock.train_seconds, **metrics}
        )
        self._write()

    def _write(self) -> None:
        if not processes.is_first():
            return
        with write_atomically(self.path) as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(map(defined, self.rows))  # None is an empty cell
