"""The command line: what a user types and what comes back."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb_file

ROOT = Path(__file__).resolve().parent.parent
CONF = Path(__file__).parents[1] / "conf"
TINY = ["debug=smoke", "threads=1", "data.batch_size=4096", "budget.steps=4"]


def hale(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hale.run", *arguments],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def only_line(done: subprocess.CompletedProcess) -> str:
    """The one line that says what is wrong, between Hydra's first and last."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [
        line
        for line in done.stderr.splitlines()
        if line and not line.startswith(("Error executing job", "Set the environment variable"))
    ]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("option", ["--help", "--cfg=job"])
def test_answers_without_importing_torch(tmp_path, option):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hale.run", option],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("RotL" if "cfg" in option else "rotl") in done.stdout
    assert not any(line.endswith(" torch") for line in done.stderr.splitlines())


def test_default_run_leaves_a_whole_folder(tmp_path):
    done = hale(*TINY, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    for key in ("test/mrr", "valid/mrr", "test/hits@10", "untrained/mrr", "popularity/mrr"):
        assert 0 < record[key] <= 1
    assert record["steps"] == 4
    assert record["config"]["seed"] == record["seed"] == 0
    assert record["choices"]["model"] == "rotl"
    assert {"hardware", "versions", "commit", "date", "train_seconds", "total_seconds"} <= set(
        record
    )
    if (ROOT / ".git").exists():
        head = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
        )
        assert record["commit"].removesuffix("+") == head.stdout.strip()
    for name in (
        "curve.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        ".hydra/config.yaml",
    ):
        assert (tmp_path / "out" / name).is_file()
    for name in ("test", "untrained", "popularity", "result.json"):
        assert name in done.stdout

    again = hale(*TINY, "hydra.run.dir=out", cwd=tmp_path)
    assert again.returncode == 0
    assert "is finished" in again.stdout


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("loss.alpha=0", "loss.alpha must be a finite number above 0 and of at most 1, got 0"),
        ("loss.alpha=1.5", "loss.alpha must be a finite number above 0 and of at most 1, got 1.5"),
        ("model.dim=7", "model.dim must be even for RotL"),
        ("activation.gamma=-1", "activation.gamma"),
        ("budget.steps=0", "budget.steps must be a whole number of at least 1, got 0"),
        ("budget.steps=1e3", "budget.steps must be a whole number of at least 1, got 1000.0"),
        ("validations=0", "validations must be a whole number of at least 1, got 0"),
        ("seed=-1", "seed must be a whole number of at least 0 and of at most 4294967295, got -1"),
        ("monitor=valid/mr", "monitor must be valid/ and a metric of which more is better"),
        ("logger=wandb logger.wandb.mode=sideways", "logger.wandb.mode must be offline, online"),
        ("optimizer.lr=-1", "optimizer.lr must be a finite number above 0, got -1"),
        ("trainer.devices=2", "trainer.devices=2 asks for several processes"),
        ("+trainer.precision=7", "trainer.precision must be 64, 32, 16"),
        ("budget.seconds=5", "give exactly one of budget.seconds and budget.steps"),
        ("loss.alpa=0.5", "Could not override 'loss.alpa'"),
        ("data.batch_size=0", "data.batch_size must be a whole number of at least 1, got 0"),
        ("hydra.run.dir=/dev/null/out", "cannot write to the output folder /dev/null/out"),
        ("dataset=tsv", "dataset.path"),
        ("optimizer.lr=1e30", "training diverged; lower optimizer.lr"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, argument, words):
    done = hale(*TINY, *argument.split(), cwd=tmp_path)
    assert words in (done.stderr if "alpa" in argument else only_line(done))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_an_unknown_choice_names_the_choices(tmp_path):
    done = hale("model=rotz", cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for choice in ("rotz", "rotl", "rote", "transe"):
        assert choice in done.stderr


def test_a_missing_dataset_is_one_line(tmp_path):
    done = hale(*TINY, "dataset=tsv", "dataset.path=nowhere", cwd=tmp_path)
    assert "nowhere" in only_line(done)


def test_a_checkpoint_of_another_dataset_is_refused(tmp_path):
    arguments = [*TINY, "hydra.run.dir=out"]
    assert hale(*arguments, cwd=tmp_path).returncode == 0
    (tmp_path / "out" / "result.json").unlink()
    done = hale(*arguments, "dataset.seed=1", cwd=tmp_path)
    assert "trained with another" in only_line(done)


def test_sweep_keeps_runs_apart_and_wandb_equals_the_curves(tmp_path):
    """The sweep of the README in small; the W&B files are read back."""
    models = "transe,distmult,rotate,rote,rotl"
    done = hale(
        "-m", f"model={models}", "loss=hale", "activation=hanon,halin", "dataset=family",
        *TINY, "logger=wandb", "hydra.sweep.dir=sweep",
        cwd=tmp_path, WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = sorted(p.parent for p in tmp_path.glob("sweep/*/result.json"))
    assert len(folders) == 10
    seen = set()
    for folder in folders:
        record = json.loads((folder / "result.json").read_text())
        seen.add((record["choices"]["model"], record["choices"]["activation"]))
        (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        curve = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
        rows = [row for row in wandb_file.history(file) if "valid/mrr" in row]
        assert len(rows) == len(curve) >= 2
        for logged, kept in zip(rows, curve, strict=True):
            assert logged["train_seconds"] == pytest.approx(float(kept["train_seconds"]), rel=1e-5)
            assert logged["valid/mrr"] == pytest.approx(float(kept["valid/mrr"]), rel=1e-6)
        assert wandb_file.config(file)["model"]["_target_"] == record["config"]["model"]["_target_"]
        assert wandb_file.run_record(file).run_group == "sweep"
        assert wandb_file.exit_code(file) == 0
    assert len(seen) == 10


def test_a_failing_job_does_not_poison_the_next(tmp_path):
    done = hale(
        "-m", "model.dim=7,8", *TINY, "logger=wandb", "hydra.sweep.dir=sweep",
        cwd=tmp_path, WANDB_MODE="offline",
    )  # fmt: skip
    assert "model.dim must be even" in done.stderr
    assert done.returncode != 0
    assert not (tmp_path / "sweep/0/result.json").exists()
    assert (tmp_path / "sweep/1/result.json").exists()
    assert len(list(tmp_path.glob("sweep/1/wandb/offline-run-*"))) == 1


@pytest.mark.parametrize("typed", [["--config-dir", "my, conf"], []])
def test_choices_of_a_users_own_are_found_when_an_automatic_run_is_resumed(tmp_path, typed):
    """As if it had been killed before its choices were kept."""
    own = tmp_path / "my, conf/model"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text((CONF / "model/mure.yaml").read_text())
    quoted = f"""hydra.searchpath=["{tmp_path / "my, conf"}",recipe://]"""
    arguments = [*(typed or [quoted]), *TINY, "model=mine", "recipe=auto"]
    assert hale(*arguments, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    for kept in (tmp_path / "run").glob("[a-z]*"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "hale", "resume", "run"], cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/result.json").read_text())
    assert record["choices"]["model"] == "mine"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_ends_the_same(tmp_path, number):
    arguments = [
        *TINY, "trainer=cpu", "budget.steps=300", "validations=10", "data.batch_size=512",
        "test=false",
    ]  # fmt: skip
    command = [sys.executable, "-m", "hale.run", *arguments, "hydra.run.dir=killed"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "killed/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) != 0
    assert not (tmp_path / "killed/result.json").exists()
    done = subprocess.run(
        [sys.executable, "-m", "hale", "resume", "killed"], cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Resuming" in done.stdout
    assert hale(*arguments, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    weights = [
        torch.load(tmp_path / f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("killed", "whole")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    assert json.loads((tmp_path / "killed/result.json").read_text())["steps"] == 300


def test_the_wheel_carries_conf_and_runs_elsewhere(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("hale*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    assert (site / "hale/conf/config.yaml").is_file()
    done = hale(*TINY, "hydra.run.dir=out", cwd=elsewhere, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    record = json.loads((elsewhere / "out/result.json").read_text())
    assert record["commit"] is None  # no checkout: it ran from the wheel
