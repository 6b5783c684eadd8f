"""The progress of a run: a bar on a terminal, a line per validation elsewhere."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hale.training.budget import WallClockBudget

REFRESH_SECONDS = 0.2


class BudgetBar(pl.Callback):
    """Shows the share of the budget that is spent, the step, the loss and the last valid/mrr.

    Args:
        budget: of the run.
        console: where to print.
    """

    def __init__(self, budget: WallClockBudget, console: Console) -> None:
        self.budget = budget
        self.console = console
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
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
        if not self.progress.disable and now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._draw(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line where there is no bar."""
        if self.progress.disable and not trainer.sanity_checking:
            share = min(self.budget.progress, 1.0)
            line = f"{share:4.0%} of the budget, {self._note(trainer)}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the bar."""
        self._draw(trainer)
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def _draw(self, trainer: pl.Trainer) -> None:
        share = min(self.budget.progress, 1.0)
        self.progress.update(self._task, completed=share, note=self._note(trainer))

    def _note(self, trainer: pl.Trainer) -> str:
        """Step, seconds, loss and the last valid/mrr."""
        shown = [f"step {trainer.global_step}", f"{self.budget.clock.now():.0f} s"]
        for name in ("train/loss", "valid/mrr"):
            if name in trainer.callback_metrics:
                value = float(trainer.callback_metrics[name])
                shown.append(f"{name.removeprefix('train/')} {value:.4f}")
        return ", ".join(shown)
