"""Loggers: what W&B, MLflow and the CSV files keep of a run, read back from what they wrote."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import wandb_file
from wandb.errors import AuthenticationError, CommError, UsageError

from hale.errors import HaleError
from hale.runs.record import read_result
from hale.training.budget import WallClockBudget
from hale.training.csv_log import CSVLog
from hale.training.fit import fit
from hale.training.loggers import mlflow_logger, wandb_logger
from hale.training.wandb_runs import _reason

CONFIG = {"monitor": "valid/mrr", "model": {"dim": 8}}
RECORD = {
    "name": "mine", "choices": {"model": "rotl"}, "overrides": ["seed=1"], "config": CONFIG,
    "recipe": {"kind": "tuned", "chosen": []},
}  # fmt: skip
TINY = ["debug=smoke", "threads=1", "budget.steps=4", "validations=2", "test=false"]


def offline(folder: Path, group: str | None = None, **settings: object):
    return wandb_logger(folder, group, RECORD, "project", "offline", **settings)


def files(folder: Path) -> list[Path]:
    """W&B's files, complete, in the order in which the runs began."""
    return [wandb_file.finished(f) for f in sorted(folder.glob("wandb/offline-*/run-*.wandb"))]


def keep_apart(folder: Path) -> None:
    """W&B names a folder by the second, and two parts of a test's run begin in one."""
    for path in folder.glob("wandb/offline-run-2*"):
        path.rename(path.with_name(path.name.replace("run-2", "run-1")))


def validation(mrr: float, mr: float, seconds: float) -> dict[str, float]:
    return {"valid/mrr": mrr, "valid/mr": mr, "train_seconds": seconds}


def test_the_summary_is_the_best_validation_and_not_the_last(tmp_path):
    with offline(tmp_path) as logger:
        for step, row in enumerate(((0.2, 9.0), (0.4, 5.0), (0.4, 6.0), (math.nan, 8.0)), 1):
            logger.log_metrics(validation(*row, float(step)), step)
            logger.log_metrics({"train/loss": 10.0 - step}, step)
    (file,) = files(tmp_path)
    found = wandb_file.summary(file)
    assert (found["valid/mrr"], found["valid/mr"]) == (0.4, 5.0)  # the first of the best
    assert (found["train/loss"], found["train_seconds"]) == (6.0, 4.0)
    rows = [row["valid/mrr"] for row in wandb_file.history(file) if "valid/mr" in row]
    assert rows == [0.2, 0.4, 0.4, None]


def test_a_resumed_run_is_the_same_run_and_keeps_its_best(tmp_path):
    for mrr in (0.4, 0.2):
        with offline(tmp_path) as logger:
            logger.log_metrics(validation(mrr, 1 / mrr, 1.0), 1)
        if mrr == 0.4:
            files(tmp_path)
            keep_apart(tmp_path)
        (tmp_path / "curve.csv").write_text(
            "step,train_seconds,valid/mrr,valid/mr\n1,1.0,0.4,2.5\n"
        )
    first, second = map(wandb_file.run_record, files(tmp_path))
    assert first.run_id == second.run_id
    assert second.resume
    assert [wandb_file.summary(file)["valid/mrr"] for file in files(tmp_path)] == [0.4, 0.4]


def test_runs_of_a_sweep_have_their_own_ids(tmp_path, monkeypatch, caplog):
    """wandb 4267, 3682 and 4490: one WANDB_RUN_ID for several runs mixes them."""
    monkeypatch.setenv("WANDB_RUN_ID", "fixed1")
    for job in ("0", "1"):
        (tmp_path / job).mkdir()
        with offline(tmp_path / job, group="sweep"):
            pass
    ids = {wandb_file.run_record(files(tmp_path / job)[0]).run_id for job in ("0", "1")}
    assert len(ids) == 2
    assert "fixed1" not in ids
    assert "WANDB_RUN_ID is ignored in a sweep" in caplog.text
    with offline(tmp_path):
        pass
    assert wandb_file.run_record(files(tmp_path)[0]).run_id == "fixed1"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "sideways"}, "logger.wandb.mode must be offline, online or disabled"),
        ({"project": "a/b"}, "W&B: Invalid project name 'a/b'"),
        ({"project": ""}, "logger.wandb.project must be the name of a project"),
        ({"tags": ["a" * 65]}, "logger.wandb.tags must be text of 1 to 64 characters"),
        ({"tags": [""]}, "logger.wandb.tags must be text of 1 to 64 characters"),
        ({"timeout": 0}, "logger.wandb.timeout must be a finite number above 0"),
        ({"project": 2024}, "W&B: project: Input should be a valid string"),
    ],
)
def test_what_wandb_does_not_take_is_one_line(tmp_path, settings, words):
    given = {"project": "p", "mode": "offline"} | settings
    with pytest.raises(HaleError) as raised, wandb_logger(tmp_path, None, RECORD, **given):
        pass
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "login" not in str(raised.value)
    assert not files(tmp_path)


@pytest.mark.parametrize("name", ["project", "tags"])
def test_a_number_for_a_text_is_one_line(graph, tmp_path, name):
    """A project named by a year, as in hydra 1163."""
    value = {"project": 2024, "tags": ["a", 2024]}[name]
    settings = {"logger": "wandb", "logger.wandb.mode": "offline", f"logger.wandb.{name}": value}
    with pytest.raises(HaleError) as raised:
        fit(graph, steps=1, folder=tmp_path, settings=settings)
    assert "\n" not in str(raised.value)
    assert "2024" in str(raised.value)
    assert not files(tmp_path)


@pytest.mark.parametrize("mode", ["", None, "dryrun", "offline"])
def test_modes_that_are_offline(tmp_path, mode):
    """An empty WANDB_MODE is that of a compose file; wandb 2048 is about dryrun."""
    with wandb_logger(tmp_path, None, RECORD, "p", mode, tags=["a", "b", "a"]) as logger:
        assert logger.experiment.offline
        assert logger.experiment.tags == ("a", "b")
        assert logger.experiment.settings.x_disable_stats
        assert logger.experiment.settings.init_timeout == 15
    assert len(files(tmp_path)) == 1
    assert wandb_file.config(files(tmp_path)[0])["overrides"] == ["seed=1"]


def test_what_is_measured_and_the_artifacts_of_a_finished_run(graph, tmp_path):
    options = {f"logger.wandb.{name}": True for name in ("log_model", "log_dataset", "stats")}
    settings = {"logger": "wandb", "logger.wandb.mode": "offline", "validations": 3} | options
    fit(graph, "rotl", steps=6, dim=8, folder=tmp_path, settings=settings)
    record = read_result(tmp_path)
    (file,) = files(tmp_path)
    found = wandb_file.summary(file)
    for name in ("valid/mrr", "test/mrr", "test/hits@10", "untrained/mrr", "popularity/mrr",
                 "parameters", "train_seconds", "total_seconds", "steps", "hardware", "versions",
                 "commit", "verdict", "dataset_fingerprint", "best_step"):  # fmt: skip
        assert found[name] == record[name], name
    assert not {"config", "choices", "name"} & set(found)
    assert wandb_file.config(file)["choices"] == record["choices"]
    kept = wandb_file.artifacts(file)
    run_id = wandb_file.run_record(file).run_id
    kind, about, inside = kept[f"model-{run_id}"]
    assert (kind, about["test/mrr"]) == ("model", record["test/mrr"])
    assert inside == sorted(path.name for path in (tmp_path / "model").iterdir())
    kind, about, inside = kept["dataset-ring"]
    assert (kind, about) == ("dataset", {"fingerprint": graph.fingerprint})
    assert inside == ["names.json", "triples.safetensors"]


def test_without_asking_there_is_no_artifact_and_none_of_a_failed_run(tmp_path):
    with pytest.raises(ZeroDivisionError), offline(tmp_path, log_model=True):
        raise ZeroDivisionError
    files(tmp_path)
    keep_apart(tmp_path)
    with offline(tmp_path):
        pass
    assert [wandb_file.exit_code(file) for file in files(tmp_path)] == [1, 0]
    assert [wandb_file.artifacts(file) for file in files(tmp_path)] == [{}, {}]


def hale(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", "hale.run", *arguments], cwd=cwd,
        env=kept | {"HOME": str(cwd)} | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_an_unreachable_server_is_one_line_that_says_what_to_do(tmp_path):
    """wandb 7671 and 5017; the hint must not be to log in. An empty WANDB_MODE does no harm."""
    done = hale(
        tmp_path, *TINY, "logger=wandb", "logger.wandb.mode=online", "logger.wandb.timeout=1",
        "hydra.run.dir=out", WANDB_MODE="", WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY="a" * 40,
    )  # fmt: skip
    assert done.returncode != 0
    line = done.stderr.splitlines()[-1]
    assert "W&B: no answer from the server within 1 s" in line
    assert "WANDB_BASE_URL" in line
    assert "logger.wandb.mode=offline" in line
    assert "login" not in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/result.json").exists()
    assert not (tmp_path / "out/.wandb-run").exists()


def test_an_empty_mode_in_the_environment_is_offline(graph, tmp_path, monkeypatch):
    """As a compose file sets it."""
    monkeypatch.setenv("WANDB_MODE", "")
    fit(graph, "rotl", steps=1, dim=8, folder=tmp_path, settings={"logger": "wandb"})
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("error", "told", "untold"),
    [
        (
            UsageError("No API key configured. Use `wandb login` to log in."),
            "wandb login",
            "network",
        ),
        (AuthenticationError("WANDB_API_KEY invalid"), "wandb login", "network"),
        (CommError("Timed out\nConsider the init_timeout"), "network", "wandb login"),
        (CommError(""), "network", "wandb login"),
        (UsageError("Invalid project name 'a/b'"), "Invalid project", "offline"),
    ],
)
def test_what_to_do_depends_on_what_went_wrong(error, told, untold):
    """wandb 1006: no key."""
    line = _reason(error, 15)
    assert told in line
    assert untold not in line
    assert "\n" not in line


class Stops(pl.Callback):
    """Fails in a step, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def rows_of(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("csv/*/metrics.csv")
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_files_of_a_resumed_run_are_those_of_a_run_in_one_go(run_training, tmp_path):
    """Rows after the checkpoint, which are lost, are written once."""
    often = {"log_every_n_steps": 2}
    run_training(tmp_path / "whole", WallClockBudget(steps=20), **often)
    with pytest.raises(ZeroDivisionError):
        run_training(
            tmp_path / "resumed", WallClockBudget(steps=20), callbacks=(Stops(14),), **often
        )
    lost = [row["step"] for row in rows_of(tmp_path / "resumed")]
    run_training(tmp_path / "resumed", WallClockBudget(steps=20), **often)
    whole, resumed = (
        [(row["step"], row["train/loss"], row["valid/mrr"]) for row in rows_of(tmp_path / name)]
        for name in ("whole", "resumed")
    )
    assert lost[-1] == "13"
    assert resumed == whole
    assert len({step for step, *_ in whole}) > 10


def test_a_metric_that_is_not_defined_is_empty_in_the_csv_files(tmp_path):
    log = CSVLog(tmp_path)
    log.log_metrics({"valid/mrr": 0.5, "valid/amri": math.nan}, 1)
    log.finalize("success")
    assert rows_of(tmp_path) == [{"step": "1", "valid/amri": "", "valid/mrr": "0.5"}]


def test_mlflow_continues_a_run_and_keeps_what_is_measured(run_training, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"file:{tmp_path}/kept"
    given = (tmp_path / "run", "sweep", RECORD, "mine", uri)
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError), mlflow_logger(*given) as logger:
        run_training(
            tmp_path / "run", WallClockBudget(steps=8), logger=logger, callbacks=(Stops(6),)
        )
    with mlflow_logger(*given) as logger:
        run_training(tmp_path / "run", WallClockBudget(steps=8), logger=logger)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    record = read_result(tmp_path / "run")
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "rotl"
    for name in ("untrained/mrr", "parameters", "total_seconds", "steps"):
        assert run.data.metrics[name] == record[name]
    assert run.data.tags["verdict"] == str(record["verdict"])
    assert run.data.tags["sweep"] == "sweep"
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "valid/mrr")]
    assert sorted(set(steps)) == [1, 3, 4, 6, 7]  # the curve alone, counted from 0
    assert steps[-1] + 1 == record["steps"] == 8
    assert run.data.tags["valid/mrr"] == str(record["valid/mrr"])


def test_an_mlflow_server_that_does_not_answer_is_one_line(tmp_path):
    """The sibling of wandb 7671."""
    pytest.importorskip("mlflow")
    with pytest.raises(HaleError) as raised, mlflow_logger(
        tmp_path, None, RECORD, "mine", "http://127.0.0.1:9"
    ):  # fmt: skip
        pass
    assert "MLflow at http://127.0.0.1:9: " in str(raised.value)
    assert "logger.mlflow.tracking_uri" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
