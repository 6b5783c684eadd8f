"""The benchmarks run, in small, and write what they say; nothing timed is asserted."""

import json
import math
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import step
from benchmarks.measure import interleaved, random_graph, ratio, write_json
from benchmarks.own_data import ROWS, SECONDS, append, graph_and_dim, read_records, task_of
from benchmarks.own_graphs import debian_triples, split, wordnet_triples, write
from benchmarks.own_report import report
from benchmarks.own_systems import HALE, SYSTEMS, Task, applies, hale_overrides
from benchmarks.race import record_path
from benchmarks.race_report import seconds_to, write_report
from benchmarks.size import WAYS
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.settings.compose import compose

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("kernel", "step", "epoch", "size", "ranking", "loading")
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
    assert sum(parts) <= row["step"] * 1.001
    assert row["kernel share"] == pytest.approx(
        (row["kernel"] + row["kernel backward"]) / row["step"]
    )


def test_each_part_of_a_step_is_timed_once(monkeypatch):
    """By a clock of which each reading takes one second."""
    ticks = count()
    monkeypatch.setattr(step, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    module, data = step.training(random_graph("random", 50, 2, (200, 5, 5)), mask_known=True)
    optimizer = module.configure_optimizers()
    row = step.timed_steps(module, optimizer, step.endless(data), 4)
    assert row == {
        "loading": 1000, "gather+query": 1000, "kernel": 1000, "kernel backward": 1000,
        "alignment+mask": 2000, "other backward": 2000, "optimizer": 1000, "step": 15000,
        "kernel share": pytest.approx(2 / 15),
    }  # fmt: skip


def test_every_size_has_its_own_peak(quick):
    rows = quick[0]["epoch"]["tables"]["epoch"]
    assert [row["E"] for row in rows] == [1000, 2000]
    assert all(row["N"] * row["E"] <= 4_096_000 and row["within 4 GiB"] for row in rows)
    parts = ("imports MiB", "graph MiB", "tables MiB", "step MiB")
    assert all(0 < sum(row[part] for part in parts) <= row["peak MiB"] + 1 for row in rows)


def test_a_step_is_its_gradients_and_the_optimizer_in_every_way(quick):
    rows = quick[0]["size"]["tables"]["size"]
    assert [(row["way"], row["E"]) for row in rows] == [(w, e) for w in WAYS for e in (1000, 2000)]
    for row in rows:
        parts = (row["loss and gradients ms"], row["optimizer ms"])
        assert 0 < max(parts) <= row["step ms"]
        assert row["clustering s"] >= 0


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


def made_up(graph: str, dim: int | None, system: str, seed: int, mrr: float) -> dict:
    """A made-up record."""
    metrics = {"popularity": {"mrr": 0.1}} if system in HALE else {}
    return {
        "graph": graph, "dim": dim, "system": system, "seed": seed, "seconds": 60.0, "threads": 2,
        "sizes": {"entities": 1200, "relations": 3, "train": 5000, "valid": 90, "test": 100},
        "test": {"mrr": mrr}, "load": 1.5, "hardware": {"cpu": "AMD EPYC"},
        "versions": {"torch": "2.13.0", "pykeen": "1.11.1"}, "date": "2026-11-28T05:00:00+00:00",
        "commit": "0123456789", **metrics,
    }  # fmt: skip


def test_defaults_are_compared_with_the_best_rival_and_the_recipe():
    records = [made_up("zoo", None, "default", 0, 0.3), made_up("zoo", None, "mure", 0, 0.25)]
    for seed, mrr in enumerate((0.41, 0.39, 0.40)):
        records.append(made_up("wn18rr", 32, "default", seed, mrr))
        records.append(made_up("wn18rr", 32, "tuned", seed, 0.42))
        records.append(made_up("wn18rr", 32, "pykeen_complex", seed, 0.32))
        records.append(made_up("wn18rr", 32, "rotl", seed, 0.2))
    text = report(records)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[1] == (
        "| wn18rr | 32 | 60 | .100 | .400 ± .010 | .420 ± .000 |  | .200 ± .000 |  |  |  | "
        ".320 ± .000 | PyKEEN ComplEx | +25.0 % | -4.8 % |"
    )
    assert lines[2] == (
        "| zoo | own | 60 | .100 | .300 |  | .250 |  |  |  |  |  | MuRE | +20.0 % |  |"
    )
    assert lines[4] == "| wn18rr | 1,200 | 3 | 5,000 | 90 | 100 |"
    assert "Seeds 0, 1, 2. ± is the standard deviation" in text
    assert "AMD EPYC, 2 threads" in text


def test_what_has_a_record_is_not_run_again(tmp_path):
    folder = tmp_path / "graphs" / "little"
    rows = [(f"e{i}", "next", f"e{(i + k) % 50}") for i in range(50) for k in (1, 2)]
    write(folder, split(rows))
    graph = KnowledgeGraph.read(folder)
    assert [len(triples) for triples in graph.splits.values()] == [90, 5, 5]

    def own_data(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                sys.executable, "-m", "benchmarks.own_data", str(folder.parent), "--folder",
                str(tmp_path / "out"), "--threads", "1", *arguments,
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    missing = own_data("--graphs", "little")
    assert (missing.returncode, missing.stderr.strip()) == (1, "--seconds is needed for little")
    asked = ("--graphs", "little", "--systems", "default", "tuned", "--seconds", "1")
    done = own_data(*asked)
    assert done.returncode == 0, done.stderr
    assert "1 runs, 0 minutes" in done.stdout
    (found,) = read_records(tmp_path / "out" / "runs.jsonl")
    assert task_of(found) == Task("little", None, "default", 0, 1.0, 1)
    assert found["sizes"] == {"entities": 50, "relations": 1, "train": 90, "valid": 5, "test": 5}
    assert 0 < found["test"]["mrr"] <= 1
    assert found["settings"]["config"]["dataset"]["path"] == "little"
    assert str(tmp_path) not in json.dumps(found)
    again = own_data(*asked)
    assert (again.returncode, "0 runs" in again.stdout) == (0, True), again.stderr


@pytest.mark.parametrize("system", HALE)
def test_rivals_are_without_a_recipe_and_have_the_rows_dimension(system, tmp_path):
    task = Task("wn18rr", 64, system, 1, 60.0, 2)
    overrides = hale_overrides(task, 40_943, 86_835)
    assert ("~recipe" in overrides) == (system in ("mure", "rotl", "complex"))
    assert ("dataset=tsv" in overrides) == (system != "tuned")
    cfg = compose(overrides)
    assert cfg.model.dim == 64
    assert (cfg.seed, cfg.threads, cfg.budget.seconds) == (1, 2, 60)
    if system in ("mure", "rotl"):
        assert (cfg.data.batch_size, cfg.loss.mask_known) == (8192, True)
        assert round(cfg.loss.alpha * 8192) == 244


def test_every_graph_has_seconds_and_every_system_a_column():
    assert {graph_and_dim(row)[0] for row in ROWS} == set(SECONDS)
    assert graph_and_dim("codex-s@32") == ("codex-s", 32)
    tuned = [row for row in ROWS if applies(Task(*graph_and_dim(row), "tuned", 0, 1.0, 1))]
    assert len({graph_and_dim(row)[0] for row in tuned}) == 4
    records = [made_up("go", None, name, 0, 0.2) for name in SYSTEMS]
    assert report(records).count(" .200 ") == len(SYSTEMS)


def test_records_are_added(tmp_path):
    path = tmp_path / "new" / "runs.jsonl"
    assert read_records(path) == []
    append(path, {"graph": "é"})
    append(path, {"graph": "b"})
    assert [r["graph"] for r in read_records(path)] == ["é", "b"]


def test_wordnet_has_names_with_senses_and_each_symmetric_pair_once():
    lines = {f"{kind}.{part}": [] for kind in ("data", "index") for part in ("verb", "adv")} | {
        "data.noun": [
            "  1 a line of the licence",
            "00000001 03 n 02 Cat 0 felid 0 003 @ 00000002 n 0000 ~ 00000002 n 0000 "
            "+ 00000003 a 0101 | an animal | with whiskers",
            "00000002 03 n 01 animal 0 001 ~ 00000001 n 0000 | alive",
        ],
        "data.adj": ["00000003 00 s 01 catty(p) 0 001 + 00000001 n 0101 | like a cat"],
        "index.noun": [
            "cat n 2 1 @ 2 1 00000009 00000001",
            "animal n 1 1 ~ 1 1 00000002",
        ],
        "index.adj": ["catty a 1 1 + 1 1 00000003"],
    }
    assert list(wordnet_triples(lines)) == [
        ("Cat.n.02", "hypernym", "animal.n.01"),
        ("Cat.n.02", "derivationally_related_form", "catty.a.01"),
    ]


def test_a_package_index_becomes_triples_without_versions():
    text = """Package: a
Source: src (1.2)
Maintainer: Team <t@example.org>
Depends: b (>= 1) | c:any,
 d
Tag: use::x, role::y,
 z::w
Homepage: https://Example.org:80/a

Package: b
Section: libs
"""
    assert list(debian_triples(text.splitlines())) == [
        ("a", "Depends", "b"),
        ("a", "Depends", "c"),
        ("a", "Depends", "d"),
        ("a", "Maintainer", "maintainer:Team"),
        ("a", "Source", "source:src"),
        ("a", "Tag", "tag:use::x"),
        ("a", "Tag", "tag:role::y"),
        ("a", "Tag", "tag:z::w"),
        ("a", "Host", "host:example.org"),
        ("b", "Section", "section:libs"),
    ]
