"""Sweeps: their summary, resuming them, tuning, and launchers that share a machine."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from hale.errors import HaleError
from hale.runs.folders import RunFolder, find_runs, varying
from hale.runs.sweep import grid, print_summary, require_own_folders, summary_table
from hale.runs.sweep_jobs import forget_jobs, noted, noted_jobs
from hale.runs.tables import FittedTable
from hale.settings.checks import require_own_machine
from hale.settings.compose import compose

TINY = ["debug=smoke", "threads=1", "data.batch_size=4096", "budget.steps=2", "test=false"]
PLUGINS = {
    "sweeper=optuna": "hydra_optuna_sweeper",
    "launcher=parallel": "hydra_joblib_launcher",
    "launcher=submitit_local": "hydra_submitit_launcher",
    "launcher=slurm": "hydra_submitit_launcher",
    "launcher=ray_jobs": "hydra_ray_launcher",
}


def need(choice: str) -> None:
    if choice in PLUGINS and (
        find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{PLUGINS[choice]}") is None
    ):
        pytest.skip("needs the extra sweep")


def hale(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hale.run", *arguments], cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_a_sweep_ends_with_a_summary_and_can_be_resumed(tmp_path):
    command = ["-m", "model.dim=7,8,10", *TINY, "hydra.sweep.dir=sweep"]
    done = hale(*command, cwd=tmp_path)
    assert done.returncode != 0
    assert (tmp_path / "sweep/0/error.txt").read_text().startswith("model.dim must be even")
    record = {
        run: json.loads((tmp_path / f"sweep/{run}/result.json").read_text()) for run in ("1", "2")
    }
    table = done.stdout[done.stdout.rindex("sweep, by valid/mrr") :]
    lines = table.splitlines()
    rule = next(
        i for i, line in enumerate(lines) if set(line.strip()) <= {"─", " "} and line.strip()
    )
    rows = [line.split() for line in lines[rule + 1 : rule + 3]]
    best_first = sorted(record, key=lambda run: -record[run]["valid/mrr"])
    assert [row[0] for row in rows] == best_first
    assert {row[0]: row[1] for row in rows} == {"1": "8", "2": "10"}
    assert [row[2] for row in rows] == [f"{record[run]['valid/mrr']:.4f}" for run in best_first]
    assert f"best: sweep/{best_first[0]}\n" in table
    assert re.search(r"^no result: 0 \(model\.dim=7 .*\): model\.dim must be even", table, re.M)
    assert "the same command and hydra.sweep.dir=sweep" in table

    (tmp_path / "sweep/2/result.json").unlink()  # as if it had been interrupted
    kept = (tmp_path / "sweep/1/result.json").stat().st_mtime_ns
    done = hale(*command[:1], "model.dim=12,8,10", *command[2:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sweep/1 is finished" in done.stdout
    assert "Resuming" in done.stdout
    assert (tmp_path / "sweep/1/result.json").stat().st_mtime_ns == kept
    assert not (tmp_path / "sweep/0/error.txt").exists()
    assert len([run for run in find_runs(tmp_path / "sweep") if run.record]) == 3

    kept = {p: p.read_bytes() for p in (tmp_path / "sweep/1").rglob("*") if p.is_file()}
    done = hale("-m", "model.dim=12,6,10", *command[2:], cwd=tmp_path)
    assert done.returncode != 0
    assert "sweep/1 holds a finished run with another model" in done.stderr
    assert re.search(r"^not run again: 1 \(model\.dim=8 .*\): the folder holds a finished run with "
                     r"another model", done.stdout, re.M)  # fmt: skip
    assert {p: p.read_bytes() for p in (tmp_path / "sweep/1").rglob("*") if p.is_file()} == kept
    assert not (tmp_path / "sweep/.jobs").exists()


def test_tuning_keeps_its_study_and_is_resumed(tmp_path):
    need("sweeper=optuna")
    optuna = pytest.importorskip("optuna")
    command = ["-m", "experiment=tune", *TINY, "hydra.sweeper.n_trials=2"]
    for trials in (2, 4):
        done = hale(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (database,) = tmp_path.glob("outputs/tune/*/study.db")
        study = optuna.load_study(
            study_name="None seconds, 2 steps", storage=f"sqlite:///{database}"
        )
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        runs = find_runs(database.parent)
        assert len(study.trials) == len(runs) == trials
        assert {t.value for t in study.trials} == {run.record["valid/mrr"] for run in runs}
    assert set(study.best_trial.params) == {  # the batch size is given on the command line
        "loss.alpha", "loss.weight", "activation.beta", "activation.gamma", "optimizer.lr",
    }  # fmt: skip
    assert not any("test/mrr" in run.record for run in runs)


@pytest.mark.parametrize(
    ("launcher", "refused"),
    [
        ("basic", False),
        ("parallel", True),
        ("submitit_local", True),
        ("slurm", False),
        ("ray_jobs", False),
    ],
)  # fmt: skip
def test_seconds_are_refused_where_jobs_share_a_machine(launcher, refused):
    need(f"launcher={launcher}")
    cfg = compose([f"hydra/launcher={launcher}"])
    require_own_machine(cfg.hydra.launcher, None)
    if refused:
        with pytest.raises(HaleError, match=r"set budget\.steps=N"):
            require_own_machine(cfg.hydra.launcher, 60)
    else:
        require_own_machine(cfg.hydra.launcher, 60)
    if launcher == "parallel":
        cfg.hydra.launcher.n_jobs = 1
        require_own_machine(cfg.hydra.launcher, 60)


@pytest.mark.parametrize("choice", ["experiment=tune", *(f"hydra/{each}" for each in PLUGINS)])
def test_without_the_extra_everything_else_composes(tmp_path, choice):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "sys.modules['hydra_plugins'] = empty = types.ModuleType('hydra_plugins')\n"
        "empty.__path__ = []\n"
    )
    done = hale("--cfg=job", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    done = hale("-m", choice, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.match(r"In '.*': Could not (find|load) 'hydra/", done.stderr)


def run(path: str, choices: dict, **config) -> RunFolder:
    return RunFolder(Path(path), (), {"choices": choices, "config": config, "valid/mrr": 0.5}, None)


def test_what_varies_is_what_the_choices_do_not_explain():
    rotl, rote = ({"model": m, "recipe": f"wn18rr/{m}", "loss": "hale"} for m in ("rotl", "rote"))
    runs = [
        run("a", rotl, seed=0, model={"dim": 8, "alpha": 1}, optimizer={"lr": 0.1}),
        run("b", rote, seed=0, model={"dim": 8}, optimizer={"lr": 0.2}),
        run("c", rote, seed=1, model={"dim": 8}, optimizer={"lr": 0.2}),
        RunFolder(Path("d"), (), None, None),
    ]
    assert varying(runs) == ["model", "seed"]
    assert varying(runs[:2]) == ["model"]
    assert varying(runs[1:3]) == ["seed"]
    assert varying(runs[:1]) == []


def test_hostile_names_are_text_in_the_summary():
    runs = [run(f"top/[bold]{i}", {"model": f"[/red]{i}"}) for i in range(2)]
    text = printed(summary_table(runs, Path("top"), "valid/mrr"), 80)
    assert text.count("[/red]") == text.count("[bold]") == 2


def printed(table: FittedTable, width: int) -> str:
    file = StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def test_a_narrow_summary_drops_columns_by_name_and_cuts_no_digit():
    metrics = {
        "valid/mrr": 0.51234,
        "test/mrr": 0.41234,
        "test/hits@10": 0.7,
        "train_seconds": 31.5,
    }
    records = [{"choices": {"model": f"model_{i}"}, "config": {}} | metrics for i in range(6)]
    runs = [RunFolder(Path(f"top/{i}"), (), record, None) for i, record in enumerate(records)]
    table = summary_table(runs, Path("top"), "valid/mrr")
    wide, narrow = printed(table, 100), printed(table, 34)
    for number in ("0.5123", "0.4123", "0.7000", "31.5"):
        assert wide.count(number) == 6
    assert narrow.count("0.5123") == 6
    assert narrow.count("31.5") == 0
    assert "not shown at 34 columns: " in narrow
    assert "train_seconds" in " ".join(narrow.split())


def test_runs_without_a_result_are_grouped_by_reason(tmp_path, capsys):
    for name, error in (("a", "no such file"), ("b", "no such file"), ("c", "diverged")):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra/overrides.yaml").write_text(f"[seed={name}]")
        (tmp_path / name / "error.txt").write_text(error)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/result.json").write_text(
        json.dumps({"choices": {}, "config": {}, "valid/mrr": 0.5})
    )
    refused = {tmp_path / "d": f"{tmp_path / 'd'} holds a finished run with another loss"}
    print_summary(tmp_path, "valid/mrr", refused)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "no result: 2 runs: no such file: a, b",
        "no result: c (seed=c): diverged",
        "not run again: d (): the folder holds a finished run with another loss",
    ]
    print_summary(tmp_path, "valid/mrr", among={tmp_path / "a"})
    assert capsys.readouterr().out.splitlines()[0] == "no result: a (seed=a): no such file"


def test_a_refused_job_is_noted_beside_a_run_and_kept_in_an_empty_folder(tmp_path):
    (tmp_path / "run/.hydra").mkdir(parents=True)
    (tmp_path / "run/.hydra/config.yaml").write_text("model: {}")
    for number, name in enumerate(("run", "empty", "good")):
        (tmp_path / name).mkdir(exist_ok=True)
        refusal = pytest.raises(HaleError) if name != "good" else nullcontext()
        with refusal, noted(tmp_path, tmp_path / name, number, ["seed=${x}"]):
            if name != "good":
                raise HaleError("refused\nfor two reasons")
    assert noted_jobs(tmp_path) == {
        tmp_path / "run": "refused", tmp_path / "empty": None, tmp_path / "good": None
    }  # fmt: skip
    assert [p.name for p in (tmp_path / "run").rglob("*")] == [".hydra", "config.yaml"]
    (run,) = find_runs(tmp_path)
    assert (run.path, run.error, run.overrides) == (tmp_path / "empty", "refused", ("seed=${x}",))
    (tmp_path / ".jobs/0.json").write_text("{")
    assert set(noted_jobs(tmp_path)) == {tmp_path / "empty", tmp_path / "good"}
    forget_jobs(tmp_path)
    assert noted_jobs(tmp_path) == {}


SUBDIR = "${hydra:runtime.choices.model}_${model.dim}/seed${seed}"


@pytest.mark.parametrize(
    ("subdir", "overrides", "shared"),
    [
        (SUBDIR, ("model=rotl,rote", "model.dim=8,10", "seed=0,1"), None),
        (SUBDIR, ("seed=0", "optimizer.lr=0.1"), None),
        (SUBDIR, ("seed=0,1", "optimizer.lr=0.1,0.2"), "optimizer.lr"),
        (SUBDIR, ("optimizer.lr=0.1,0.1",), None),
        (SUBDIR, ("model=rotl,rote", "loss=hale,sam_neg"), "loss"),
        (SUBDIR, ("dim=8,10",), "dim"),
        ("${dataset.name}", ("dataset=wn18rr,codex_s",), None),
        ("${hydra:job.num}", ("optimizer.lr=0.1,0.2",), None),
        ("run", ("seed=range(0,2)",), "seed"),
    ],
)
def test_every_swept_setting_must_name_the_folder(subdir, overrides, shared):
    sweep = OmegaConf.create({"subdir": subdir})
    values = grid({}, overrides)
    if shared is None:
        require_own_folders(sweep, values, Path("out"))
    else:
        with pytest.raises(HaleError, match=rf"^runs that differ in {shared} would share a folder"):
            require_own_folders(sweep, values, Path("out"))


def test_overrides_replace_parameters_of_the_same_setting():
    values = grid({"seed": "0,1", "model": "rotl"}, ["model=rote,transe", "+x=1"])
    assert values == {
        "seed": ["seed=0", "seed=1"], "model": ["model=rote", "model=transe"], "+x": ["+x=1"],
    }  # fmt: skip


def test_a_sweep_that_would_share_a_folder_trains_nothing(tmp_path):
    done = hale("-m", "optimizer.lr=0.01,0.02", "hydra.sweep.subdir=one", *TINY,
                "hydra.sweep.dir=sweep", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("runs that differ in optimizer.lr would share a folder of sweep:")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(HaleError, match="is not a folder"):
        find_runs(tmp_path / "nowhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/result.json").write_text("{}")
    (damaged,) = find_runs(tmp_path)
    assert damaged.record is None
    assert "is not a result record" in damaged.error
