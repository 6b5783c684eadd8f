"""The benchmarks run, in small, and write what they say; nothing timed is asserted."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure import interleaved, random_graph, ratio, write_json
from benchmarks.race import record_path
from benchmarks.race_report import seconds_to, write_report
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.loaders import QueryDataModule

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("kernel", "step", "epoch", "ranking", "loading")
RUN_ALL = """
import runpy, sys
sys.modules["pykeen"] = None  # as if it were not installed
_, folder, *names = sys.argv
for name in names:
    sys.argv = [name, "--quick", "--threads", "1", "--out", f"{folder}/{name}.json"]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[dict[str, dict], str]:
    """Records of all benchmarks in small, without PyKEEN, and what they printed."""
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(folder), *NAMES],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {n: json.loads((folder / f"{n}.json").read_text()) for n in NAMES}, done.stdout


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for each in value.values() for n in numbers(each)]
    if isinstance(value, list):
        return [n for each in value for n in numbers(each)]
    return [value] if isinstance(value, float) else []


def test_records_tell_where_they_were_made(quick):
    for record in quick[0].values():
        assert record["hardware"]["threads"] == 1
        assert record["versions"]["torch"] == torch.__version__
        assert record["quick"] is True
        assert numbers(record["tables"])
        assert all(map(math.isfinite, numbers(record["tables"])))


def test_parts_of_a_step_sum_to_the_step(quick):
    (row,) = quick[0]["step"]["tables"]["parts_ms"]
    parts = [
        v for k, v in row.items() if isinstance(v, float) and k not in ("step", "kernel share")
    ]
    assert all(part > 0 for part in parts)
    assert 0.5 * row["step"] < sum(parts) <= row["step"] * 1.001
    assert row["kernel share"] == pytest.approx(
        (row["kernel"] + row["kernel backward"]) / row["step"]
    )


def test_every_size_has_its_own_peak(quick):
    rows = quick[0]["epoch"]["tables"]["epoch"]
    assert [row["E"] for row in rows] == [1000, 2000]
    assert all(row["N"] * row["E"] <= 4_096_000 and row["within 4 GiB"] for row in rows)
    parts = ("imports MiB", "graph MiB", "tables MiB", "step MiB")
    assert all(0 < sum(row[part] for part in parts) <= row["peak MiB"] + 1 for row in rows)


def test_without_pykeen_hale_is_measured_alone(quick):
    records, printed = quick
    assert printed.count("not run: pykeen is not installed (pip install -e '.[bench]')") == 2
    assert all("ratio" not in row for row in records["ranking"]["tables"]["ranking"])
    assert all(row["hale s"] > 0 for row in records["loading"]["tables"]["loading"])


def test_ways_are_timed_in_turn():
    calls: list[str] = []
    seconds = interleaved({n: lambda n=n: calls.append(n) for n in "ab"}, repetitions=2, warm_up=1)
    assert calls == list("ababab")
    assert [len(values) for values in seconds.values()] == [2, 2]
    assert ratio([4, 9, 10], [2, 3, 5]) == {"ratio": 2, "least": 2, "greatest": 3}


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"train_seconds": s, "valid/mrr": mrr} for s, mrr in points]


def test_seconds_to_a_quality():
    rising = curve((10, 0.1), (20, 0.3), (30, 0.25))
    assert seconds_to(rising, 0.2) == (pytest.approx(15), True)
    assert seconds_to(rising, 0.05) == (10, False)
    assert seconds_to(rising, 0.31) is None


def test_race_runs_what_has_no_record_and_reports(tmp_path):
    def race(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                sys.executable, "-m", "benchmarks.race", "--quick", "--systems", "hale",
                "complex_n3", "--folder", str(tmp_path), *arguments,
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    before = {"seconds": 2.0, "hardware": {"threads": 1}}
    write_json(record_path(tmp_path, "family", "hale"), before)
    done = race("--threads", "2")
    assert done.returncode == 1
    assert "is of 2 s on 1 threads, this race of 2 s on 2: choose another folder" in done.stderr
    done = race()
    assert done.returncode == 0, done.stderr
    assert "family complex_n3: 2 s" in done.stdout
    assert "family hale" not in done.stdout
    path = tmp_path / "family" / "complex_n3.json"
    record = json.loads(path.read_text())
    assert record["hardware"]["threads"] == 1
    assert record["settings"]["config"]["model"]["init_std"] == 0.001
    assert 0 < record["curve"][-1]["valid/mrr"] <= 1
    rival = record | {"system": "pykeen_transe_lcwa", "curve": curve((100, 0.002))}
    (path.parent / "pykeen_transe_lcwa.json").write_text(json.dumps(rival))
    ours = record | {"system": "hale", "curve": curve((5, 0.001), (15, 0.003))}
    (path.parent / "hale.json").write_text(json.dumps(ours))
    write_report(tmp_path)
    assert (
        "| PyKEEN TransE, LCWA | 0.0020 | 100 | 10.0 | 10.0 |" in (tmp_path / "race.md").read_text()
    )
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", ["TransE", "RotatE", "ComplEx"])
def test_ranks_of_pykeens_models_are_pykeens(name, inverse):
    models = pytest.importorskip("pykeen.models", reason="PyKEEN is not installed")
    from pykeen.evaluation import RankBasedEvaluator

    from benchmarks.pykeen_scores import factory, scorer

    graph = random_graph("random", 80, 3, (400, 20, 60))
    arguments = {"scoring_fct_norm": 2} if name == "TransE" else {}
    model = getattr(models, name)(
        triples_factory=factory(graph, inverse), embedding_dim=6, random_seed=0, **arguments
    )
    theirs = RankBasedEvaluator(filtered=True).evaluate(
        model.eval(), graph.test, batch_size=16, use_tqdm=False,
        additional_filter_triples=[graph.train, graph.valid],
    )  # fmt: skip
    data = QueryDataModule(graph, batch_size=64, seed=0)
    data.setup()
    ours = evaluate(scorer(model), data.test_dataloader(), RankingMetrics(6))
    for direction in ("head", "tail"):
        rank = theirs.get_metric(f"{direction}.realistic.arithmetic_mean_rank")
        assert ours[f"{direction}/mr"] == pytest.approx(rank, rel=1e-6)
