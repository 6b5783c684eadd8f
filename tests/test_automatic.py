"""The automatic recipe: what is counted, what follows, and that the user always wins."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import hale
from hale.cli.recipe import setting_rows
from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.settings import automatic, conf_dir
from hale.settings.automatic import Facts
from hale.settings.recipe import GROUPS, deciding_rules, kind, read_rules
from hale.training.fit import _text, overrides_of
from hale.training.job import job_of, with_choices
from hale.training.settle import RECIPE_FILE, automatic_choices, epoch_choices, settled

QUICK = {"threads": 1, "test": False, "validations": 1}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


@st.composite
def graphs(draw) -> KnowledgeGraph:
    entities, relations = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    triples = st.tuples(
        st.integers(0, entities - 1), st.integers(0, relations - 1), st.integers(0, entities - 1)
    )
    train = sorted(draw(st.sets(triples, min_size=1, max_size=20)))
    splits = [torch.tensor(train), torch.tensor(train[:1]), torch.tensor(train[:1])]
    names = tuple(f"e{i}" for i in range(entities)), tuple(f"r{i}" for i in range(relations))
    return KnowledgeGraph("drawn", *names, *splits)


@settings(deadline=None)
@given(graphs())
def test_facts_are_counted_as_by_hand(graph):
    train = {tuple(triple) for triple in graph.train.tolist()}
    queries = {(h, r, 0) for h, r, _ in train} | {(t, r, 1) for _, r, t in train}
    symmetric = sum((t, r, h) in train and h != t for h, r, t in train)
    known = automatic.facts(graph)
    assert (known.entities, known.relations, known.triples) == (
        graph.num_entities, graph.num_relations, len(train),
    )  # fmt: skip
    assert known.answers == pytest.approx(2 * len(train) / len(queries))
    assert known.symmetric == pytest.approx(symmetric / len(train))


def test_every_combination_has_values_that_its_parts_take():
    known = Facts(20_000, 10, 100_000, 2.0, 0.1)
    load = cache(OmegaConf.load)
    for chosen in itertools.product(*map(choices, GROUPS[1:])):
        names = dict(zip(GROUPS[1:], chosen, strict=True))
        for choice in automatic.values(known, names, 32, 1000):
            group, _, key = choice.name.partition(".")
            file = conf_dir() / group / f"{names.get(group)}.yaml"
            leaf = load(file) if file.is_file() else load(conf_dir() / "config.yaml")[group]
            assert key in leaf, (names, choice)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 10**8), st.floats(1, 100), st.floats(0, 1))
def test_what_is_chosen_stays_within_bounds(entities, triples, answers, symmetric):
    known = Facts(entities, 1, triples, answers, symmetric)
    chosen = {c.name: c.value for c in automatic.combination(known, {"loss": "hale"})}
    values = {
        c.name: c.value
        for steps in (None, 100, 10_000)
        for c in automatic.values(known, chosen | {"loss": "hale"}, 32, steps)
    }
    batch = values["data.batch_size"]
    assert batch & (batch - 1) == 0
    assert 0 < values["loss.alpha"] <= 1
    assert values["loss.alpha"] * batch * entities <= max(
        automatic.PAIRS, automatic.QUERIES[0] * entities
    ) * 1.01 + entities  # fmt: skip
    assert 0 < values["optimizer.lr"] < 1 if "optimizer.lr" in values else True


def test_fixed_choices_are_kept_and_the_others_suit_them():
    for entities in (100, 10**6):
        known = Facts(entities, 5, 10 * entities, 3.0, 0.0)
        for fixed in ({"model": "complex"}, {"model": "rotl"}, {"loss": "sam_neg"}, {}):
            chosen = {c.name: c.value for c in automatic.combination(known, fixed)}
            assert not set(chosen) & set(fixed)
            assert set(chosen) | set(fixed) == set(GROUPS[1:])
            whole = chosen | fixed
            if whole["model"] == "complex":
                assert (whole["loss"], whole["optimizer"]) == ("all_neg", "adagrad")
            if whole["model"] == "rotl":
                assert (whole["loss"], whole["activation"]) == ("hale", "hanon")


@pytest.mark.parametrize(
    ("typed", "model"),
    [(None, "complex"), (126, "compounde"), (127, "mure"), (128, "complex"), (129, "mure")],
)
def test_a_bilinear_model_wants_many_dimensions(tmp_path, graph, typed, model):
    known = replace(automatic.facts(graph), entities=1000, answers=4.0)
    job = job_of(["dataset=memory", *([f"model.dim={typed}"] if typed else [])], tmp_path)
    chosen = automatic_choices(job, known)
    assert next(c.value for c in chosen if c.name == "model") == model
    assert "model.dim" not in {c.name for c in chosen} or model == "complex"
    if typed == 126:
        loss = next(c for c in chosen if c.name == "loss")
        assert loss.why.endswith("126 dimensions are fewer than 128")
    crowded = automatic_choices(job, replace(known, answers=101.0))
    assert next(c.value for c in crowded if c.name == "model") == "mure"


def test_a_dataset_with_rules_is_tuned_and_another_automatic():
    assert kind("wn18rr/hale/hanon/adam/rotl") == "tuned"
    assert kind("tsv/hale/hanon/adam/rotl") == kind("auto") == "auto"
    assert kind("search") == "search"
    assert kind(None) is None


def test_the_user_wins_and_the_rest_is_chosen(tmp_path, graph):
    typed = ["dataset=memory", "model=rotl", "optimizer.lr=0.005", "data.batch_size=64"]
    job = settled(job_of(typed, tmp_path), graph)
    assert (job.cfg.optimizer.lr, job.cfg.data.batch_size) == (0.005, 64)
    rules = deciding_rules(read_rules(conf_dir() / "recipe/auto.yaml"), job.choices, 32)
    assert job.cfg.optimizer.eps == rules["optimizer.eps"].values["optimizer.eps"]
    assert job.cfg.loss.weight == pytest.approx(automatic.EPOCHS / 400, abs=3)
    assert job.choices["model"] == "rotl"
    strategy = settled(job_of(["dataset=memory", "strategy=sam_neg"], tmp_path / "b"), graph)
    assert (strategy.choices["loss"], strategy.choices["model"]) == ("sam_neg", "rotl")
    assert strategy.cfg.loss.margin == 3.0


def test_a_tuned_recipe_follows_the_epochs(tmp_path):
    few = epoch_choices(job_of(["dataset=wn18rr"], tmp_path), 30)
    assert {c.name: c.value for c in few} == {"optimizer.lr": 0.03, "loss.weight": 2.0}
    assert all("epochs <=" in c.why for c in few)
    more = epoch_choices(job_of(["dataset=wn18rr"], tmp_path), 100)
    assert {c.name for c in more} == {"optimizer.lr"}
    assert not epoch_choices(job_of(["dataset=wn18rr"], tmp_path), 200)
    assert not epoch_choices(job_of(["dataset=wn18rr", "experiment=fig2"], tmp_path), 30)
    assert not epoch_choices(job_of(["dataset=wn18rr", "recipe=auto"], tmp_path), 30)
    assert not epoch_choices(job_of(["dataset=codex_m", "model.dim=256"], tmp_path), 30)
    typed = job_of(["dataset=wn18rr", "optimizer.lr=0.015"], tmp_path)
    job = with_choices(typed, epoch_choices(typed, 30))
    assert (job.cfg.optimizer.lr, job.cfg.loss.weight) == (0.015, 2.0)
    assert job.cfg.loss.alpha == typed.cfg.loss.alpha == 0.015


def test_another_command_before_any_training_chooses_anew(tmp_path, graph):
    settled(job_of(overrides_of({"budget.steps": 2, "seed": 0, "model.dim": 8}), tmp_path), graph)
    model = hale.fit(graph, model="complex", steps=2, folder=tmp_path, settings=QUICK)
    kept = json.loads((tmp_path / RECIPE_FILE).read_text())
    assert "loss" in {entry["name"] for entry in kept["chosen"]}
    assert model.record["choices"]["loss"] == "all_neg"


def test_what_was_chosen_is_kept_and_taken_again(tmp_path, graph):
    command = overrides_of({"budget.steps": 2, "seed": 0, **QUICK})
    first = settled(job_of(command, tmp_path), graph)
    path = tmp_path / RECIPE_FILE
    kept = json.loads(path.read_text())
    chosen = kept["chosen"]
    assert all(set(entry) == {"name", "value", "why"} and entry["why"] for entry in chosen)
    for entry in chosen:
        if entry["name"] == "data.batch_size":
            entry["value"] = 123
    path.write_text(json.dumps(kept))
    again = hale.fit(graph, steps=2, folder=tmp_path, settings=QUICK)
    assert again.record["config"]["data"]["batch_size"] == 123
    assert again.record["recipe"]["kind"] == "auto"
    assert first.cfg.data.batch_size != 123
    path.write_text("{")
    with pytest.raises(HaleError, match="damaged"):
        hale.fit(graph, steps=2, folder=tmp_path, settings=QUICK)


def test_hale_recipe_shows_what_a_run_then_has(tmp_path):
    triples = tmp_path / "ring.tsv"
    rows = [f"e{i}\tstep{k}\te{(i + k) % 40}\n" for i in range(40) for k in (1, 2, 3, 5)]
    triples.write_text("".join(rows))
    chosen = ["dataset=tsv", f"dataset.path={triples}", "model.dim=16", "budget.steps=3",
              "budget.seconds=null", "threads=1", "logger=none", "validations=1"]  # fmt: skip
    shown = {row["setting"]: row for row in setting_rows(chosen)}
    assert shown["loss"]["from"].startswith("automatic: ")
    assert shown["model.dim"]["from"] == "command line"
    done = subprocess.run(
        [sys.executable, "-m", "hale.run", *chosen, "hydra.run.dir=out"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/result.json").read_text())
    kept = OmegaConf.load(tmp_path / "out/.hydra/config.yaml")
    for name, row in shown.items():
        if name in GROUPS:
            assert record["choices"][name] == json.loads(row["value"])
        elif not name.startswith("data."):  # those are planned by measured seconds
            value = OmegaConf.select(OmegaConf.create(record["config"]), name)
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            assert plain == json.loads(row["value"]), name
    assert OmegaConf.to_container(kept, resolve=True) == record["config"]


def test_fit_trains_as_the_command_line_does(tmp_path):
    triples = tmp_path / "ring.tsv"
    rows = [(f"e{i}", f"step{k}", f"e{(i + k) % 40}") for i in range(40) for k in (1, 2, 3, 5)]
    triples.write_text("".join("\t".join(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-m", "hale.run", "dataset=tsv", f"dataset.path={triples}", "model=mure",
         "budget.seconds=null", "budget.steps=20", "threads=1", "logger=none", "seed=3",
         "hydra.run.dir=out"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = hale.load(tmp_path / "out")
    model = hale.fit(
        KnowledgeGraph.read(triples), "mure", steps=20, seed=3, settings={"threads": 1}
    )
    assert model.record["test/mrr"] == command.record["test/mrr"]
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.model.parameters(), command.model.parameters(), strict=True)
    )
    assert model.predict(head="e0", relation="step1", k=3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "rotz"}, "rotz"),
        ({"settings": {"loss.alpa": 1}}, "alpa"),
        ({"steps": 3, "seconds": 2}, "exactly one of budget.seconds and budget.steps"),
        ({"settings": {"dataset": "family"}}, "dataset"),
        ({"dim": 0}, "model.dim"),
    ],
)
def test_fit_refuses_in_one_line(graph, arguments, words):
    with pytest.raises(HaleError, match=words) as refused:
        hale.fit(graph, **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["it's a, b=c", "a\\b", "", "x y", "${no}", "1e3", 7, 0.5, None, True, ["a b", 2]]
)
def test_any_value_survives_hydras_grammar(tmp_path: Path, value):
    job = job_of([f"+extra={_text(value)}"], tmp_path)
    found = OmegaConf.to_container(job.cfg, resolve=False)["extra"]
    assert found == value
