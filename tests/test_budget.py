"""The training clock, stopping, schedules, and resuming after an interruption."""

import csv
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hale
from hale.errors import HaleError
from hale.graphs.data_module import QueryDataModule
from hale.runs.record import read_result
from hale.settings.trainer import DECIDED, require_first_process, require_trainer
from hale.training.budget import NEVER, Cadence, WallClockBudget
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


def validated(budget: WallClockBudget, validations: int, seconds: list[float]) -> list[int]:
    """The steps after which a run of steps of so many seconds would be validated."""
    trainer, module = SimpleNamespace(should_stop=False), SimpleNamespace()
    cadence, clock, found = Cadence(budget, validations), budget.clock, []
    cadence.on_train_start(trainer, module)
    for took in seconds:
        clock.train_seconds, clock.steps_done, clock.stepped = (
            clock.train_seconds + took, clock.steps_done + 1, True
        )  # fmt: skip
        cadence.on_train_batch_end(trainer, module, None, None, 0)
        if trainer.val_check_batch != NEVER:
            assert trainer.val_check_batch == 1
            found.append(clock.steps_done)
            cadence.on_validation_end(trainer, module)
        if budget.progress_read >= 1:
            return found
    return found


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 5), min_size=60, max_size=60), st.integers(1, 40))
def test_validations_are_at_most_so_many_and_the_last_is_at_the_end(seconds, validations):
    total = sum(seconds) / 3
    budget = WallClockBudget(seconds=total)
    steps = validated(budget, validations, seconds)
    assert 1 <= len(steps) <= validations
    assert steps[-1] == budget.clock.steps_done
    spent = [sum(seconds[:step]) for step in steps]
    for count, at in enumerate(spent[:-1], start=1):
        assert at >= count * total / validations - 1e-6


@given(st.integers(1, 200), st.integers(1, 40))
def test_a_budget_in_steps_has_all_its_validations(steps, validations):
    found = validated(WallClockBudget(steps=steps), validations, [1.0] * steps)
    assert len(found) == min(steps, validations)
    assert found == sorted({-(-k * steps // validations) for k in range(1, validations + 1)})


class Compiling(pl.Callback):
    """The run's start takes ten minutes, as of a model that is compiled."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_start(self, trainer, pl_module):
        self.clock.now += 600


def test_a_slow_start_brings_no_validation_forward(tmp_path, run_training):
    clock = Clock()
    callbacks = (Compiling(clock), Timed(clock))
    run_training(tmp_path, WallClockBudget(10, clock=clock), callbacks=callbacks, validations=2)
    assert [int(row["step"]) for row in curve(tmp_path)] == [5, 10]
    record = read_result(tmp_path)
    assert record["train_seconds"] == 10
    assert record["total_seconds"] == 10 + 600 + 2 * 100 + 2 * 1000


def test_seconds_of_a_search_are_of_the_total(tmp_path, run_training):
    clock = Clock()
    budget = WallClockBudget(10, spent=4, clock=clock)
    run_training(tmp_path, budget, callbacks=(Timed(clock),), validations=2)
    record = read_result(tmp_path)
    assert (record["steps"], record["train_seconds"]) == (6, 10)
    assert record["total_seconds"] == 10 + 2 * 100 + 2 * 1000


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        *((name, 5, "cannot be set: ") for name in DECIDED),
        ("fast_dev_run", True, "debug=smoke"), ("fast_dev_run", 3, "debug=smoke"),
        ("barebones", True, "no checkpoint"), ("overfit_batches", 0.1, "few batches"),
        ("enable_checkpointing", False, "needs checkpoints"),
        ("reload_dataloaders_every_n_epochs", 1, "the same order"),
        ("limit_train_batches", 0, "nothing would be trained"),
        ("limit_val_batches", 0.0, "no validation"), ("limit_test_batches", 0, "test=false"),
        ("precision", "bf16-true", "must be one of"),
        ("precision", "16-true", "must be one of"), ("accumulate_grad_batches", 0, "at least 1"),
        ("accumulate_grad_batches", True, "a whole number"),
    ],
)  # fmt: skip
def test_an_option_that_contradicts_the_budget_is_refused_by_name(name, value, why):
    with pytest.raises(HaleError, match=f"^trainer.{name}[ =].*{why}") as refused:
        require_trainer({"accelerator": "cpu", name: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"])
def test_a_process_of_another_rank_is_refused_by_the_variable_that_says_so(rank):
    with pytest.raises(HaleError, match=f"^{rank}=4 in the environment.* unset {rank}, or"):
        require_first_process({"HOME": "/", rank: "4"})
    require_first_process({"HOME": "/", rank: "0"})
    require_first_process({"RANK": "0", "LOCAL_RANK": "1"})  # Lightning reads the first


def test_other_options_are_not_refused():
    require_trainer({
        "_target_": "pytorch_lightning.Trainer", "devices": 1, "fast_dev_run": False,
        "limit_train_batches": 0.5, "limit_val_batches": 1, "overfit_batches": 0.0,
        "enable_checkpointing": True, "accumulate_grad_batches": 4, "precision": 32,
        "gradient_clip_val": None, "deterministic": True, "num_nodes": 1, "devices_": [0],
    })  # fmt: skip


def test_a_refused_option_leaves_no_folder(tmp_path, graph):
    for name, value in (("max_steps", 5), ("limit_val_batches", 0), ("fast_dev_run", True)):
        with pytest.raises(HaleError, match=f"^trainer.{name} cannot be"):
            hale.fit(graph, steps=5, folder=tmp_path / "run", settings={f"+trainer.{name}": value})
    assert not (tmp_path / "run").exists()


def test_without_logging_nothing_is_written_while_training(tmp_path, run_training):
    run_training(tmp_path, WallClockBudget(steps=6), log_every_n_steps=0, validations=2)
    (file,) = tmp_path.glob("csv/**/metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert "train/loss" not in rows[0]
    assert [float(row["valid/mrr"]) for row in curve(tmp_path)] == [
        pytest.approx(float(row["valid/mrr"])) for row in rows if row.get("valid/mrr")
    ]


def test_double_precision_trains_and_is_recorded(tmp_path, graph, run_training):
    """By the reference: the native kernel computes in float32."""
    module = run_training(tmp_path, WallClockBudget(steps=12), precision="64-true", validations=2)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float64}
    assert read_result(tmp_path)["hardware"]["kernel"] == "reference"
    single = tmp_path / "single"
    single.mkdir()
    run_training(single, WallClockBudget(steps=12), validations=2)
    both = [read_result(folder)["valid/mrr"] for folder in (tmp_path, single)]
    assert both[0] == pytest.approx(both[1], abs=0.02)
    loaded = hale.load(tmp_path)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float64}
    assert len(loaded.predict(head="e0", relation="one", k=3)) == 3


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
        assert schedule(1.5) == schedule(1.0)  # a step may end after the budget
        values = [schedule(k / 10) for k in range(11)]
        assert values == sorted(values, reverse=True)
    assert cosine(0.5) == pytest.approx(0.5)
