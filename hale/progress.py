"""The progress bar of a run: budget used, loss parts, last valid/mrr. Silent off a terminal."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hale.budget import WallClockBudget

REFRESH_SECONDS = 0.2


class BudgetBar(pl.Callback):
    """Shows the share of the budget that is spent.

    Args:
        budget: the run's clock.
        console: where to draw; nothing is drawn where it is not a terminal.
    """

    def __init__(self, budget: WallClockBudget, console: Console) -> None:
        self.budget = budget
        self.progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}% of the budget"),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._drawn = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        self.progress.start()
        self._task = self.progress.add_task("", total=1.0, note="")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Redraw a few times a second."""
        now = time.monotonic()
        if self.progress.disable or now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        shown = {
            name.removeprefix("train/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name == "valid/mrr" or (name.startswith("train/") and name != "train/loss")
        }
        note = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
        self.progress.update(self._task, completed=self.budget.progress, note=note)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the bar."""
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.progress.stop()
