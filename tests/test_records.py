"""The committed records, and records as they are written and read."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from hale.cli import run_command
from hale.errors import HaleError
from hale.runs.folders import RunFolder, find_runs
from hale.runs.record import PROTOCOL, defined, overrides_of, provenance, read_result, write_result
from hale.scoring.kernels.operations import kernel_variant
from hale.training.budget import WallClockBudget

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
README = (RESULTS / "README.md").read_text(encoding="utf-8")
OTHERS = {*RESULTS.glob("own_data/*"), *RESULTS.glob("growing/*")}
FILES = sorted(set(RESULTS.rglob("*.jsonl")) - OTHERS)
"""Of trials."""
METRICS = ("mrr", "mr", "hits@1", "hits@3", "hits@10", "amri", "tie_gap")
REQUIRED = {
    "best_step", "choices", "commit", "config", "dataset_fingerprint", "date", "hardware", "name",
    "parameters", "seed", "steps", "total_seconds", "train_seconds", "versions", "warm_up_seconds",
    *(f"valid/{side}{metric}" for side in ("", "tail/", "head/") for metric in METRICS),
}  # fmt: skip
SECOND = {
    "cpu_seconds", "overrides", "protocol", "recipe", "segments", "test_queries", "valid_queries",
    "verdict",
}  # fmt: skip
"""Keys that records have since protocol 2."""
OPTIONAL = {
    "overrides", "trial", "curve", "processes", "teacher_seconds",
    *(
        f"{split}/{side}{metric}"
        for split in ("test", "untrained", "popularity")
        for side in ("", "tail/", "head/")
        for metric in METRICS
    ),
}  # fmt: skip
HARDWARE = {"machine", "cpu", "cores", "threads", "device"}
with Path(__file__).with_name("record_exceptions.csv").open(encoding="utf-8") as file:
    EXCEPTIONS = {(row["record"], row["reason"]) for row in csv.DictReader(file)}
"""Faults of committed records, until they are run again. The list only becomes shorter: a record
that loses its fault, and one that is removed, must be removed from it."""
RESUMED = "resumed with other validations: more rows than asked for, seconds of one process"


def name(run: RunFolder) -> str:
    return run.path.relative_to(RESULTS).as_posix()


RUNS = find_runs(RESULTS)
every_run = pytest.mark.parametrize("run", RUNS, ids=name)


@every_run
def test_a_committed_record_is_whole(run):
    record = run.record
    assert record is not None, run.error
    if record.get("protocol", 1) == 1:
        assert REQUIRED <= set(record) <= REQUIRED | OPTIONAL
    else:
        assert REQUIRED | SECOND <= set(record) <= REQUIRED | SECOND | OPTIONAL
    assert HARDWARE <= set(record["hardware"]) <= HARDWARE | {"kernel"}
    commits = (record["commit"] or "0" * 40).split(" and ")
    assert all(re.fullmatch(r"[0-9a-f]{40}\+?", commit) for commit in commits)
    assert record["seed"] == record["config"]["seed"]
    assert record["dataset_fingerprint"] == FINGERPRINTS[record["choices"]["dataset"]]
    for key, value in record.items():
        if "/" in key and key.rsplit("/", 1)[1] in ("mrr", "hits@1", "hits@3", "hits@10"):
            assert 0 <= value <= 1, key
        elif key.endswith("/mr"):
            assert value >= 1, key
    assert ("test/mrr" in record) == record["config"].get("test", True)
    assert all("=" in override or override[0] == "~" for override in run.overrides)


@every_run
def test_a_committed_record_agrees_with_its_curve(run):
    record, curve = run.record, run.curve
    best = [row for row in curve if row["step"] == record["best_step"]]
    assert best[0]["valid/mrr"] == record["valid/mrr"] == max(row["valid/mrr"] for row in curve)
    steps = [row["step"] for row in curve]
    assert steps == sorted(set(steps))
    assert 1 <= steps[0] <= steps[-1] <= record["steps"]
    assert curve[-1]["train_seconds"] <= record["train_seconds"]


def faults(run: RunFolder) -> set[str]:
    """What a record does not tell the truth of, or not all."""
    record, found = run.record, set()
    protocol, commit = record.get("protocol", 1), record["commit"]
    more = 1 if protocol == 1 else 0  # protocol 1 timed validations by the wall clock
    too_many = len(run.curve) > record["config"]["validations"] + more
    if too_many or record["total_seconds"] < record["train_seconds"]:
        found.add(RESUMED)
    if commit is None:
        found.add("commit not recorded")
    elif "+" in commit:
        found.add("commit of a modified checkout")
    if protocol not in range(1, PROTOCOL + 1):
        found.add("unknown protocol")
    for key in ("steps", "train_seconds") if protocol > 1 else ():
        if sum(part[key] for part in record["segments"]) != pytest.approx(record[key]):
            found.add("segments do not add up")
    return found


@every_run
def test_a_committed_record_tells_one_truth_or_is_a_known_exception(run):
    known = {reason for record, reason in EXCEPTIONS if record == name(run)}
    assert faults(run) == known


def test_a_fault_is_seen(tmp_path):
    """The check that the committed records pass can fail, in each of its ways."""

    def validated(rows: int) -> dict:
        return {name: [*range(rows)] for name in ("step", "train_seconds", "valid/mrr")}

    good = {
        "commit": "a" * 40, "total_seconds": 3.0, "train_seconds": 2.0, "steps": 2, "protocol": 2,
        "config": {"validations": 2}, "curve": validated(2),
        "segments": [{"steps": 1, "train_seconds": 0.5}, {"steps": 1, "train_seconds": 1.5}],
    }  # fmt: skip
    bad = {
        "commit not recorded": {"commit": None},
        "commit of a modified checkout": {"commit": f"{'b' * 40} and {'a' * 40}+"},
        "unknown protocol": {"protocol": 3},
        "segments do not add up": {"segments": good["segments"][1:]},
    }
    changes = [
        *bad.items(),
        (RESUMED, {"total_seconds": 1.9}),
        (RESUMED, {"curve": validated(3)}),
    ]

    def found(record: dict) -> set[str]:
        return faults(RunFolder(tmp_path, (), record, None))

    assert found(good) == set()
    assert (
        found({k: v for k, v in good.items() if k != "protocol"} | {"curve": validated(3)}) == set()
    )
    for reason, change in changes:
        assert found(good | change) == {reason}


FINGERPRINTS = {run.record["choices"]["dataset"]: run.record["dataset_fingerprint"] for run in RUNS
                if run.record is not None}  # fmt: skip


def test_exceptions_are_of_committed_records_and_told():
    assert {record for record, _ in EXCEPTIONS} <= {name(run) for run in RUNS}
    resumed = [record for record, reason in EXCEPTIONS if reason == RESUMED]
    assert all(f"results/{path}" in README for path in resumed)


def test_the_page_counts_commits_as_they_are():
    counted = {}
    for run in RUNS:
        commit = run.record["commit"]
        kind = 2 if commit is None else 1 if commit.endswith("+") else 0
        part = "/".join(Path(name(run)).parts[:2])
        counted.setdefault(part, [0, 0, 0])[kind] += 1
    found = {}
    for part, cells in re.findall(r"^\| results/(\S+) \|([\d| ]+)\|$", README, re.MULTILINE):
        total, *kinds = map(int, cells.split("|"))
        assert total == sum(kinds)
        found[part] = kinds
    assert found == counted


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_trials_is_sorted_compact_and_small(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    names = [record["trial"] for record in records]
    assert names == sorted(set(names))
    assert [json.dumps(record, separators=(",", ":")) for record in records] == lines
    assert path.stat().st_size < 1_000_000


def trial(number: int, **more: object) -> dict:
    return {
        "trial": f"lr{number}",
        "choices": {"model": "rotl", "dataset": "ring"},
        "config": {"optimizer": {"lr": number}},
        "name": f"model=rotl,optimizer.lr={number}",
        "valid/mrr": number / 10,
        "curve": {"step": [1, 2], "train_seconds": [0.5, 1.0], "valid/mrr": [0.0, number / 10]},
    } | more


def write_lines(path: Path, *lines: object) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_trials_are_runs(tmp_path):
    file = write_lines(tmp_path / "ring.jsonl", trial(1), trial(2, overrides=["seed=3"]))
    below, itself = find_runs(tmp_path), find_runs(file)
    assert below == itself
    assert [run.path for run in below] == [file / "lr1", file / "lr2"]
    assert below[0].curve == [
        {"step": 1.0, "train_seconds": 0.5, "valid/mrr": 0.0},
        {"step": 2.0, "train_seconds": 1.0, "valid/mrr": 0.1},
    ]
    assert below[1].metric("valid/mrr") == 0.2
    assert below[0].overrides == ("model=rotl", "optimizer.lr=1")
    assert below[1].overrides == ("seed=3",)


def test_a_damaged_trial_is_named_and_the_others_are_read(tmp_path):
    torn = json.dumps(trial(2))[:40]
    write_lines(tmp_path / "ring.jsonl", trial(1), torn, {"trial": "lr3"}, trial(4))
    write_lines(tmp_path / "other.jsonl", {"step": 1}, {"step": 2})
    runs = find_runs(tmp_path)
    assert [run.record is not None for run in runs] == [False, False, True, True]
    assert [run.error.split("ring.jsonl, ")[1] for run in runs[:2]] == [
        "line 2, is not a result record", "line 3, is not a result record"
    ]  # fmt: skip


@pytest.mark.parametrize("curve", [[1, 2], {"step": [1, 2], "valid/mrr": [1]}, {"step": ["x"]}])
def test_a_damaged_curve_is_named(tmp_path, curve):
    write_lines(tmp_path / "ring.jsonl", trial(1, curve=curve))
    (run,) = find_runs(tmp_path)
    with pytest.raises(HaleError, match="lr1 is not a curve"):
        _ = run.curve


@pytest.mark.parametrize("text", ["a: [", "\t- seed=1", "- {"])
def test_damaged_overrides_are_named(tmp_path, text):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text(text)
    (run,) = find_runs(tmp_path)
    assert run.record is None
    assert "overrides.yaml is not a list of overrides" in run.error
    assert "\n" not in run.error


def test_results_lists_the_trials(capsys):
    assert run_command(["results", str(RESULTS / "tune"), "--sort", "valid/mrr"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    header, rows = first.split("\t"), [line.split("\t") for line in rest if "\t" in line]
    tune = [run for run in RUNS if name(run).startswith("tune/")]
    assert len(rows) == len(tune) > 200
    best = max(tune, key=lambda run: run.record["valid/mrr"])
    assert rows[0][header.index("folder")] == name(best).removeprefix("tune/")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"overrides": ["a=1", "b=[2,3]"], "name": "c=4"}, ("a=1", "b=[2,3]")),
        ({"overrides": []}, ()),
        ({"name": "optimizer.betas=[.9,.999],+jobs=2,seed=0"},
         ("optimizer.betas=[.9,.999]", "+jobs=2", "seed=0")),
        ({"name": "seed0"}, ()),
        ({}, ()),
    ],
)  # fmt: skip
def test_overrides_of_new_and_old_records(record, expected):
    assert overrides_of(record) == expected


def test_a_metric_that_is_not_defined_is_null(tmp_path):
    metrics = {"valid/mrr": 0.5, "valid/amri": float("nan"), "valid/mr": float("inf")}
    assert defined(metrics) == {"valid/mrr": 0.5, "valid/amri": None, "valid/mr": float("inf")}
    write_result(tmp_path, defined({"valid/amri": float("nan")}) | {"choices": {}, "config": {}})
    assert '"valid/amri": null' in (tmp_path / "result.json").read_text()
    (run,) = find_runs(tmp_path)
    assert run.metric("valid/amri") is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, defined(metrics))  # an infinite rank is a fault, not undefined


def test_a_run_records_the_kernel_that_computes_it(trained_folder):
    record = read_result(trained_folder)
    assert record["hardware"]["kernel"] == kernel_variant(torch.device("cpu"))


def test_a_run_with_the_reference_records_it(monkeypatch, run_training, tmp_path):
    monkeypatch.setenv("HALE_KERNEL", "reference")
    run_training(tmp_path, WallClockBudget(steps=4))
    assert read_result(tmp_path)["hardware"]["kernel"] == "reference"


def test_provenance_takes_the_kernel_that_it_is_told():
    assert provenance(torch.device("cpu"), "avx512")["hardware"]["kernel"] == "avx512"
