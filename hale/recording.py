"""The convergence curve of a run: one row per validation, on the training clock."""

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hale.budget import WallClockBudget
from hale.files import write_atomically


class Curve(pl.Callback):
    """Keeps ``step``, ``train_seconds`` and ``valid/*`` of every validation in a CSV file.

    The rows travel in the checkpoint, so a resumed run's curve is one curve: what was done after
    the checkpoint and lost with it is not on it.

    Args:
        path: of the CSV file, rewritten whole at each validation.
        budget: the run's clock.
    """

    def __init__(self, path: Path, budget: WallClockBudget) -> None:
        self.path = path
        self.budget = budget
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the checkpoint's rows."""
        self.rows = state_dict["rows"]

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
            {"step": trainer.global_step, "train_seconds": self.budget.train_seconds, **metrics}
        )
        with write_atomically(self.path) as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
