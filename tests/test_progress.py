"""What a run shows while it trains, on a terminal and elsewhere."""

import io
import re

import pytest
import pytorch_lightning as pl
from rich.console import Console

from hale.training import train
from hale.training.budget import WallClockBudget
from hale.training.progress import LINE_SECONDS, BudgetBar, minutes, seconds_left


class Slow(pl.Callback):
    """A training step takes 7 s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.now += 7


@pytest.fixture
def shown(monkeypatch, tmp_path, run_training):
    """What a run of so many steps of 7 s prints, validated twice."""

    def shown(terminal: bool, steps: int) -> list[str]:
        slow, file = Slow(), io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=200)

        def bar(budget: WallClockBudget, _: Console) -> BudgetBar:
            return BudgetBar(budget, console, slow)

        monkeypatch.setattr(train, "BudgetBar", bar)
        run_training(
            tmp_path, WallClockBudget(steps=steps, clock=slow), callbacks=(slow,),
            validations=2, log_every_n_steps=1,
        )  # fmt: skip
        return [line.strip() for line in re.split(r"[\r\n]+", file.getvalue()) if line.strip()]

    return shown


def test_off_a_terminal_there_are_lines_between_validations_and_one_for_the_test(shown):
    """35 s lie between two lines: 5 steps of 7 s are the first to make up 30 s."""
    assert LINE_SECONDS == 30
    *lines, last = shown(terminal=False, steps=16)
    assert [line.split(",")[0] for line in lines] == [
        "31% of the budget", "50% of the budget", "81% of the budget", "100% of the budget",
    ]  # fmt: skip
    assert "step 5, 35 s, loss" in lines[0].replace("  ", " ")
    assert lines[0].endswith(", 1:17 left")  # 11 steps of 7 s
    assert "valid/mrr" not in lines[0]
    assert re.search(r"step 8, 56 s, loss -?\d+\.\d+, valid/mrr 0\.\d+, 0:56 left$", lines[1])
    assert re.search(r"step 16, 112 s, loss -?\d+\.\d+, valid/mrr 0\.\d+$", lines[3])
    assert last == "ranking the test queries ..."


def test_the_bar_on_a_terminal_ends_at_the_end(shown):
    lines = [line for line in shown(terminal=True, steps=13) if "training" in line]
    assert re.search(r"100% step 13, 91 s, loss -?\d+\.\d+, valid/mrr 0\.\d+", lines[-1])
    assert "left" not in lines[-1]


@pytest.mark.parametrize(
    ("share", "at_start", "seconds", "left"),
    [
        (0.25, 0.0, 10.0, 30.0),
        (0.75, 0.5, 10.0, 10.0),
        (1.0, 0.0, 9.0, None),
        (0.5, 0.5, 1.0, None),
    ],
)
def test_the_time_left_follows_from_the_pace_since_the_start(share, at_start, seconds, left):
    assert seconds_left(share, at_start, seconds) == left


def test_times_are_read_as_on_a_clock():
    assert [minutes(s) for s in (6.6, 59.7, 750, 3723)] == ["0:07", "1:00", "12:30", "1:02:03"]
