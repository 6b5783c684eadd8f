"""The paper's experiments: which runs they are, that none is repeated, what is made of them."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from made_up import write_record
from omegaconf import OmegaConf

from experiments import classification, comparison, systems, table1
from experiments.budget import Budget
from experiments.list import ListedRun, expand
from experiments.provenance import MODIFIED, STALE
from experiments.records import NAMES, PAPER, read_csv, read_records, select, summarize
from experiments.sweep import command, main, settings
from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.runs.sweep import grid
from hale.settings import conf_dir
from hale.settings.compose import compose

ROOT = Path(__file__).resolve().parent.parent
SHARE = Budget("0.25")
TINY = ("dataset=family", "model=rotl", "model.dim=8", "logger=none", "trainer.log_every_n_steps=1",
        "threads=1", "validations=2")  # fmt: skip


PART = {
    "table2": ("dataset=fb15k237", "model=rotl"),
    "table2_full": ("dataset=wn18rr", "model=murp"),
    "table3": ("dataset=codex_s", "model=rotl"),
    "table3_full": ("dataset=codex_l", "model=tucker"),
    "table5": (),
    "fig2": (),
    "fig3": ("dataset=codex_m", "strategy=hale"),
}
"""The part of each experiment that is composed here; composing takes most of the time."""


@pytest.fixture(scope="module")
def listed() -> dict[str, list[ListedRun]]:
    """Runs of one seed at a quarter of the paper's seconds."""
    return {
        name: expand(name, (*settings(name, SHARE, "cpu", 1), "seed=0", *part), Path("out"))
        for name, part in PART.items()
    }


def jobs_of(experiment: str, *overrides: str) -> list[dict[str, str]]:
    """The choices of each run of an experiment, not composed."""
    params = OmegaConf.load(conf_dir() / f"experiment/{experiment}.yaml").hydra.sweeper.params
    jobs: list[dict[str, str]] = [{}]
    for key, values in grid(params, overrides).items():
        jobs = [job | {key: value.split("=", 1)[1]} for job in jobs for value in values]
    return jobs


def sweep(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *words], cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_every_experiment_is_tested_here():
    files = (conf_dir() / "experiment").glob("*.yaml")
    sharing = {path.stem for path in files if "paper" in OmegaConf.load(path).get("defaults", [])}
    assert sharing == PART.keys()


@pytest.mark.parametrize(
    ("name", "runs"),
    [("table2", 20), ("table2_full", 8), ("table3", 30), ("table3_full", 15), ("table5", 18),
     ("fig2", 27), ("fig3", 12)],
)  # fmt: skip
def test_a_sweep_has_its_runs(name, runs):
    jobs = jobs_of(name, "seed=5")
    assert len(jobs) == len({tuple(job.items()) for job in jobs}) == runs
    for chosen in jobs:
        assert chosen.pop("seed") == "5"
        for group, choice in chosen.items():
            assert (conf_dir() / group / f"{choice}.yaml").is_file()
    seeds = [job["seed"] for job in jobs_of(name)]
    assert seeds == sorted(seeds)  # one of everything before the next of anything


@pytest.mark.parametrize("table", ["table2", "table3", "table5"])
def test_tables_have_a_run_for_each_row_of_the_paper(listed, table):
    keys = ("dataset", "strategy", "model")
    rows = [row for row in read_csv(PAPER) if row["table"] == table]
    found = [table, f"{table}_full"] if f"{table}_full" in PART else [table]
    jobs = [job for name in found for job in jobs_of(name, "seed=0")]
    assert sorted([job[key] for key in keys] for job in jobs) == sorted(
        [row[key] for key in keys] for row in rows
    )
    assert all(row[key] in NAMES for row in rows for key in keys)
    dims = {int(row["dim"].lstrip(">")) for row in rows}
    assert {run.config["model"]["dim"] for name in found for run in listed[name]} == dims


def test_the_list_is_what_hydra_sweeps():
    """Also where the command line replaces swept values, and adds some."""
    overrides = ("dataset=codex_m,wn18rr", "strategy=hale", "seed=range(0,2)", "model.dim=8,16")
    runs = expand("fig3", overrides, Path("out"))
    assert [str(run.folder) for run in runs] == [
        f"out/{dataset}/rote_{dim}_hale/seed{seed}"
        for seed in (0, 1) for dataset in ("codex_m", "wn18rr") for dim in (8, 16)
    ]  # fmt: skip
    assert [run.config["seed"] for run in runs] == [0, 0, 0, 0, 1, 1, 1, 1]
    composed = compose(["experiment=fig3", "seed=1", "dataset=wn18rr", "strategy=hale",
                        "model=rote", "model.dim=16"])  # fmt: skip
    hydra = OmegaConf.to_container(OmegaConf.masked_copy(composed, list(runs[-1].config)),
                                   resolve=True)  # fmt: skip
    assert runs[-1].config == hydra


def test_a_run_is_named_by_what_it_is(listed):
    assert [str(run.folder) for run in listed["table2"]] == [
        "out/fb15k237/rotl_32_hale/seed0", "out/fb15k237/rotl_32_sam_neg/seed0",
    ]  # fmt: skip


def test_seconds_are_a_share_of_the_papers(listed):
    of_table1 = {row["dataset"]: float(row["seconds"]) for row in read_csv(table1.PAPER)}
    cost = [row for row in read_csv(PAPER) if row["strategy"] == "full"]
    for name, runs in listed.items():
        for run in runs:
            dataset = run.config["dataset"]["name"]
            if name.endswith("_full"):
                minutes = [float(row["cost_minutes"]) for row in cost if row["dataset"] == dataset]
                assert run.seconds == pytest.approx(15 * sum(minutes) / len(minutes), rel=0.02)
            else:
                assert run.seconds == 0.25 * of_table1[dataset]


def test_strategies_are_what_the_paper_says(listed):
    def of(dataset: str, strategy: str, name: str) -> dict:
        (run,) = [
            run for run in listed[name]
            if run.config["dataset"]["name"] == dataset and run.folder.parent.name.endswith(
                f"_{run.config['model']['dim']}_{strategy}"
            )
        ]  # fmt: skip
        return run.config

    def parts(config: dict) -> tuple[str, str]:
        return tuple(config[key]["_target_"].rsplit(".", 1)[1] for key in ("loss", "activation"))

    def apart(one: dict, other: dict) -> set[str]:
        """The settings in which two configs differ."""
        leaves = ("model", "loss", "activation", "data", "optimizer", "schedule", "budget")
        keys = {(leaf, key) for config in (one, other) for leaf in leaves for key in config[leaf]}
        return {
            f"{leaf}.{key}" for leaf, key in keys
            if one[leaf].get(key) != other[leaf].get(key)
        }  # fmt: skip

    for dataset in ("codex_m", "fb15k237", "wn18rr"):
        hale, ablated, squareless, scaleless, sampled, softmax = (
            of(dataset, strategy, "table5")
            for strategy in ("hale", "hale_wo_activation", "hale_wo_pos_square",
                             "hale_wo_rel_ratio", "ha_sam_neg", "ha_all_neg")
        )  # fmt: skip
        assert parts(hale) == ("QuerySampling", "Hanon")
        assert hale["loss"]["square"]
        assert hale["model"]["relation_scale"]
        assert parts(ablated) == ("QuerySampling", "Identity")
        others = {name for name in apart(ablated, hale) if not name.startswith("activation.")}
        own = {"fb15k237": {"optimizer.lr"}, "codex_m": {"optimizer.lr", "loss.weight"}}
        assert others == own.get(dataset, set())
        assert apart(squareless, hale) == {"loss.square"}
        assert apart(scaleless, hale) == {"model.relation_scale"}
        assert not squareless["loss"]["square"]
        assert scaleless["model"]["relation_scale"] is False
        assert parts(sampled) == ("SamNeg", "Hanon")
        assert parts(softmax) == ("QuerySampling", "Hanon")
        assert (softmax["loss"]["alpha"], softmax["loss"]["square"]) == (1.0, False)
        assert sampled["activation"] == softmax["activation"] == hale["activation"]
        for strategy, loss in (
            ("sam_neg", "SamNeg"), ("adv_neg", "AdvNeg"), ("non_neg", "NonNeg"),
            ("all_neg", "QuerySampling"),
        ):  # fmt: skip
            found = of(dataset, strategy, "fig2")
            assert parts(found) == (loss, "Identity")
            assert bool(found["model"]["relation_scale"]) == (strategy != "non_neg")
        assert found["loss"]["alpha"] == found["loss"]["weight"] == 1.0
        assert not found["loss"]["square"]
        hale = of(dataset, "hale", "fig2")
        for activation in ("Artanh", "Temperature", "XExp", "Halin"):
            found = of(dataset, f"hale_{activation.lower()}", "fig2")
            assert parts(found) == ("QuerySampling", activation)
            assert {name.split(".")[0] for name in apart(found, hale)} == {"activation"}
    for run in listed["table2_full"]:
        assert parts(run.config) == ("QuerySampling", "Identity")
        assert (run.config["loss"]["alpha"], run.config["loss"]["square"]) == (1.0, False)


def test_experiments_share_their_common_runs():
    some = (*settings("fig3", SHARE, "cpu", 1), "dataset=wn18rr", "strategy=hale,sam_neg")
    folder = Path("out/cpu/0.25")
    for_fig2, for_fig3 = (expand(name, some, folder) for name in ("fig2", "fig3"))
    assert [run.folder for run in for_fig2] == [run.folder for run in for_fig3]
    assert [run.config for run in for_fig2] == [run.config for run in for_fig3]
    assert len(for_fig2) == 2
    assert for_fig2[0].config["trainer"]["accelerator"] == "cpu"


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", ".25", "0.250", "1.5steps", "60 s", "1h"])
def test_a_mistaken_budget_is_refused(text):
    with pytest.raises(HaleError, match="the budget must be"):
        Budget(text)


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [("0.25", 150, None), ("1", 600, None), ("60s", 60, None), ("1.5s", 1.5, None),
     ("2000steps", None, 2000)],
)  # fmt: skip
def test_a_budget_is_plain_numbers_in_the_settings(text, seconds, steps):
    overrides = settings("fig3", Budget(text), "cpu", 1)
    (run,) = expand("fig3", [*overrides, "dataset=wn18rr", "strategy=hale"], Path("out"))
    assert (run.config["budget"]["seconds"], run.config["budget"]["steps"]) == (seconds, steps)


def test_mistakes_are_one_line():
    with pytest.raises(HaleError, match=r"^experiment table9: .*table9[^\n]*$"):
        expand("table9", (), Path("out"))
    with pytest.raises(HaleError, match=r"^experiment fig3: .*name[^\n]*$"):
        expand("fig3", ("dataset=family", "strategy=hale"), Path("out"))
    with pytest.raises(HaleError, match="2 concurrent runs share the machine"):
        settings("fig3", SHARE, "cpu", 2)
    with pytest.raises(HaleError, match="JOBS must be at least 1"):
        settings("fig3", Budget("9steps"), "cpu", 0)


def test_concurrent_runs_are_marked_and_use_hydras_launcher():
    overrides = settings("fig3", Budget("9steps"), "cpu", 2)
    (run,) = expand("fig3", [*overrides, *TINY, "strategy=hale"], Path("out"))
    assert run.config["jobs"] == 2
    assert run.config["budget"] | {"_target_": 0} == {
        "_target_": 0,
        "seconds": None,
        "steps": 9,
        "spent": 0,
    }
    words = command("fig3", overrides, Path("out"), 2)
    assert words[:4] == ["-m", "hale.run", "-m", "experiment=fig3"]
    assert {"hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "jobs=2"} <= set(words)


def test_states(tmp_path):
    def listed() -> ListedRun:
        overrides = settings("fig3", Budget("9steps"), "cpu", 1)
        (run,) = expand("fig3", [*overrides, *TINY, "strategy=hale"], tmp_path)
        return run

    run = listed()
    assert run.state == "missing"
    assert str(run).split() == ["missing", "9", "steps", str(run.folder)]
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "last.ckpt").touch()
    assert listed().state == "begun"
    result = run.folder / "result.json"
    result.write_text(json.dumps({"config": run.config, "valid/mrr": 0.12345, "test/mrr": 0.5}))
    assert listed().state == "finished"
    assert str(listed()).endswith("seed0  valid/mrr 0.1235  test/mrr 0.5000")
    changed = {"loss": run.config["loss"] | {"weight": 9.0}}
    result.write_text(json.dumps({"config": run.config | changed}))
    assert listed().state == "stale"
    assert str(listed()).endswith("(settings differ: loss; remove it to rerun)")


def test_a_dry_run_lists_and_touches_nothing(tmp_path):
    script = (
        "import sys; from experiments.sweep import main; code = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    words = ("table2", "dataset=wn18rr", "model=rotl,rote", f"--results={tmp_path}", "--dry")
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *lines, total = done.stdout.splitlines()
    assert len(lines) == 12
    assert all(line.startswith(f"missing         150 s  {tmp_path}/cpu/0.25/") for line in lines)
    assert total.startswith("12 runs: 12 missing; at most 0.50 h of training ahead")
    assert list(tmp_path.iterdir()) == []


def test_runs_are_resumed_fail_alone_and_are_not_repeated(tmp_path):
    words = ["fig3", *TINY, "strategy=hale", "--budget=40steps", f"--results={tmp_path}"]
    folder = tmp_path / "cpu/40steps/family/rotl_8_hale/seed0"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *words],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.strip().endswith(f"interrupted; resume with: hale resume {folder}")
    assert not (folder / "result.json").exists()

    done = sweep(*words, "model.dim=7,8")
    assert done.returncode == 1
    assert "1 begun, 1 missing" in done.stdout
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("no result: ")]
    assert failed.startswith("no result: family/rotl_7_hale/seed0 (")
    assert "model.dim must be even for RotL" in failed
    assert "Resuming" in done.stdout
    (record,) = read_records([tmp_path])
    assert (record.choice("strategy"), record.dim, record.result["steps"]) == ("hale", 8, 40)
    assert len(record.run.curve) == 2
    assert record.result["config"]["budget"]["steps"] == 40

    made = (folder / "result.json").stat().st_mtime_ns
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["finished", "40", "steps", str(folder)]
    assert f"test/mrr {record.result['test/mrr']:.4f}" in done.stdout
    assert "1 runs: 1 finished" in done.stdout
    assert "hale.run" not in done.stdout
    assert (folder / "result.json").stat().st_mtime_ns == made
    repeat = systems.command(record).split()
    assert repeat[:3] == ["python", "-m", "hale.run"]
    assert {"experiment=fig3", "budget.steps=40", "dataset=family", "seed=0"} <= set(repeat)
    assert systems.command(record) in systems.page([record])


def test_settings_that_no_folder_is_named_by_are_refused_before_anything_trains(tmp_path):
    some = ("fig3", *TINY, "strategy=hale", "optimizer.lr=0.01,0.02", "--budget=2steps")
    for dry in ((), ("--dry",)):
        done = sweep(*some, f"--results={tmp_path / 'out'}", *dry)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "runs that differ in optimizer.lr would share a folder" in line
        assert "RESULTS=" in line
    assert list(tmp_path.iterdir()) == []


def test_concurrent_runs_train(tmp_path):
    if find_spec("hydra_plugins") is None or not find_spec("hydra_plugins.hydra_joblib_launcher"):
        pytest.skip("needs the extra sweep")
    done = sweep("fig3", *TINY, "strategy=hale,sam_neg", "--budget=4steps", "--jobs=2",
                 f"--results={tmp_path}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = read_records([tmp_path])
    assert [record.choice("strategy") for record in records] == ["hale", "sam_neg"]
    assert not any(record.alone for record in records)


def test_a_missing_benchmark_is_told_in_one_line(tmp_path):
    (tmp_path / "data/wn18rr").mkdir(parents=True)
    (tmp_path / "data/wn18rr/train.txt").write_text("a\tb\tc\n")
    done = sweep(
        "fig3", "dataset=wn18rr,family", "strategy=hale,sam_neg", "--budget=2steps",
        "model=rotl", "model.dim=8", "logger=none", "validations=1", "threads=1", "test=false",
        "trainer.log_every_n_steps=1", f"--results={tmp_path / 'out'}",
        HALE_DATA_DIR=str(tmp_path / "data"),
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("no result")]
    assert line.startswith(f"no result: 2 runs: {tmp_path / 'data/wn18rr/train.txt'}")
    assert line.endswith("wn18rr/rotl_8_hale/seed0, wn18rr/rotl_8_sam_neg/seed0")
    assert len(read_records([tmp_path / "out"])) == 2  # those of the other dataset


def test_a_mistake_on_the_command_line_is_one_line(capsys):
    assert main(["fig3", "--budget=fast"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "the budget must be a share of the paper's seconds as 0.25, seconds as 60s, or steps as "
        "500steps, got 'fast'"
    ]


def test_no_private_module_of_hydra_is_used():
    for folder in ("hale", "experiments", "conf", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                assert "hydra._internal" not in path.read_text(), path


def test_summaries():
    assert summarize([]) is None
    assert str(summarize([0.5])) == "0.500"
    assert str(summarize([0.1, 0.2, 0.3])) == "0.200 ± 0.100"


def todays(experiment: str, *overrides: str) -> dict:
    cfg = compose([f"experiment={experiment}", *overrides])
    keys = [str(key) for key in cfg if key != "hydra"]
    return OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)


def test_comparison_has_the_right_numbers(tmp_path, capsys):
    rotl = todays("table2", "dataset=fb15k237", "strategy=hale", "model=rotl")
    for seed, mrr in enumerate((0.300, 0.310, 0.335)):
        config = rotl | {"seed": seed}
        write_record(tmp_path, "fb15k237", "rotl", 32, "hale", seed, mrr, config=config)
    write_record(tmp_path, "fb15k237", "rotl", 256, "hale", 0, 0.9)
    rote = todays("table2", "dataset=wn18rr", "strategy=sam_neg", "model=rote")
    write_record(tmp_path, "wn18rr", "rote", 32, "sam_neg", 0, 0.4, jobs=2, config=rote)
    comparison.build("table2", "A title", read_records([tmp_path]), tmp_path)
    text = (tmp_path / "table2.md").read_text()
    lines = text.splitlines()
    (row,) = [line for line in lines if "| HaLE | RotL | 0.316" in line]
    assert row == (
        "| HaLE | RotL | 0.316 | 0.315 ± 0.018 | -0.001 | 0.493 | 0.472 ± 0.027 | -0.021 "
        "| 0.228 | 0.227 ± 0.013 | -0.001 | 1200 | 301 | A | 3 |"
    )
    (row,) = [line for line in lines if "| SamNeg | RotE | 0.355" in line]
    assert row.endswith("| 600 | - | A | 1 |")
    assert sum("not run" in line for line in lines) == 28 - 2
    assert MODIFIED not in text
    assert STALE not in text
    rows = read_csv(tmp_path / "table2.csv")
    assert len(rows) == 28 * 3
    (cell,) = [
        r for r in rows
        if (r["dataset"], r["strategy"], r["model"], r["metric"])
        == ("fb15k237", "hale", "rotl", "mrr")
    ]  # fmt: skip
    assert float(cell["mean"]) == pytest.approx(0.315)
    assert float(cell["std"]) == pytest.approx(0.0180278, abs=1e-6)
    assert float(cell["difference"]) == pytest.approx(-0.001)
    assert (cell["n"], cell["seconds"], cell["hardware"]) == ("3", "301", "CPU, 2 threads")
    assert sum(r["mean"] == "" and r["n"] == "0" for r in rows) == 26 * 3
    assert "A title" in capsys.readouterr().out


@pytest.mark.parametrize("commit", ["0123+", None])
def test_what_cannot_be_repeated_exactly_is_marked(tmp_path, commit):
    rotl = todays("table2", "dataset=wn18rr", "strategy=hale", "model=rotl")
    write_record(tmp_path, "wn18rr", "rotl", 32, "hale", 0, 0.4, commit=commit, config=rotl)
    rote = todays("table2", "dataset=wn18rr", "strategy=hale", "model=rote")
    rote["optimizer"] = rote["optimizer"] | {"lr": 9.0}
    write_record(tmp_path, "wn18rr", "rote", 32, "hale", 0, 0.3, config=rote)
    comparison.build("table2", "A title", read_records([tmp_path]), tmp_path)
    text = (tmp_path / "table2.md").read_text()
    (rotl_row,) = [line for line in text.splitlines() if "| HaLE | RotL | 0.471" in line]
    (rote_row,) = [line for line in text.splitlines() if "| HaLE | RotE | 0.460" in line]
    assert [rotl_row.count(mark) for mark in (MODIFIED, STALE)] == [3, 0]
    assert [rote_row.count(mark) for mark in (MODIFIED, STALE)] == [0, 3]
    (legend,) = [line for line in text.splitlines() if line.startswith(MODIFIED)]
    assert "modified checkout" in legend
    assert f"{STALE} at least one run with settings that differ" in legend
    marks = {r["model"]: r["marks"] for r in read_csv(tmp_path / "table2.csv") if r["marks"]}
    assert marks == {"rotl": MODIFIED, "rote": STALE}


def test_models_that_the_paper_does_not_have_come_last(tmp_path):
    mure = todays("table2", "dataset=fb15k237", "strategy=hale", "model=mure")
    write_record(tmp_path, "fb15k237", "mure", 32, "hale", 0, 0.35, config=mure)
    write_record(tmp_path, "fb15k237", "mure", 256, "hale", 0, 0.9)  # of no table
    comparison.build("table2", "A title", read_records([tmp_path]), tmp_path)
    first = (tmp_path / "table2.md").read_text().split("## WN18RR")[0].rstrip()
    assert first.splitlines()[-1] == (
        "| HaLE | MuRE | - | 0.350 |  | - | 0.525 |  | - | 0.252 |  | - | 300 | A | 1 |"
    )
    assert len(comparison.comparison("table5", read_records([tmp_path]))) == 18


def test_the_first_folder_that_has_a_system_counts(tmp_path):
    write_record(tmp_path / "a", "wn18rr", "rotl", 32, "hale", 0, 0.1)
    write_record(tmp_path / "b", "wn18rr", "rotl", 32, "hale", 1, 0.2)
    folder = write_record(tmp_path / "b", "wn18rr", "rote", 32, "hale", 0, 0.3)
    (folder / "model").mkdir()
    (folder / "model/result.json").write_text((folder / "result.json").read_text())
    records = read_records([tmp_path / "a", tmp_path / "b"])
    assert [r.seed for r in select(records, "wn18rr", "hale", "rotl", 32)] == [0]
    assert len(select(records, "wn18rr", "hale", "rote", 32)) == 1
    assert select(records, "wn18rr", "sam_neg", "rote", 32) == []
    with pytest.raises(HaleError, match="is not a folder"):
        read_records([tmp_path / "c"])


def test_two_budgets_are_not_two_seeds(tmp_path):
    for budget in ("0.25", "1"):
        write_record(tmp_path / budget, "wn18rr", "rotl", 32, "hale", 0, 0.1)
    records = read_records([tmp_path])
    with pytest.raises(HaleError, match="give the folder of one budget and device"):
        select(records, "wn18rr", "hale", "rotl", 32)


def test_systems_lists_the_best_first(tmp_path):
    write_record(tmp_path, "family", "rotl", 8, "hale", 0, 0.2, device="A GPU")
    write_record(tmp_path, "family", "rote", 8, None, 0, 0.4, jobs=3)
    lines = systems.page(read_records([tmp_path])).splitlines()
    first, second = [line for line in lines if line.startswith("| Rot")]
    assert first.startswith("| RotE | 8 | hale, hanon | 0.400 | 0.288 | 0.600 | 300 (shared) |")
    assert "| A GPU | 01234567 | `python -m hale.run dataset=family model=rotl seed=0" in second
    assert "No runs" in systems.page([])


def test_classification_stands_beside_the_published(tmp_path, capsys):
    kept = write_record(tmp_path, "codex_s", "rotl", 256, "hale", 0, 0.4)
    rows = [{"split": "valid", "accuracy": 0.1}, {"split": "test", "accuracy": 0.8405, "f1": 0.85}]
    (kept / classification.FILE).write_text(json.dumps(rows))
    write_record(tmp_path, "codex_m", "rotl", 256, "hale", 0, 0.3)  # neither file nor model
    classification.build(read_records([tmp_path]), tmp_path)
    small, medium = capsys.readouterr().out.split("## CoDEx-M")
    lines = [line for line in small.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[3] for line in lines[2:]] == [
        "0.843", "0.841", "0.841", "0.840", "0.836", "0.829",
    ]  # fmt: skip
    assert "| RotL | 256 | HaLE | 0.841 | 0.850 | 0 |" in lines
    assert "RotL" not in medium
    assert len(read_csv(tmp_path / "classification.csv")) == 11


def test_table1_tells_the_misprint_and_what_is_absent(tmp_path, monkeypatch, capsys):
    counted = {row["dataset"]: row for row in read_csv(table1.PAPER)}

    def count(dataset: str) -> dict[str, int] | None:
        sizes = {column: int(counted[dataset][column]) for column in table1.COLUMNS}
        return (
            None
            if dataset == "codex_l"
            else sizes | ({"train": 86835} if dataset == "wn18rr" else {})
        )

    monkeypatch.setattr(table1, "count", count)
    table1.build(tmp_path)
    text = (tmp_path / "table1.md").read_text()
    assert "| WN18RR | 11 | 40,943 | 86,835 (86,845) | 3,034 | 3,134 | 600 s |" in text
    assert "| CoDEx-L | not available (69) |" in text
    assert "| FB15k-237 | 237 | 14,541 | 272,115 | 17,535 | 20,466 | 1,200 s |" in text


@pytest.mark.data
def test_table1_counts_the_data():
    found = table1.count("codex_s")
    (paper,) = [row for row in read_csv(table1.PAPER) if row["dataset"] == "codex_s"]
    assert found == {column: int(paper[column]) for column in table1.COLUMNS}


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_figures_1_and_2_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from experiments import fig1, fig2

    fig1.draw(tmp_path / "fig1")
    write_record(tmp_path, "wn18rr", "rote", 32, "hale", 0, 0.4)
    write_record(tmp_path, "wn18rr", "rote", 32, "hale", 1, 0.5)
    folder = write_record(tmp_path, "wn18rr", "rote", 32, "sam_neg", 0, 0.4)
    (folder / "curve.csv").unlink()
    fig2.draw(read_records([tmp_path]), tmp_path)
    runs = {s: select(read_records([tmp_path]), "wn18rr", s, "rote", 32) for s in ("hale",)}
    assert fig2.first_second(runs) == 10.0
    for name in ("fig1", "fig2", "fig2_mrr"):
        assert is_picture(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_captions_say_seeds_and_hardware(tmp_path):
    pytest.importorskip("matplotlib")
    from experiments.plotting import origin

    write_record(tmp_path, "wn18rr", "rote", 32, "hale", 0, 0.4)
    one = read_records([tmp_path])
    assert origin(one) == "seed 0; CPU, 2 threads"
    write_record(tmp_path, "wn18rr", "rote", 32, "hale", 2, 0.5, device="A GPU")
    assert origin(read_records([tmp_path])) == "seeds 0, 2; A GPU; CPU, 2 threads"
    assert origin([]) == "no runs"


def test_figure_3_is_drawn(tmp_path, monkeypatch, graph: KnowledgeGraph):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    from experiments import fig3

    relation_E = fig3.most_frequent_relation(graph)
    triples = graph.train.tolist()
    counts = [sum(r == k for h, r, t in triples for e in (h, t) if e == 5) for k in range(3)]
    assert counts[relation_E[5]] == max(counts)
    lonely = dataclasses.replace(graph, entities=(*graph.entities, "in no triple"))
    assert fig3.most_frequent_relation(lonely).tolist() == [*relation_E.tolist(), -1]
    assert fig3.named_relations(lonely) == fig3.named_relations(graph)
    monkeypatch.setattr(fig3, "benchmark", lambda name: graph)
    folder = write_record(tmp_path, "wn18rr", "rote", 32, "hale")
    write_record(tmp_path, "wn18rr", "rote", 32, "sam_neg")
    (folder / "checkpoints").mkdir()
    state = {"state_dict": {"model.entity": torch.randn(60, 32)}}
    torch.save(state, folder / "checkpoints" / "best.ckpt")
    fig3.draw(read_records([tmp_path]), tmp_path)
    assert is_picture(tmp_path / "fig3.png")


def test_paper_cells_are_whole():
    rows = read_csv(PAPER)
    assert len(rows) == 28 + 45 + 18
    with PAPER.open(newline="") as file:
        assert all(0 < float(r[m]) < 1 for r in csv.DictReader(file) for m in comparison.METRICS)
