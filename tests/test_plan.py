"""The plan of a run: what it measures, what it decides, and what it says."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hale
from hale.errors import HaleError
from hale.graphs.data_module import QueryDataModule
from hale.training.pace import Pace, fastest_pace, measure_pace
from hale.training.plan import FEWEST_QUERIES, evaluation_plan, keep_plan, kept_plan
from hale.training.summary import duration, plan_lines, queries

DEFAULTS = {
    "budget_seconds": 60.0, "budget_steps": None, "steps_per_epoch": 20, "validations": 10,
    "num_valid": 4000, "num_test": 4000,
}  # fmt: skip


def plan(step: float = 0.01, query: float = 1e-4, **given: object):
    return evaluation_plan(Pace(step, query), **(DEFAULTS | given))


def test_measuring_changes_nothing(graph, make_module):
    """Parameters, buffers, gradients, generators, and the loader's next batch stay."""
    module = make_module()
    data = QueryDataModule(graph, batch_size=32, seed=0)
    data.setup()
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    following = next(iter(data.train_dataloader()))
    pace = measure_pace(module, data)
    assert fastest_pace(module, data).threads == torch.get_num_threads() == 1
    assert pace.step_seconds > 0
    assert pace.query_seconds > 0
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in module.parameters())
    assert module.training
    again = next(iter(data.train_dataloader()))
    assert torch.equal(following.entity_B, again.entity_B)
    assert torch.equal(following.negatives(3), again.negatives(3))
    assert data.train_dataloader().state_dict()["yielded"] == 0


def test_a_benchmark_ranks_everything():
    """FB15k-237 at .3 ms a query and its recipe's 300 s; WN18RR at 1 ms and 150 s."""
    for seconds, query, num_valid, num_test in (
        (300, 3e-4, 35070, 40932), (150, 1e-3, 6068, 6268), (75, 1e-4, 3654, 3656),
    ):  # fmt: skip
        found = plan(
            query=query, budget_seconds=seconds, num_valid=num_valid, num_test=num_test
        )  # fmt: skip
        assert (found.validations, found.valid_queries, found.test_queries) == (10, None, None)


def test_queries_are_sampled_before_validations_become_fewer():
    """136k entities at .64 ms a query, 84k queries of each split, 60 s: 94k queries in all."""
    found = plan(query=6.4e-4, num_valid=84_000, num_test=84_000)
    assert (found.validations, found.valid_queries, found.test_queries) == (10, 5000, 20_000)


def test_validations_become_fewer_where_a_sample_would_be_too_small():
    """A million entities at 6 ms a query, 60 s: 10,000 queries in all validations."""
    found = plan(query=6e-3, num_valid=500_000, num_test=500_000)
    assert (found.validations, found.valid_queries, found.test_queries) == (10, 1000, 5000)
    found = plan(query=20e-3, num_valid=500_000, num_test=500_000)
    assert (found.validations, found.valid_queries, found.test_queries) == (3, 1000, 1000)
    found = plan(query=0.1, num_valid=500_000, num_test=500_000)
    assert (found.validations, found.valid_queries, found.test_queries) == (1, 500, 200)


def test_what_the_user_asks_for_is_done():
    found = plan(query=1.0, valid_queries="all", test_queries=3000)
    assert (found.validations, found.valid_queries, found.test_queries) == (10, None, 3000)
    assert plan(query=1.0, valid_queries=9_999_999).valid_queries is None
    assert plan(query=1.0, test_queries=None).test_queries is None
    with pytest.raises(HaleError, match="valid_queries must be a number, all or auto, got some"):
        plan(valid_queries="some")
    with pytest.raises(HaleError, match="test_queries must be a whole number"):
        plan(test_queries=0)
    with pytest.raises(HaleError, match="validations must be a whole number"):
        plan(validations=0)


paces = st.floats(1e-6, 100.0)
counts = st.integers(1, 10**8)


@given(
    paces, paces, st.floats(0.1, 1e5), st.integers(1, 30), counts, counts, st.sampled_from((0, 2))
)
def test_evaluation_takes_no_longer_than_training(
    step, query, seconds, validations, num_valid, num_test, tests
):
    """Unless the fewest queries that are ranked at all do."""
    found = plan(
        step, query, budget_seconds=seconds, validations=validations, num_valid=num_valid,
        num_test=num_test, tests=tests,
    )  # fmt: skip
    fewest = FEWEST_QUERIES * query
    assert 1 <= found.validations <= validations
    assert found.validations * found.valid_seconds <= max(seconds, fewest) * (1 + 1e-9)
    assert found.test_seconds <= max(seconds, tests * fewest) * (1 + 1e-9)
    for sample, count in ((found.valid_queries, num_valid), (found.test_queries, num_test)):
        assert sample is None or FEWEST_QUERIES <= sample < count


@given(paces, paces, counts, counts)
def test_a_budget_in_steps_does_not_depend_on_the_pace(step, query, num_valid, num_test):
    found = plan(
        step, query, budget_seconds=None, budget_steps=500, num_valid=num_valid, num_test=num_test
    )
    assert (found.steps, found.validations) == (500, 10)
    assert (found.valid_queries, found.test_queries) == (None, None)
    assert found.train_seconds == pytest.approx(500 * step)


def test_a_resumed_run_has_the_plan_that_it_was_started_with(tmp_path):
    assert kept_plan(tmp_path) is None
    first = plan(query=6.4e-4, num_valid=84_000)
    keep_plan(tmp_path, first)
    assert kept_plan(tmp_path) == first
    (tmp_path / "plan.json").write_text('{"steps": 3}')
    with pytest.raises(HaleError, match=r"plan\.json is damaged"):
        kept_plan(tmp_path)


def test_the_plan_is_said_in_two_lines():
    assert list(plan_lines(plan(query=6.4e-4, num_valid=84_000, num_test=20_000))) == [
        "6,000 steps, about 300 epochs, in 60 s of training (10 ms a step)",
        "10 validations of 5,000 of 84,000 queries (about 3.2 s each); test of 20,000 queries, "
        "untrained and trained (about 26 s)",
    ]
    lines = list(plan_lines(plan(budget_seconds=None, budget_steps=400, validations=1, tests=0)))
    assert lines == [
        "400 steps, about 20 epochs, in about 4.0 s of training (10 ms a step)",
        "1 validation of 4,000 queries (about 0.4 s each)",
    ]


def test_a_budget_that_is_too_short_is_said_before_training():
    """60 steps of a second, of 20 an epoch: 3 of the 5 epochs that a model needs at least."""
    *_, warning = plan_lines(plan(step=1.0))
    assert warning == (
        "Warning: 60 steps (3.0 epochs) are too few to learn much; budget.seconds=200 would do"
    )
    *_, warning = plan_lines(plan(budget_seconds=None, budget_steps=49, steps_per_epoch=2))
    assert warning.endswith(
        "49 steps (24 epochs) are too few to learn much; budget.steps=100 would do"
    )
    assert len(list(plan_lines(plan(step=0.6)))) == 2


def test_numbers_are_short():
    assert [duration(s) for s in (0.012, 0.34, 7.77, 45.2, 119, 600, 10_800)] == [
        "0.012 s", "0.3 s", "7.8 s", "45 s", "119 s", "10 min", "3.0 h",
    ]  # fmt: skip
    assert [queries(n, 7000) for n in (None, 7000, 500)] == [
        "7,000 queries", "7,000 queries", "500 of 7,000 queries",
    ]  # fmt: skip


def test_the_threads_of_a_run_are_not_those_of_the_next(graph, monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        hale.fit(graph, "transe", steps=2, dim=8, settings={"threads": 1, "test": False})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
