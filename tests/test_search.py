"""A search inside the budget: what it spends, whom it keeps, and that it can be interrupted."""

import json
from itertools import pairwise

import pytest

import hale
from hale.errors import DivergedError, HaleError
from hale.settings import automatic
from hale.settings.automatic import Facts
from hale.settings.compose import compose
from hale.training.budget import WallClockBudget
from hale.training.search import SHARE

QUICK = {"threads": 1, "test": False, "validations": 2, "recipe": "search"}


def spent_choice(folder) -> dict:
    chosen = json.loads((folder / "recipe.json").read_text())["chosen"]
    return next(c for c in chosen if c["name"] == "budget.spent")


def test_the_better_half_goes_on_and_the_best_is_trained(tmp_path, graph):
    model = hale.fit(graph, steps=360, folder=tmp_path, settings=QUICK)
    trials = {}
    for path in tmp_path.glob("search/*/result.json"):
        record = json.loads(path.read_text())
        trials.setdefault(record["config"]["budget"]["steps"], {})[
            path.parent.name.rsplit("_", 1)[0]
        ] = record["valid/mrr"]
    rounds = [trials[unit] for unit in sorted(trials)]
    names = {str(candidate) for candidate in automatic.candidates({})}
    assert set(rounds[0]) == names
    for before, after in pairwise(rounds):
        assert len(after) == (len(before) + 1) // 2
        out = max((before[name] for name in before if name not in after), default=-1)
        assert min(before[name] for name in after) >= out
    best = max(rounds[-1], key=rounds[-1].__getitem__)
    assert best.split("_loss")[0] == model.record["choices"]["model"]
    spent = spent_choice(tmp_path)
    assert spent["value"] == sum(unit * len(names) for unit, names in trials.items())
    assert 0 < spent["value"] <= SHARE * 360
    assert model.record["steps"] == 360 - spent["value"]
    assert model.record["config"]["budget"] | {"_target_": ""} == {
        "_target_": "", "seconds": None, "steps": 360, "spent": spent["value"],
    }  # fmt: skip
    assert all(name in spent["why"] for name in names)
    assert model.record["recipe"]["kind"] == "search"


def test_an_interrupted_search_takes_its_trials_again(tmp_path, graph, monkeypatch):
    whole = hale.fit(graph, steps=200, folder=tmp_path / "whole", settings=QUICK)
    from hale.training import search

    made, original = [], search.make_run

    def interrupted(trial, *rest, **options):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(trial.folder.name)
        return original(trial, *rest, **options)

    monkeypatch.setattr(search, "make_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hale.fit(graph, steps=200, folder=tmp_path / "killed", settings=QUICK)
    monkeypatch.setattr(search, "make_run", original)
    resumed = hale.fit(graph, steps=200, folder=tmp_path / "killed", settings=QUICK)
    assert resumed.record["valid/mrr"] == whole.record["valid/mrr"]
    assert spent_choice(tmp_path / "killed") == spent_choice(tmp_path / "whole")


@pytest.mark.parametrize("budget", [{"steps": 200}, {"seconds": 1.0}])
def test_a_trial_that_diverges_is_last_and_has_spent_its_budget(
    tmp_path, graph, monkeypatch, budget
):
    from hale.training import search

    original, share = search.make_run, []

    class Diverging:
        def train(self):
            raise DivergedError("the loss is NaN")

    def make_run(trial, *rest, **options):
        if not trial.name.startswith("complex"):
            return original(trial, *rest, **options)
        share.append(trial.cfg.budget[next(iter(budget))])
        return Diverging()

    monkeypatch.setattr(search, "make_run", make_run)
    model = hale.fit(graph, **budget, folder=tmp_path, settings=QUICK)
    assert model.record["choices"]["model"] != "complex"
    assert len(share) == 1
    records = [json.loads(path.read_text()) for path in tmp_path.glob("search/*/result.json")]
    key = "steps" if "steps" in budget else "train_seconds"
    spent = share[0] + sum(record[key] for record in records)
    assert spent_choice(tmp_path)["value"] == pytest.approx(spent, abs=1e-3)


def test_only_what_is_open_is_searched():
    assert {str(c) for c in automatic.candidates({"model": "rotl"})} == {
        "rotl", "rotl_loss.weightx2",
    }  # fmt: skip
    assert [str(c) for c in automatic.candidates({"model": "complex"})] == ["complex"]
    assert not any(c.factors for c in automatic.candidates({"loss": "sam_neg"}))
    odd = {candidate.choices["model"] for candidate in automatic.candidates({}, 33)}
    assert odd == {"mure", "rescal"}
    known = Facts(100, 5, 1000, 3.0, 0.0)
    for candidate in automatic.candidates({}):
        chosen = {c.name: c.value for c in automatic.combination(known, candidate.choices)}
        assert set(chosen) == {"loss", "activation", "optimizer"}


def test_seconds_of_a_search_are_on_the_training_clock():
    budget = WallClockBudget(seconds=10, spent=4, clock=lambda: 0.0)
    assert (budget.clock.train_seconds, budget.progress) == (4.0, 0.0)
    budget.clock.train_seconds = 7.0
    assert budget.progress == 0.5
    with pytest.raises(HaleError, match="seconds must be a finite number above 4"):
        WallClockBudget(seconds=4, spent=4)


@pytest.mark.parametrize(
    ("typed", "seconds", "steps"),
    [
        (["budget.steps=7"], None, 7),
        (["budget.seconds=7"], 7, None),
        (["dataset=wn18rr", "budget.steps=7"], None, 7),
        (["budget.seconds=null", "budget.steps=7"], None, 7),
        (["budget.seconds=3", "budget.steps=7"], 3, 7),
        (["dataset=fb15k237"], 300, None),
    ],
)
def test_one_typed_budget_replaces_the_other(typed, seconds, steps):
    budget = compose(typed).budget
    assert (budget.seconds, budget.steps) == (seconds, steps)


def test_a_budget_without_a_step_for_each_trial_is_refused_before_it_is_spent(tmp_path, graph):
    with pytest.raises(HaleError, match=r"budget\.steps of at least 60, got 59"):
        hale.fit(graph, steps=59, folder=tmp_path, settings=QUICK)
    assert not (tmp_path / "search").exists()


def test_of_one_candidate_nothing_is_searched(tmp_path, graph):
    model = hale.fit(graph, "complex", steps=6, dim=8, folder=tmp_path, settings=QUICK)
    assert model.record["steps"] == 6
    assert spent_choice(tmp_path)["value"] == 0


def test_what_is_typed_is_not_varied(tmp_path, graph):
    hale.fit(graph, steps=60, folder=tmp_path, settings={**QUICK, "loss.weight": 2})
    assert not list(tmp_path.glob("search/*weight*"))


def test_the_trials_of_another_search_are_refused(tmp_path, graph):
    hale.fit(graph, steps=60, dim=8, folder=tmp_path, settings=QUICK)
    for name in ("result.json", "recipe.json", "plan.json", "checkpoints/last.ckpt"):
        (tmp_path / name).unlink()
    with pytest.raises(HaleError, match=r"search/\w+ holds a finished run with another seed"):
        hale.fit(graph, steps=60, dim=8, seed=1, folder=tmp_path, settings=QUICK)
