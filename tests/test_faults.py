"""Faults at every moment at which a run touches the disk, and damaged files.

A few here, all by benchmarks.faults. Damaged files are refused in one line or harmless, and nothing
in them is executed.
"""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hale
from benchmarks.fuzz import Damage
from hale.cli import run_command
from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.runs.trained import TrainedModel
from hale.training.checkpoints import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"threads": 1, "test": False, "validations": 2, "data.batch_size": 32}


def fit(graph: KnowledgeGraph, folder: Path) -> TrainedModel:
    return hale.fit(graph, "rotl", steps=4, dim=4, folder=folder, settings=SETTINGS)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"]


def test_faults_and_damaged_files(tmp_path):
    """In a process of its own, which forks."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--faults", "4", "--files", "10"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    moments = re.search(r"^4 faults at (\d+) moments", done.stdout, re.MULTILINE)
    assert moments is not None
    assert int(moments[1]) > 50
    assert "10 damaged files" in done.stdout
    assert not list(tmp_path.iterdir())


class Fails:
    """An operation that fails from its n-th call on with an error of the disk."""

    def __init__(self, real: object, at: int, number: int) -> None:
        self.real, self.left, self.number = real, at, number

    def __call__(self, *arguments: object, **options: object) -> object:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*arguments, **options)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("at", [0, 12])
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    tmp_path, graph, monkeypatch, at, number
):
    fit(graph, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", Fails(os.fsync, at, number))
        with pytest.raises(HaleError, match=re.escape(os.strerror(number))) as refused:
            fit(graph, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "run") in str(refused.value)
    assert not (tmp_path / "run/result.json").exists()
    assert ((tmp_path / "run/checkpoints/last.ckpt").exists()) == (at > 0)
    if at:
        assert weights(tmp_path / "run")
    fit(graph, tmp_path / "run")
    for name, value in weights(tmp_path / "whole").items():
        assert value.equal(weights(tmp_path / "run")[name]), name
    assert not (tmp_path / "run/error.txt").exists()


def test_a_disk_that_is_full_while_a_checkpoint_is_written(tmp_path, graph, monkeypatch):
    """The checkpoint before it is not touched."""
    fit(graph, tmp_path / "whole")
    kept: list[bytes] = []
    save = torch.save

    def full(content: object, file: object, *rest: object, **options: object) -> None:
        last = tmp_path / "run/checkpoints/last.ckpt"
        if last.exists():
            kept.append(last.read_bytes())
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr("torch.save", full)
        with pytest.raises(HaleError, match="No space left on device"):
            fit(graph, tmp_path / "run")
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == kept[0]
    assert "No space left" in (tmp_path / "run/error.txt").read_text()
    fit(graph, tmp_path / "run")
    assert all(
        v.equal(weights(tmp_path / "run")[n]) for n, v in weights(tmp_path / "whole").items()
    )


class InterruptedValidation(pl.Callback):
    """Ctrl-C in the middle of the second validation."""

    def __init__(self) -> None:
        self.validations = 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validations += 1

    def on_validation_batch_end(self, *arguments: object, **options: object) -> None:
        if self.validations == 2:
            raise KeyboardInterrupt


def test_an_interrupt_during_evaluation_loses_nothing(tmp_path, graph, monkeypatch):
    from hale.training import fit as fitting

    fit(graph, tmp_path / "whole")
    make_run = fitting.make_run
    with monkeypatch.context() as patched:
        patched.setattr(
            fitting,
            "make_run",
            lambda job, graph, loggers, callbacks: make_run(
                job, graph, loggers, [*callbacks, InterruptedValidation()]
            ),
        )
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(graph, tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 2
    fit(graph, tmp_path / "run")
    assert (tmp_path / "run/curve.csv").read_text().count("\n") == 3
    assert all(
        v.equal(weights(tmp_path / "run")[n]) for n, v in weights(tmp_path / "whole").items()
    )


class Bomb:
    """A pickle of it leaves a file where it is opened."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch bomb",)


def test_no_pickle_of_a_run_is_executed(tmp_path, graph, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(graph, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    whole = shutil.copytree(tmp_path / "run/checkpoints", tmp_path / "whole")
    for name in ("last.ckpt", "best.ckpt"):
        for content in (pickle.dumps(Bomb()), None):
            path = tmp_path / "run/checkpoints" / name
            if content is None:
                torch.save({"state_dict": {}, "callbacks": {}, "global_step": Bomb()}, path)
            else:
                path.write_bytes(content)
            with pytest.raises(HaleError, match="is not a checkpoint of hale"):
                read_checkpoint(path)
            if name == "last.ckpt":
                with pytest.raises(HaleError, match="is not a checkpoint of hale"):
                    fit(graph, tmp_path / "run")
            shutil.copy(whole / name, path)
    assert not (tmp_path / "bomb").exists()


def test_a_class_that_a_model_folder_names_is_not_executed(tmp_path, graph, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit(graph, tmp_path / "run")
    for group in ("loss", "optimizer", "callbacks"):
        for path in (tmp_path / "run/result.json", tmp_path / "run/model/result.json"):
            record = json.loads(path.read_text())
            record["config"][group] = {"_target_": "os.system", "command": "touch bomb"}
            if group == "callbacks":
                record["config"][group] = {"mine": record["config"][group]}
            path.write_text(json.dumps(record))
        (tmp_path / "more.tsv").write_text("e0\tone\te7\n")
        words = ["update", str(tmp_path / "run"), "--add", str(tmp_path / "more.tsv")]
        assert run_command([*words, "budget.steps=1"]) == 1
        assert "_target_='os.system', which is not hale's" in capsys.readouterr().err
        with pytest.raises(HaleError, match="which is not hale's"):
            hale.update(tmp_path / "run", [("e0", "one", "e7")], steps=1)
    assert not (tmp_path / "bomb").exists()


TARGETS = ("model", "checkpoint", "run", "settings", "graph")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Damage:
    """A finished run of the command line, and a file of triples."""
    from hale.cli import dispatch

    home = tmp_path_factory.mktemp("fuzz")
    triples = home / "ring.tsv"
    rows = [(f"e{i}", f"r{k}", f"e{(i + k) % 30}") for i in range(30) for k in (1, 2)]
    triples.write_text("".join("\t".join(row) + "\n" for row in rows))
    words = ["dataset=tsv", f"dataset.path={triples}", "~recipe", "model.dim=4", "budget.steps=2",
             "threads=1", "logger=none", "test=false", f"hydra.run.dir={home / 'run'}"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["hale", *words])
        dispatch(words)
    (home / "within").mkdir()
    return Damage(home / "run", triples, home / "within")


@pytest.mark.parametrize("target", TARGETS)
@settings(
    deadline=None, max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(random=st.randoms(use_true_random=False))
def test_damage_is_refused_in_one_line_or_harmless(laboratory, target, random):
    assert laboratory.try_one(target, random) == []
    assert Path(laboratory.run / "result.json").is_file()
