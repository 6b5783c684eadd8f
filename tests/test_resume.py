"""Resuming: one truth in the record, whenever the run was killed and wherever it is resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.callbacks import EarlyStopping

from hale.errors import HaleError
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.data_module import QueryDataModule
from hale.run import reported
from hale.run import resume as resume_run
from hale.runs.record import identity, provenance_of, read_result, require_same_run
from hale.settings.kept import read_settings
from hale.training import checkpoints, curve, train
from hale.training.budget import WallClockBudget
from hale.training.checkpoints import Identity
from hale.training.schedules import linear
from hale.training.segments import moved


class PowerCutError(Exception):
    """The process ends here."""


class Timed(pl.Callback):
    """A clock on which a step takes a second, a validation 100 and a save 1,000.

    From step ``spoil_at`` on, validations are of weights that have been spoiled.
    """

    def __init__(self, step: float = 1.0, spoil_at: int | None = None) -> None:
        self.now = 0.0
        self.step = step
        self.spoil_at = spoil_at

    def __call__(self) -> float:
        return self.now

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.now += self.step

    def on_validation_epoch_start(self, trainer, pl_module):
        self.now += 100
        if self.spoil_at is not None and trainer.global_step >= self.spoil_at:
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    parameter.zero_()  # all scores tie: every rank is the middle one

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.now += 1000


def cut_power_at(monkeypatch, count: int, *places: tuple[object, str]) -> None:
    """Raise at the ``count``-th call of these functions, and at none of a later process."""
    calls = [0]
    for module, name in places:
        whole = getattr(module, name)

        def dying(*args, whole=whole, **kwargs):
            calls[0] += 1
            if calls[0] == count:
                raise PowerCutError
            return whole(*args, **kwargs)

        monkeypatch.setattr(module, name, dying)


def seconds_run(run_training, folder, clock, **more) -> None:
    budget = WallClockBudget(seconds=12, clock=clock)
    run_training(folder, budget, callbacks=(clock,), validations=4, **more)


WRITES = (curve, "write_atomically"), (checkpoints, "write_bytes_atomically")
"""A validation writes curve.csv, the last checkpoint, and the best one where it is the best."""


@pytest.mark.parametrize("killed_at", range(4, 10))
def test_best_weights_and_their_metrics_are_of_one_step(
    tmp_path, graph, run_training, make_module, monkeypatch, killed_at
):
    """The resumed process has other speed and learns nothing, so what was best stays the best."""
    with monkeypatch.context() as patch:
        cut_power_at(patch, killed_at, *WRITES)
        with pytest.raises(PowerCutError):
            seconds_run(run_training, tmp_path, Timed())
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    seconds_run(run_training, tmp_path, Timed(step=0.7, spoil_at=last["global_step"] + 1))
    record, best = read_result(tmp_path), tmp_path / "checkpoints/best.ckpt"
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    values = {int(row["step"]): float(row["valid/mrr"]) for row in rows}
    assert record["best_step"] == torch.load(best, weights_only=True)["global_step"]
    assert record["valid/mrr"] == values[record["best_step"]] == max(values.values())
    assert record["best_step"] <= last["global_step"]
    assert len(rows) <= 4
    module, data = make_module(), QueryDataModule(graph, batch_size=32, seed=0)
    module.load_state_dict(torch.load(best, weights_only=True)["state_dict"])
    data.setup()
    metrics = RankingMetrics(data.num_relations)
    found = evaluate(module.eval(), data.val_dataloader(), metrics)
    assert found["mrr"] == pytest.approx(record["valid/mrr"], abs=1e-6)


def test_the_copy_that_a_killed_run_lacks_is_made_when_it_is_resumed(
    tmp_path, run_training, monkeypatch
):
    """Killed in the copy of the very last validation: nothing is left to train."""
    run_training(tmp_path / "whole", WallClockBudget(steps=12), validations=1)
    with monkeypatch.context() as patch:
        cut_power_at(patch, 2, (checkpoints, "write_bytes_atomically"))
        with pytest.raises(PowerCutError):
            run_training(tmp_path / "killed", WallClockBudget(steps=12), validations=1)
    assert not (tmp_path / "killed/checkpoints/best.ckpt").exists()
    run_training(tmp_path / "killed", WallClockBudget(steps=12), validations=1)
    whole, killed = (read_result(tmp_path / name) for name in ("whole", "killed"))
    assert killed["test/mrr"] == whole["test/mrr"]
    assert killed["best_step"] == 12


def test_a_best_checkpoint_of_another_run_is_refused(tmp_path):
    rows = curve.Curve(tmp_path / "curve.csv", WallClockBudget(steps=1).clock)
    rows.rows = [{"step": 4, "valid/mrr": 0.5}, {"step": 8, "valid/mrr": float("nan")}]
    kept = checkpoints.Checkpoints(tmp_path, rows, "valid/mrr")
    module = torch.nn.Linear(2, 1)
    content = {"callbacks": {}, "state_dict": {"weight": torch.ones(1, 2), "bias": torch.ones(1)}}
    torch.save(content | {"global_step": 4}, kept.best)
    assert kept.load_best(module) == rows.best("valid/mrr") == rows.rows[0]
    assert module.weight.tolist() == [[1.0, 1.0]]
    torch.save(content | {"global_step": 3}, kept.best)
    with pytest.raises(HaleError, match=r"best.ckpt is of step 3, whose validation is not on"):
        kept.load_best(module)
    for damage in (kept.best.unlink, lambda: kept.best.write_bytes(b"PK")):
        damage()
        with pytest.raises(HaleError, match=r"best.ckpt is not a checkpoint of hale"):
            kept.load_best(module)


def elsewhere(device: torch.device, kernel: str | None = None) -> dict:
    return {
        "date": "2030-01-01T00:00:00+00:00", "commit": "a" * 40 + "+",
        "hardware": {"machine": "x86_64", "cpu": "Another", "cores": 8, "threads": 4,
                     "device": "cpu", "kernel": "sse2"},
        "versions": {"hale": "9", "torch": "9.0"},
    }  # fmt: skip


def test_a_resumed_record_tells_of_all_its_segments(tmp_path, run_training, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(train, "provenance", elsewhere)
        cut_power_at(patch, 3, (checkpoints.CheckpointFiles, "save_checkpoint"))
        with pytest.raises(PowerCutError):
            seconds_run(run_training, tmp_path, Timed())
    capsys.readouterr()
    seconds_run(run_training, tmp_path, Timed())
    assert "resumed elsewhere than it was trained" in capsys.readouterr().out
    record = read_result(tmp_path)
    first, second = record["segments"]
    assert (first["steps"], first["train_seconds"]) == (6, 6)  # to its second checkpoint
    assert (second["steps"], second["train_seconds"]) == (6, 6)
    assert (record["steps"], record["train_seconds"]) == (12, 12)
    assert first["seconds"] == 6 + 2 * 100 + 1000  # its second save is not over when it is written
    assert second["seconds"] == 6 + 2 * 100 + 2 * 1000
    assert record["total_seconds"] == first["seconds"] + second["seconds"]
    assert record["hardware"]["cpu"].startswith("Another and ")
    assert record["versions"]["torch"].startswith("9.0 and 2.")
    assert record["commit"] is None or record["commit"].endswith("+")
    assert record["date"] == first["date"]
    assert record["protocol"] == 2


def test_a_run_in_one_piece_has_one_segment(trained_folder):
    record = read_result(trained_folder)
    (segment,) = record["segments"]
    for name in ("hardware", "versions", "commit", "date", "steps", "train_seconds"):
        assert segment[name] == record[name]
    assert record["total_seconds"] == segment["seconds"] >= record["train_seconds"]


def test_provenance_of_segments_is_joined():
    here, there = elsewhere(None), elsewhere(None) | {"commit": "b" * 40}
    assert provenance_of([here, here])["hardware"] == here["hardware"]
    assert provenance_of([here, there])["commit"] == f"{'b' * 40} and {'a' * 40}+"
    assert provenance_of([here, there | {"commit": None}])["commit"] is None
    other = there | {"versions": {"hale": "9", "torch": "8.0"}}
    assert provenance_of([here, other])["versions"] == {"hale": "9", "torch": "9.0 and 8.0"}
    assert moved([], here) is None
    assert moved([other, here], there) is None  # the last segment counts
    assert moved([here], other) == "resumed elsewhere than it was trained: torch 9.0 -> 8.0"


CONFIG = {
    "model": {"_target_": "hale.models.euclidean.RotL", "dim": 8}, "validations": 10, "test": True,
    "dataset": {"_target_": "hale.graphs.kg.KnowledgeGraph.read", "path": "a", "held_out": 0.05},
    "trainer": {"accelerator": "cpu", "devices": 1, "gradient_clip_val": None,
                "log_every_n_steps": 50},
    "budget": {"seconds": 60, "steps": None}, "seed": 0, "monitor": "valid/mrr", "callbacks": {},
}  # fmt: skip


def with_setting(name: str, value: object) -> dict:
    config = json.loads(json.dumps(CONFIG))
    *parts, key = name.split(".")
    node = config
    for part in parts:
        node = node[part]
    node[key] = value
    return config


CHANGES = [
    ("validations", 5), ("trainer.precision", "64-true"), ("trainer.precision", "bf16-mixed"),
    ("trainer.accumulate_grad_batches", 2), ("trainer.gradient_clip_val", 1.0),
    ("trainer.limit_train_batches", 0.5), ("trainer.deterministic", True),
    ("callbacks.early_stopping", {"patience": 3}), ("budget.seconds", 90), ("seed", 1),
    ("dataset.held_out", 0.1),
]  # fmt: skip
SAME = [
    ("trainer.log_every_n_steps", 10), ("trainer.accelerator", "gpu"), ("trainer.devices", "auto"),
    ("trainer.precision", "32-true"), ("trainer.precision", 32), ("trainer.profiler", "simple"),
    ("trainer.accumulate_grad_batches", 1), ("dataset.path", "b"), ("threads", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_what_changes_training_is_of_a_checkpoints_identity(tmp_path, name, value):
    path = tmp_path / "last.ckpt"
    state = {"callbacks": {"Identity": {"fingerprint": "f"} | identity(CONFIG)}}
    torch.save(state | {"global_step": 1, "state_dict": {}}, path)
    part = name.split(".")[0]
    with pytest.raises(HaleError, match=f"trained with another {part} "):
        Identity("f", with_setting(name, value)).require(path)
    finished = {"config": CONFIG, "dataset_fingerprint": "f"}
    with pytest.raises(HaleError, match=f"a finished run with another {part}:"):
        require_same_run(finished, with_setting(name, value), tmp_path, lambda: "f")


@pytest.mark.parametrize(("name", "value"), SAME)
def test_what_does_not_change_training_is_not(tmp_path, name, value):
    path = tmp_path / "last.ckpt"
    state = {"callbacks": {"Identity": {"fingerprint": "f"} | identity(CONFIG)}}
    torch.save(state | {"global_step": 1, "state_dict": {}}, path)
    changed = with_setting(name, value)
    assert Identity("f", changed).require(path) == state["callbacks"]
    finished = {"config": CONFIG, "dataset_fingerprint": "f"}
    require_same_run(finished, changed, tmp_path, lambda: "f")


def test_a_test_matters_to_a_record_alone(tmp_path):
    untested = with_setting("test", False)
    assert identity(untested) == identity(CONFIG)
    with pytest.raises(HaleError, match="a finished run with another test:"):
        require_same_run({"config": CONFIG}, untested, tmp_path, lambda: "f")


def test_the_content_decides_where_the_path_does_not(tmp_path):
    finished = {"config": CONFIG, "dataset_fingerprint": "f"}
    elsewhere, calls = with_setting("dataset.path", "b"), []
    with pytest.raises(HaleError, match="a finished run with another dataset content:"):
        require_same_run(finished, elsewhere, tmp_path, lambda: "g")
    require_same_run(finished, CONFIG, tmp_path, lambda: calls.append(1) or "g")
    assert not calls  # nothing is read where the path is the same
    memory = with_setting("dataset", {"_target_": "hale.training.fit.in_memory"})
    with pytest.raises(HaleError, match="another dataset content:"):
        require_same_run(finished | {"config": memory}, memory, tmp_path, lambda: "g")


def test_a_checkpoint_of_an_older_version_says_so(tmp_path):
    path = tmp_path / "last.ckpt"
    older = {key: value for key, value in identity(CONFIG).items() if key != "validations"}
    state = {"callbacks": {"Identity": {"fingerprint": "f"} | older}}
    torch.save(state | {"global_step": 1, "state_dict": {}}, path)
    with pytest.raises(HaleError, match="does not say with which validations it was trained"):
        Identity("f", CONFIG).require(path)


@pytest.fixture(scope="module")
def whole(run_training, tmp_path_factory) -> Path:
    """A run that nothing interrupts, to compare with."""
    folder = tmp_path_factory.mktemp("whole")
    run_training(folder, WallClockBudget(steps=12), schedule=linear, validations=3)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


class Interrupted(pl.Callback):
    """Does something in a batch of some stage."""

    def __init__(self, stage: str, act) -> None:
        setattr(self, f"on_{stage}_batch_start", lambda *_, **__: act())


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stage", ["train", "validation", "test"])
@pytest.mark.parametrize("act", [press_ctrl_c, terminate])
def test_an_interrupt_leaves_one_line_and_a_run_to_resume(
    tmp_path, run_training, whole, stage, act
):
    """Lightning ignores Ctrl-C from its first on; the test sets the handler back."""
    folder = tmp_path / "it's"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").touch()
    run = partial(run_training, schedule=linear, validations=3)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended, reported(folder):
            run(folder, WallClockBudget(steps=12), callbacks=(Interrupted(stage, act),))
        assert signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    line = f"interrupted; resume with: hale resume '{tmp_path}/it'\"'\"'s'"
    assert ended.value.code == line
    assert read_result(folder) is None
    assert (folder / "checkpoints/last.ckpt").exists() == (stage == "test")
    run(folder, WallClockBudget(steps=12))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(folder)[name])
    assert read_result(folder)["test/mrr"] == read_result(whole)["test/mrr"]


def test_a_run_that_stopped_early_stays_stopped(tmp_path, run_training):
    """Its budget is not spent when the test is interrupted."""

    def run(*callbacks: pl.Callback) -> None:
        stop = EarlyStopping("valid/mrr", mode="max", patience=1)
        spoil = Timed(spoil_at=5)
        run_training(tmp_path, WallClockBudget(steps=40), callbacks=(stop, spoil, *callbacks),
                     validations=10)  # fmt: skip

    def cut() -> None:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        run(Interrupted("test", cut))
    run()
    record = read_result(tmp_path)
    assert (record["steps"], record["best_step"]) == (8, 4)


@pytest.mark.parametrize("fail_at", [4, 10])
def test_steps_are_of_the_optimizer_when_gradients_are_accumulated(tmp_path, run_training, fail_at):
    """280 queries in batches of 32 are 9 batches: 4 steps of two and one of the last batch."""

    class Steps(pl.Callback):
        def __init__(self, fail_at=None):
            self.rates, self.batches, self.fail_at = [], 0, fail_at

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.rates.append(optimizer.param_groups[0]["lr"])

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.batches += 1
            if self.batches == self.fail_at:
                raise PowerCutError

    run = partial(
        run_training, accumulate_grad_batches=2, schedule=partial(linear, floor=0), validations=5
    )
    steps = Steps()
    run(tmp_path / "whole", WallClockBudget(steps=10), callbacks=(steps,))
    assert steps.rates == pytest.approx([0.02 * (1 - k / 10) for k in range(10)])
    assert steps.batches == 18  # two epochs
    record = read_result(tmp_path / "whole")
    assert record["steps"] == 10
    rows = list(csv.DictReader((tmp_path / "whole/curve.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10]
    with pytest.raises(PowerCutError):
        run(tmp_path / "killed", WallClockBudget(steps=10), callbacks=(Steps(fail_at),))
    run(tmp_path / "killed", WallClockBudget(steps=10))
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "killed")[name])
    assert read_result(tmp_path / "killed")["steps"] == 10


def test_the_generator_of_a_cuda_device_is_kept(monkeypatch, make_module):
    """The module is still on the CPU when Lightning hands it the checkpoint."""
    module, state, found = make_module(), torch.arange(4, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, device: found.append(new))
    device = SimpleNamespace(type="cuda")
    checkpoint: dict = {}
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(type(module), "device", device)
        module.on_save_checkpoint(checkpoint)
    assert torch.equal(checkpoint["cuda_rng_state"], state)
    before = torch.get_rng_state()
    torch.rand(5)
    module.on_load_checkpoint(checkpoint)
    assert not found
    monkeypatch.setattr(type(module), "device", device)
    module.on_train_start()
    assert torch.equal(torch.get_rng_state(), before)
    assert len(found) == 1
    assert torch.equal(found[0], state)


def test_a_checkpoint_of_a_gpu_is_resumed_on_the_cpu(monkeypatch, make_module):
    module = make_module()
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: pytest.fail("there is none"))
    state = torch.get_rng_state()
    module.on_load_checkpoint({"rng_state": state, "cuda_rng_state": torch.zeros(2)})
    module.on_train_start()
    assert torch.equal(torch.get_rng_state(), state)


def test_resumed_from_elsewhere_and_with_the_dataset_moved(tmp_path, monkeypatch, capsys):
    """Started in one folder with a relative path; resumed in others, in three ways."""
    start, other = tmp_path / "start", tmp_path / "other"
    start.mkdir()
    other.mkdir()
    lines = [f"e{e}\tr\te{(e + k) % 40}\n" for e in range(40) for k in (1, 3, 7)]
    (start / "graph.tsv").write_text("".join(lines))
    (other / "another.tsv").write_text("".join(lines[1:]))
    command = [
        sys.executable, "-m", "hale.run", "dataset=tsv", "dataset.path=graph.tsv", "logger=none",
        "budget.seconds=null", "budget.steps=12", "validations=2", "model.dim=4",
        "data.batch_size=16", "hydra.run.dir=run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=start, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = read_result(start / "run")
    for word in ("thread=1", "foo", "schedul.floor=0", "optimizer=adam", "seed.x=1"):
        with pytest.raises(HaleError, match=f"^{word}: the run has no such setting"):
            read_settings(start / "run", [word])
    before = HydraConfig.instance().cfg

    def resumed(path: str, *overrides: str) -> dict:
        (Path(path) / "result.json").unlink(missing_ok=True)
        try:
            resume_run(Path(path), overrides)
        finally:
            HydraConfig.instance().cfg = before
        found = read_result(Path(path))
        assert found["test/mrr"] == whole["test/mrr"]
        return found

    monkeypatch.chdir(other)
    resumed("../start/run")
    (start / "graph.tsv").rename(other / "moved.tsv")
    record = resumed("../start/run", f"dataset.path={other / 'moved.tsv'}")
    assert record["config"]["dataset"]["path"] == str(other / "moved.tsv")
    with pytest.raises(SystemExit) as refused:
        resumed("../start/run", "dataset.path=another.tsv")
    assert "another dataset content" in str(refused.value.code)
    assert str(refused.value.code).count("\n") == 0
    (other / "moved.tsv").rename(other / "graph.tsv")  # nothing lies where the run was started
    resumed("../start/run", "dataset.path=graph.tsv")
