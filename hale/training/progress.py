"""The progress of a run: a bar on a terminal and in a notebook, lines elsewhere."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hale.training.budget import WallClockBudget

REFRESH_SECONDS = 0.2
"""Between two drawings of the bar."""
LINE_SECONDS = 30.0
"""Between two lines where there is no bar, if no validation comes between."""


class BudgetBar(pl.Callback):
    """Shows the share of the budget spent, step, loss, last valid/mrr, and the time that is left.

    Args:
        budget: of the run.
        console: where to print.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        budget: WallClockBudget,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.console = console
        self.clock = clock
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not _can_draw(console),
        )
        self._shown = self._started = clock()
        self._share_at_start = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        self.progress.start()
        self._task = self.progress.add_task("", total=1.0, note="")
        self._shown = self._started = self.clock()
        self._share_at_start = self.budget.progress

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Redraw the bar a few times a second, or print a line now and then."""
        every = LINE_SECONDS if self.progress.disable else REFRESH_SECONDS
        if self.clock() - self._shown >= every:
            self._show(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the new metrics."""
        if not trainer.sanity_checking:
            self._show(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the bar."""
        if not self.progress.disable:
            self._show(trainer)
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that the test begins."""
        self.console.print("ranking the test queries ...", highlight=False)

    def _show(self, trainer: pl.Trainer) -> None:
        self._shown = self.clock()
        share, note = min(self.budget.progress, 1.0), self._note(trainer)
        if self.progress.disable:
            line = f"{share:4.0%} of the budget, {note}"
            self.console.print(line, highlight=False, soft_wrap=True)
        else:
            self.progress.update(self._task, completed=share, note=note)

    def _note(self, trainer: pl.Trainer) -> str:
        """Step, seconds of training, loss, the last valid/mrr, and the time that is left."""
        shown = [f"step {trainer.global_step}", f"{self.budget.clock.now():.0f} s"]
        for name in ("train/loss", "valid/mrr"):
            if name in trainer.callback_metrics:
                value = float(trainer.callback_metrics[name])
                shown.append(f"{name.removeprefix('train/')} {value:.4f}")
        spent = self._shown - self._started
        left = seconds_left(self.budget.progress, self._share_at_start, spent)
        return ", ".join(shown if left is None else [*shown, f"{minutes(left)} left"])


def seconds_left(share: float, share_at_start: float, seconds: float) -> float | None:
    """Until the budget is spent, at the pace so far; None at the end, and before a pace is known.

    Args:
        share: of the budget that is spent.
        share_at_start: the same when a resumed run was resumed; 0 of any other.
        seconds: since then, validations included.
    """
    if share >= 1 or share <= share_at_start:
        return None
    return seconds * (1 - share) / (share - share_at_start)


def minutes(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minute, second = divmod(round(seconds), 60)
    hour, minute = divmod(minute, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _can_draw(console: Console) -> bool:
    """Whether a bar can be redrawn; in a notebook that takes ipywidgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal
