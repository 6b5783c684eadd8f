"""Updates: graphs and models that grow, warm starts, and the runs made of them."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import hale
from hale.cli import run_command
from hale.cli.update import free_folder, settings_of
from hale.errors import DatasetError, HaleError
from hale.graphs.growth import grow, sources
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.triple_file import Form
from hale.models.base import QueryModel
from hale.models.euclidean import MuRE, TransE
from hale.models.growth import carry, grow_model, place_entities, row_kinds
from hale.models.hyperbolic import MuRP
from hale.runs.folders import find_runs
from hale.scoring.activations import Identity
from hale.settings.build import build
from hale.training.module import LinkPrediction
from hale.training.update import finish, prepare

CONF = Path(__file__).parents[1] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SETTINGS = {
    "loss": "hale", "activation": "hanon", "optimizer": "adam", "optimizer.lr": 0.03,
    "data.batch_size": 1024, "loss.alpha": 0.5, "validations": 2, "threads": 1,
}  # fmt: skip
NEW = [("e0", "one", "f0"), ("f0", "one", "e2"), ("f1", "two", "f0"), ("f2", "near", "f2")]


def make(choice: str, entities: int, relations: int) -> QueryModel:
    cfg = OmegaConf.create({"model": OmegaConf.load(CONF / "model" / f"{choice}.yaml")})
    cfg.model.dim = 16
    return build(cfg, "model", num_entities=entities, num_relations=relations)


@pytest.fixture(scope="module")
def parent(graph, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ring"
    hale.fit(graph, model="mure", steps=120, dim=16, folder=folder, settings=SETTINGS)
    return folder


def rows(triples) -> dict:
    return sources(triples, Form())


def names(graph: KnowledgeGraph, triple_T3: torch.Tensor) -> set[tuple[str, str, str]]:
    return {
        (graph.entities[h], graph.relations[r], graph.entities[t]) for h, r, t in triple_T3.tolist()
    }


# graphs


def test_old_ids_stay_and_new_names_follow(graph):
    growth = grow(graph, rows(NEW))
    assert growth.graph.entities == (*graph.entities, "f0", "f1", "f2")
    assert growth.graph.relations == (*graph.relations, "near")
    assert growth.graph.train[: len(graph.train)].equal(graph.train)
    assert names(growth.graph, growth.graph.train[len(graph.train) :]) == set(NEW)
    assert growth.graph.valid.equal(graph.valid)
    assert growth.graph.test.equal(graph.test)
    assert (growth.added, growth.removed, growth.old_entities, growth.old_relations) == (
        4,
        0,
        60,
        3,
    )


def test_triples_of_any_split_are_skipped(graph):
    known = [tuple(t) for t in names(graph, torch.cat((graph.train[:5], graph.test)))]
    growth = grow(graph, rows([*known, NEW[0], NEW[0]]))
    assert growth.added == 1
    assert len(growth.graph.train) == len(graph.train) + 1
    with pytest.raises(DatasetError, match="nothing to update"):
        grow(graph, rows(known))


@given(st.data())
def test_adding_then_removing_gives_the_triples_back(graph, data):
    name = st.sampled_from([f"e{i}" for i in range(55, 65)])
    triple = st.tuples(name, st.sampled_from(["one", "near"]), name)
    all_old = names(graph, torch.cat(list(graph.splits.values())))
    added = data.draw(st.lists(triple, min_size=1, max_size=20))
    fresh = set(added) - all_old
    if not fresh:
        return
    grown = grow(graph, rows(added)).graph
    assert names(grown, grown.train) == names(graph, graph.train) | fresh
    back = grow(grown, {}, rows(sorted(fresh))["train"])
    assert back.removed == len(fresh)
    assert all(back.graph.splits[split].equal(graph.splits[split]) for split in graph.splits)
    assert back.graph.entities == grown.entities


def test_a_folder_adds_to_each_split(graph, tmp_path):
    for split, line in (("train", "g\tone\te1"), ("valid", "e9\tone\tg"), ("test", "g\ttwo\te3")):
        (tmp_path / f"{split}.txt").write_text(line + "\n")
    grown = grow(graph, sources(tmp_path, Form())).graph
    assert names(grown, grown.valid[-1:]) == {("e9", "one", "g")}
    assert names(grown, grown.test[-1:]) == {("g", "two", "e3")}
    assert [len(grown.splits[s]) - len(graph.splits[s]) for s in grown.splits] == [1, 1, 1]


def test_names_that_only_valid_or_test_have(graph):
    given = {"valid": rows([("h", "one", "e1"), ("e1", "one", "e9")])["train"]}
    with pytest.raises(DatasetError, match=r"rows\[0\]: 'h' is neither in the graph"):
        grow(graph, given)
    given = {"valid": rows([("h", "one", "e1"), ("e1", "one", "e9")])["train"]}
    dropped = grow(graph, given, unseen="drop")
    assert dropped.added == 1
    assert dropped.graph.entities == graph.entities
    given = {"valid": rows([("h", "one", "e1")])["train"]}
    assert grow(graph, given, unseen="keep").graph.entities[-1] == "h"


def test_nothing_to_add_is_one_line(graph, tmp_path):
    (tmp_path / "empty.tsv").write_text("")
    for added in ([], str(tmp_path / "empty.tsv")):
        with pytest.raises(DatasetError, match="nothing to update"):
            grow(graph, sources(added, Form()))


def test_what_cannot_be_removed(graph):
    given = rows([sorted(names(graph, graph.train))[0], ("e0", "one", "e50")])["train"]
    with pytest.raises(DatasetError, match=r"rows\[1\]: the graph has no triple \(e0, one, e50\)"):
        grow(graph, {}, given)
    with pytest.raises(DatasetError, match="all triples of valid would be removed"):
        grow(graph, {}, rows(sorted(names(graph, graph.valid)))["train"])


def test_weights_follow_their_triples():
    old = KnowledgeGraph.from_triples(
        [("a", "r", "b", 3.0), ("b", "r", "c", 0.5)], columns=[0, 1, 2], weight=3,
        valid=[("a", "r", "c", 1.0)], test=[("c", "r", "a", 1.0)],
    )  # fmt: skip
    first = rows([("a", "r", "b")])["train"]
    grown = grow(old, rows([("c", "r", "d")]), first).graph
    assert names(grown, grown.train) == {("b", "r", "c"), ("c", "r", "d")}
    assert grown.weight.tolist() == [0.5, 1.0]


# models


@pytest.mark.parametrize("choice", MODELS)
def test_the_old_part_of_a_grown_model_scores_as_before(choice):
    torch.manual_seed(0)
    old, new = make(choice, 7, 6).eval(), make(choice, 9, 10).eval()
    kinds = row_kinds(partial(make, choice))
    assert kinds["entity"] == "entity"
    assert "relation" in kinds.values()
    grow_model(new, old.state_dict(), kinds, torch.tensor([[0, 1, 7], [7, 5, 0]]))
    entity_B, old_B = torch.tensor([0, 3, 6, 2]), torch.tensor([0, 2, 3, 5])
    new_B = torch.tensor([0, 2, 5, 7])  # reciprocal relations come after 5 relations, not 3
    all_BE = torch.arange(7).expand(4, 7)
    before = old.scores(entity_B, old_B, Identity()).at(all_BE)
    after = new.scores(entity_B, new_B, Identity()).at(all_BE)
    assert torch.allclose(before, after, atol=1e-5)


def test_rows_of_relations_keep_their_reciprocals():
    carried = carry(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(6), "relation")
    assert carried.tolist() == [1, 2, 0, 3, 4, 0]
    assert carry(torch.ones(2, 3), torch.zeros(3, 3), "entity").sum(1).tolist() == [3, 3, 0]


@pytest.mark.parametrize("model_class", [TransE, MuRE, MuRP])
def test_new_entities_start_where_their_queries_point(model_class):
    torch.manual_seed(1)
    model = model_class(12, 4, 8)
    before = model.entity.detach().clone()
    # 8 by (0, r0, ?); 9 by (8, r0, ?), which is itself new; 10 by a new relation; 11 by nothing
    query_T3 = torch.tensor([[0, 0, 8], [8, 2, 0], [8, 0, 9], [9, 2, 8], [1, 1, 10], [10, 3, 1]])
    place_entities(model, query_T3, old_entities=8, old_relations=1)
    assert model.entity[:8].equal(before[:8])
    assert model.entity[10:].equal(before[10:])
    length = before[:8].norm(dim=1).mean()
    for entity, answer in ((0, 8), (8, 9)):
        point = model.query(model.entity[[entity]], torch.tensor([0]))[0]
        assert torch.cosine_similarity(point, model.entity[answer], 0) > 0.999
        assert model.entity[answer].norm().item() == pytest.approx(length.item(), rel=1e-4)


def test_a_new_entity_starts_at_the_mean_of_both_directions():
    torch.manual_seed(2)
    model = TransE(4, 2, 8)
    triple_T3 = torch.tensor([[0, 0, 3], [3, 0, 1]])
    place_entities(model, reciprocal(triple_T3, 1), old_entities=3, old_relations=1)
    shift_R = model.translation
    mean = (model.entity[0] + shift_R[0] + model.entity[1] + shift_R[1]) / 2
    assert torch.cosine_similarity(mean, model.entity[3], 0) > 0.999


# runs


def test_an_update_learns_what_is_new_and_keeps_what_was(parent, graph, tmp_path):
    new = [(f"e{i}", "one", f"f{i}") for i in range(0, 60, 6)]
    new += [(f"f{i}", "two", f"e{i + 3}") for i in range(0, 57, 6)]
    folder = tmp_path / "update"
    model = hale.update(parent, new, steps=80, folder=folder)
    before, after = hale.load(parent), hale.load(folder)
    assert after.graph == model.graph == grow(graph, rows(new)).graph
    known = graph.train
    assert after.evaluate(known).compute()["mrr"] > 0.9 * before.evaluate(known).compute()["mrr"]
    started = hale.load(folder / "start")
    fresh = after.ids(new)
    assert after.evaluate(fresh).compute()["mrr"] > started.evaluate(fresh).compute()["mrr"] + 0.05
    assert before.graph == graph


def test_the_record_names_the_parent_and_settings_do_not_add_up(parent, tmp_path):
    first = hale.update(parent, NEW, steps=4, folder=tmp_path / "first")
    second = hale.update(tmp_path / "first", [("f9", "one", "f1")], steps=6, folder=tmp_path / "2")
    assert first.record["parent"]["folder"] == str(parent.resolve())
    assert first.record["parent"]["fingerprint"] == hale.load(parent).graph.fingerprint
    assert second.record["parent"]["folder"] == str((tmp_path / "first").resolve())
    for model, steps in ((first, 4), (second, 6)):
        config = model.record["config"]
        assert config["optimizer"]["lr"] == pytest.approx(0.045)
        assert config["data"]["batch_size"] == 512
        assert config["budget"] == hale.load(parent).record["config"]["budget"] | {"steps": steps}
        names_chosen = {choice["name"] for choice in model.record["recipe"]["chosen"]}
        assert {"data.batch_size", "optimizer.lr"} <= names_chosen
    assert [run.path.name for run in find_runs(tmp_path)] == ["2", "first"]


def test_what_the_automatic_recipe_chose_follows_the_grown_graph(parent, tmp_path):
    def update(steps: int, folder: str, of: Path = parent, **settings) -> dict:
        given = {name.replace("_", ".", 1): value for name, value in settings.items()}
        model = hale.update(of, NEW, steps=steps, folder=tmp_path / folder, settings=given)
        assert finish(tmp_path / folder) == model.record  # which is kept
        return model.record

    chosen = hale.load(parent).record["config"]["loss"]["weight"]
    short, long = update(2, "short"), update(400, "long")
    assert short["config"]["loss"]["weight"] == 3.0
    assert abs(long["config"]["loss"]["weight"] - chosen) < 0.1
    why = {choice["name"]: choice["why"] for choice in short["recipe"]["chosen"]}
    assert why["loss.weight"] == "2 epochs; more in fewer, up to 3"
    assert {"loss.mask_known", "activation.beta", "activation.gamma"} < why.keys()
    again = hale.update(tmp_path / "short", [("f9", "one", "f1")], steps=400)
    assert again.record["config"]["loss"]["weight"] < 3.0
    assert update(2, "typed", loss_weight=1.25)["config"]["loss"]["weight"] == 1.25


@pytest.mark.parametrize("weight", [1.25, 3.0])  # 3 is the rules' own in few epochs
def test_a_weight_that_the_user_chose_stays(graph, weight):
    settings = {**SETTINGS, "loss.weight": weight}
    model = hale.fit(graph, model="mure", steps=2, dim=8, settings=settings)
    assert model.update(NEW, steps=200).record["config"]["loss"]["weight"] == weight


def test_a_graph_that_becomes_dense_is_trained_as_one(tmp_path):
    sparse = [(f"e{i}", f"r{k}", f"e{(i + k) % 60}") for i in range(60) for k in (1, 2, 3)]
    graph = hale.KnowledgeGraph.from_triples(sparse)
    model = hale.fit(graph, model="mure", steps=2, dim=8, settings={"loss": "hale", "threads": 1})
    dense = [(f"e{i}", "r1", f"e{k}") for i in range(30) for k in range(i % 3, 60, 3)]
    before, after = (m.record["config"] for m in (model, model.update(dense, steps=2)))
    assert [c["loss"]["mask_known"] for c in (before, after)] == [False, True]
    assert [c["activation"]["beta"] for c in (before, after)] == [2.0, 1.5]


def test_an_update_plans_anew_within_what_its_first_run_asked_for(tmp_path, graph):
    asked = {"threads": 1, "test": False, "data.valid_queries": 10, "data.ranking_batch_size": 64}
    model = hale.fit(graph, steps=2, dim=8, settings=asked | {"validations": 2})
    model = model.update(NEW, steps=2).update([("a new one", "r1", "e3")], steps=2)
    config = model.record["config"]
    assert (config["threads"], config["validations"]) == (1, 2)
    assert config["data"]["valid_queries"] == 10
    assert config["data"]["test_queries"] is None
    again = model.update([("a newer one", "r1", "e3")], steps=2, settings={"validations": 1})
    assert again.record["config"]["validations"] == 1


def test_an_update_that_chose_nothing_is_resumed(parent, tmp_path, monkeypatch):
    typed = {
        "data.batch_size": 512,
        "optimizer.lr": 0.01,
        "loss.weight": 2,
        "loss.mask_known": True,
    }
    model = hale.fit(
        hale.load(parent).graph, model="mure", steps=2, dim=8, folder=tmp_path / "first",
        settings={**SETTINGS, "loss.weight": 2, "loss.mask_known": True, "activation.beta": 1.5,
                  "activation.gamma": 10},
    )  # fmt: skip
    folder = tmp_path / "update"
    prepare(model, [NEW], [], folder, {"budget.steps": 20, **typed})
    interrupted(monkeypatch, folder, at_step=12)
    assert json.loads((folder / "recipe.json").read_text())["chosen"] == []
    assert finish(folder)["steps"] == 20


def test_what_is_typed_when_an_update_is_resumed_is_not_ignored(parent, tmp_path, monkeypatch):
    folder = tmp_path / "update"
    prepare(hale.load(parent), [NEW], [], folder, {"budget.steps": 20})
    interrupted(monkeypatch, folder, at_step=12)
    with pytest.raises(HaleError, match="another optimizer"):
        finish(folder, {"optimizer.lr": 0.01})


def test_from_a_model_in_memory_and_back(graph):
    model = hale.fit(graph, model="transe", steps=5, dim=8, settings=SETTINGS)
    grown = model.update(NEW, steps=3)
    assert grown.graph.num_entities == 63
    assert grown.predict(head="f0", relation="near", k=2)
    smaller = grown.update(remove=NEW[:1], steps=3, settings={"optimizer.lr": 0.01})
    assert len(smaller.graph.train) == len(grown.graph.train) - 1
    assert smaller.record["config"]["optimizer"]["lr"] == 0.01


def interrupted(monkeypatch, folder: Path, at_step: int) -> None:
    """Train a prepared update until it is interrupted."""
    step = LinkPrediction.training_step

    def stop(self, batch, batch_idx):
        if self.trainer.global_step == at_step:
            raise RuntimeError("interrupted")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(LinkPrediction, "training_step", stop)
        with pytest.raises(RuntimeError, match="interrupted"):
            finish(folder)


@pytest.mark.parametrize("at_step", [0, 13])
def test_a_resumed_update_is_the_uninterrupted_one(parent, tmp_path, monkeypatch, capsys, at_step):
    whole = hale.update(parent, NEW, steps=20, folder=tmp_path / "whole")
    part = tmp_path / "part"
    prepare(hale.load(parent), [NEW], [], part, {"budget.steps": 20})
    interrupted(monkeypatch, part, at_step)
    assert run_command(["resume", str(part)]) == 0
    resumed = hale.load(part)
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name


def test_the_same_command_resumes_and_another_one_is_refused(parent, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "new.tsv", tmp_path / "out"
    file.write_text("".join("\t".join(triple) + "\n" for triple in NEW))
    prepare(hale.load(parent), [file], [], out, {"budget.steps": 20})
    interrupted(monkeypatch, out, 13)
    command = ["update", str(parent), "--add", str(file), "budget.steps=20", "--out", str(out)]
    assert run_command([*command, "seed=1"]) == 1
    assert "holds another update" in capsys.readouterr().err
    assert run_command(command) == 0
    assert hale.load(out).record["steps"] == 20
    assert run_command(command) == 0
    assert "(finished)" in capsys.readouterr().out
    assert run_command(["evaluate", str(out)]) == 0
    assert run_command(["update", str(out), "--remove", str(file), "budget.steps=2"]) == 0
    assert hale.load(tmp_path / "out-update-1").record["dataset_fingerprint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget.steps=3"], "give --add TRIPLES, --remove TRIPLES or both"),
        (["--add", "missing.tsv"], "missing.tsv does not exist"),
        (["--add", "new.tsv", "model.dim=8"], "model.dim is that of the run"),
        (["--add", "new.tsv", "dataset.path=x"], "dataset.path is that of the run"),
        (["--add", "new.tsv", "optimizer=adagrad"], "an update changes values, not choices"),
        (["--add", "new.tsv", "optimizer.rate=1"], "no setting .* is called optimizer.rate"),
        (["--add", "new.tsv", "budget.seconds=-1"], "seconds must be a finite number above 0"),
        (["--add", "new.tsv", "optimizer.lr=-1"], r"optimizer\.lr must be a finite number above 0"),
        (["--add", "new.tsv", "dataset.unseen=no"], "unseen must be error, keep or drop"),
        (["--add", "new.tsv", "seed=x"], "seed must be a whole number"),
        (["seconds", "--add", "new.tsv"], "'seconds' is not a setting: write KEY=VALUE"),
        (["--add", "known.tsv"], "the graph has all triples"),
        (["--remove", "new.tsv"], "new.tsv:1: no entity is named 'f0'"),
        (["--add", "new.tsv", "--out", "."], "holds another run"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_writes_nothing(
    parent, graph, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "csv").mkdir()
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "new.tsv").write_text("e0\tone\tf0\n")
    (tmp_path / "known.tsv").write_text("\t".join(sorted(names(graph, graph.test))[0]) + "\n")
    siblings = sorted(path.name for path in [*tmp_path.iterdir(), *parent.parent.iterdir()])
    assert run_command(["update", str(parent), *words]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error, re.IGNORECASE), error
    assert siblings == sorted(p.name for p in [*tmp_path.iterdir(), *parent.parent.iterdir()])


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert run_command(["update", str(tmp_path), "--add", "x.tsv"]) == 1
    assert "has no trained model" in capsys.readouterr().err


def test_default_folders_count_on(tmp_path):
    for name in ("ring-update-1", "ring-update-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text("{}")
    assert free_folder(tmp_path / "ring").name == "ring-update-3"
    assert free_folder(tmp_path / "ring-update-4").name == "ring-update-5"


def test_values_are_read_as_yaml():
    words = ["optimizer.betas=[.9,.99]", "budget.seconds=20", "schedule.floor=null"]
    assert settings_of(words) == {
        "optimizer.betas": [0.9, 0.99], "budget.seconds": 20, "schedule.floor": None,
    }  # fmt: skip


def test_an_update_of_what_is_not_a_model(tmp_path):
    with pytest.raises(HaleError, match="not a folder"):
        hale.update(tmp_path / "none", NEW)


def test_the_benchmark_runs_the_protocol(graph, tmp_path, monkeypatch, capsys):
    from benchmarks import growing

    for snapshot, part in enumerate((slice(0, None, 2), slice(1, None, 2))):
        folder = tmp_path / "rings" / str(snapshot)
        folder.mkdir(parents=True)
        for split, triple_T3 in graph.splits.items():
            lines = ["\t".join(t) for t in sorted(names(graph, triple_T3[part]))]
            (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    words = ["model=transe", "model.dim=8", "data.batch_size=64", "loss.alpha=.5", "logger=none"]
    options = ["--steps", "--seconds", "9", "--ranked", "5", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["growing", str(tmp_path / "rings"), *words, *options])
    growing.main()
    *_, head, _, row = capsys.readouterr().out.strip().split("\n")
    assert head.startswith("| snapshot |")
    assert row.startswith("| 1 | 60 | 140 |")
    text = (tmp_path / "out" / "rings.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    ways = [(growing.TOTAL, 9), (growing.UPDATE, 1), (growing.SHORT, 1), (growing.TOTAL, 10)]
    assert [(row["way"], row["steps"]) for row in rows] == ways
    assert rows[1]["ranked"] == [5, 5]
    assert rows[1]["mrr"] == pytest.approx(sum(rows[1]["mrr_by_test"]) / 2)
    path = tmp_path / "out" / "rings.jsonl"
    path.write_text(f"{text}{json.dumps(rows[0] | {'seed': 1})}\n")  # interrupted in seed 1
    monkeypatch.setattr("sys.argv", [*sys.argv, "--seeds", "2"])
    growing.main()
    assert path.read_text().startswith(text)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["seed"], row["way"]) for row in rows] == [
        (seed, way) for seed in (0, 1) for way, _ in ways
    ]


def test_files_with_an_equals_sign_and_runs_with_update_in_their_names(parent, tmp_path, capsys):
    folder = tmp_path / "date=2024-01"
    folder.mkdir()
    file = folder / "part.tsv"
    file.write_text("".join("\t".join(triple) + "\n" for triple in NEW))
    out = str(tmp_path / "out")
    command = ["update", str(parent), "--add", str(file), "budget.steps=2", "--out", out]
    assert run_command(command) == 0
    assert hale.load(out).graph.num_entities == 63
    assert free_folder(tmp_path / "kg-update-2024-01").name == "kg-update-2024-01-update-1"
    assert free_folder(tmp_path / "kg-update-3").name == "kg-update-4"
