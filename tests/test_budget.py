"""The training clock, stopping, schedules, and resuming after an interruption."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from hale.errors import HaleError
from hale.graphs.loaders import QueryDataModule
from hale.training.budget import WallClockBudget
from hale.training.module import LinkPrediction
from hale.training.schedules import constant, cosine, linear
from hale.training.warm_up import warm_up


class Clock:
    """A clock that only its owner moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(pl.Callback):
    """A training step takes 1 s, a validation 100 s, a checkpoint's save 1,000 s."""

    def __init__(self, clock: Clock, fail_at: int | None = None) -> None:
        self.clock = clock
        self.fail_at = fail_at
        self.rates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])
        if len(self.rates) == self.fail_at:
            raise RuntimeError("power cut")
        self.clock.now += 1

    def on_validation_epoch_start(self, trainer, pl_module):
        self.clock.now += 100

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.clock.now += 1000


def curve(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))


def test_stops_when_the_seconds_are_spent_and_counts_training_only(tmp_path, run_training):
    clock = Clock()
    budget = WallClockBudget(seconds=10.5, clock=clock)
    timed = Timed(clock)
    run_training(tmp_path, budget, callbacks=(timed,))
    assert budget.clock.steps_done == len(timed.rates) == 11  # the 11th step crosses 10.5 s
    assert budget.clock.train_seconds == 11
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["train_seconds"] == 11
    assert record["steps"] == 11
    assert clock.now > 2000  # validations and checkpoints took place


def test_learning_rate_follows_the_share_spent(tmp_path, run_training):
    clock = Clock()
    timed = Timed(clock)
    schedule = partial(linear, floor=0.0)
    run_training(tmp_path, WallClockBudget(10, clock=clock), callbacks=(timed,), schedule=schedule)
    assert timed.rates == pytest.approx([0.02 * (1 - k / 10) for k in range(10)])


def test_the_curve_has_a_row_per_validation_and_ends_at_the_end(tmp_path, run_training):
    clock = Clock()
    budget = WallClockBudget(10, clock=clock)
    run_training(tmp_path, budget, callbacks=(Timed(clock),), validations=3)
    rows = curve(tmp_path)
    assert [int(row["step"]) for row in rows] == [4, 7, 10]
    assert [float(row["train_seconds"]) for row in rows] == [4, 7, 10]
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["valid/mrr"] == max(float(row["valid/mrr"]) for row in rows)


def parameters(module: LinkPrediction) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def last_parameters(folder) -> torch.Tensor:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten() for value in state.values()])


@pytest.mark.parametrize("fail_at", [5, 7, 21])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, run_training, fail_at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    falling = partial(run_training, schedule=linear, validations=6)
    falling(whole, WallClockBudget(steps=22), callbacks=(Timed(Clock()),))
    with pytest.raises(RuntimeError, match="power cut"):
        falling(broken, WallClockBudget(steps=22), callbacks=(Timed(Clock(), fail_at),))
    assert not (broken / "result.json").exists()
    resumed = WallClockBudget(steps=22)
    falling(broken, resumed, seed=0)
    assert resumed.clock.steps_done == 22
    assert torch.equal(last_parameters(whole), last_parameters(broken))
    columns = [[(row["step"], row["valid/mrr"]) for row in curve(f)] for f in (whole, broken)]
    assert columns[0] == columns[1]


def test_resumed_seconds_add_up_to_the_budget(tmp_path, run_training):
    clock = Clock()
    with pytest.raises(RuntimeError, match="power cut"):
        run_training(tmp_path, WallClockBudget(10, clock=clock), callbacks=(Timed(clock, 7),))
    resumed = WallClockBudget(10, clock=clock)
    timed = Timed(clock)
    run_training(tmp_path, resumed, callbacks=(timed,))
    assert resumed.clock.train_seconds == 10
    assert len(timed.rates) == 4  # the last checkpoint was made at 6 s


def test_a_spent_budget_trains_no_more(tmp_path, run_training):
    run_training(tmp_path, WallClockBudget(steps=4))
    before = last_parameters(tmp_path)
    (tmp_path / "result.json").unlink()
    budget = WallClockBudget(steps=4)
    run_training(tmp_path, budget)
    assert budget.clock.steps_done == 4
    assert torch.equal(before, last_parameters(tmp_path))
    assert (tmp_path / "result.json").exists()


def test_a_moved_folder_keeps_its_best(tmp_path, run_training):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    run_training(before, WallClockBudget(steps=12))
    record = json.loads((before / "result.json").read_text())
    (before / "result.json").unlink()
    before.rename(after)
    run_training(after, WallClockBudget(steps=12))
    again = json.loads((after / "result.json").read_text())
    assert not before.exists()
    for name in ("valid/mrr", "test/mrr", "best_step", "steps"):
        assert again[name] == record[name]


def test_losses_are_written_every_50_steps_whatever_an_epoch_is(tmp_path, run_training):
    run_training(tmp_path, WallClockBudget(steps=110), validations=1)
    (file,) = tmp_path.glob("csv/*/metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["step"] for row in rows if row["train/loss"]] == ["49", "99"]
    assert [row["step"] for row in rows if row["train_seconds"] and row["train/loss"]] == [
        "49",
        "99",
    ]


def test_the_same_seed_gives_the_same_parameters_and_another_does_not(tmp_path, run_training):
    results = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        run_training(tmp_path / folder, WallClockBudget(steps=9), seed=seed)
        results.append(last_parameters(tmp_path / folder))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_checkpoint_of_other_choices_is_refused(tmp_path, run_training):
    run_training(tmp_path, WallClockBudget(steps=4), seed=0)
    (tmp_path / "result.json").unlink()
    with pytest.raises(HaleError, match="trained with another seed"):
        run_training(tmp_path, WallClockBudget(steps=8), seed=1)


def test_warm_up_changes_nothing(graph, make_module):
    module = make_module()
    data = QueryDataModule(graph, batch_size=32, seed=0)
    data.setup()
    before, state = parameters(module), torch.get_rng_state()
    warm_up(module, next(iter(data.train_dataloader())), 2)
    assert torch.equal(before, parameters(module))
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"seconds": 1, "steps": 1}, {"seconds": 0}, {"seconds": -3.0}, {"steps": 0},
     {"seconds": float("nan")}, {"seconds": float("inf")}],
)  # fmt: skip
def test_senseless_budgets_are_refused(arguments):
    with pytest.raises(HaleError, match=r"(budget|seconds|steps)"):
        WallClockBudget(**arguments)


def test_schedules_start_at_one_and_fall_to_their_floor():
    for schedule, floor in ((constant, 1), (partial(linear, floor=0.1), 0.1), (cosine, 0)):
        assert schedule(0.0) == 1
        assert schedule(1.0) == pytest.approx(floor)
        values = [schedule(k / 10) for k in range(11)]
        assert values == sorted(values, reverse=True)
    assert cosine(0.5) == pytest.approx(0.5)
