"""The verdict on a finished run, and the table above it."""

import dataclasses

import pytest

from hale.runs.columns import RANKING
from hale.training.summary import result_rows
from hale.training.verdict import Outcome, verdict

GOOD = Outcome(
    split="test", mrr=0.394, ranked=6268, total=6268, popularity=0.0256, untrained=0.0003,
    steps=2000, steps_per_epoch=20, train_seconds=100.0, cpu_seconds=98.0, threads=1,
    setting="budget.seconds",
)  # fmt: skip


def verdict_of(**given: object) -> str:
    return verdict(dataclasses.replace(GOOD, **given))


def test_a_model_is_compared_with_popularity_and_with_the_untrained_one():
    assert verdict_of() == "test MRR .394: 15 times popularity (.0256), untrained .0003"
    assert (
        verdict_of(popularity=0.215)
        == "test MRR .394: 1.8 times popularity (.215), untrained .0003"
    )
    assert (
        verdict_of(split="valid", untrained=None) == "valid MRR .394: 15 times popularity (.0256)"
    )
    assert "better than popularity" not in verdict_of()


def test_a_sample_is_said_with_a_bound_of_its_standard_error():
    """Reciprocal ranks of mean .5 have a standard deviation of at most .5: .5 / 50 of 2,500."""
    line = verdict_of(mrr=0.5, ranked=2500, total=37_000)
    assert line.startswith(
        "test MRR .500 (2,500 of 37,000 queries, standard error below .0100): 20"
    )


def test_a_short_run_says_what_would_do():
    """3 of 5 epochs on an idle machine, .5 s a step: 10 epochs of 20 steps are 100 s."""
    first, second = verdict_of(mrr=0.0013, steps=60, train_seconds=30.0, cpu_seconds=29.0).split(
        "\n"
    )
    assert first == "test MRR .0013: no better than popularity (.0256), untrained .0003"
    assert second == "Too short to learn much: 60 steps (3.0 epochs); budget.seconds=100 would do"


def test_a_short_run_in_steps_is_told_steps():
    _, second = verdict_of(steps=60, setting="budget.steps").split("\n")
    assert second.endswith("; budget.steps=200 would do")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpu_seconds": 40.0}, "on a busy machine (0.4 CPU seconds a second with 1 thread)"),
        (
            {"cpu_seconds": 110.0, "threads": 2},
            "(1.1 CPU seconds a second with 2 threads, where threads=1 may be faster)",
        ),
        (
            {"cpu_seconds": None, "planned_step_seconds": 0.5},
            "on a busy machine (1667 ms a step, 500 before training)",
        ),
        ({"planned_step_seconds": 1.5}, "(3.0 epochs); budget"),
    ],
)
def test_a_busy_machine_is_named(given, said):
    assert said in verdict_of(mrr=0.0013, steps=60, **given)


def test_a_long_run_that_learned_nothing_is_not_told_to_be_longer():
    first, second = verdict_of(mrr=0.0256).split("\n")
    assert "no better than popularity" in first
    assert verdict_of(untrained=0.394).endswith("\n" + second)
    assert second.startswith("The model learned little in 2,000 steps (100.0 epochs): look for")
    assert "budget" not in second


def test_a_run_that_may_still_be_learning_is_told_to_be_longer():
    """20 of 50 epochs, .1 s a step: 1,000 steps are 100 s."""
    _, second = verdict_of(mrr=0.0256, steps=400, train_seconds=40.0, cpu_seconds=39.0).split("\n")
    assert second == (
        "The model learned little in 400 steps (20.0 epochs): some graphs need 50, as in "
        "budget.seconds=100"
    )


def test_rows_say_which_metrics_are_of_a_sample():
    splits = ("valid", "test", "untrained", "popularity")
    record = {f"{split}/{name}": 0.5 for split in splits for name in RANKING}
    record |= {"valid_queries": 4000, "test_queries": 5000}
    rows = result_rows(record, num_valid=4000, num_test=37_000)
    assert [row[""] for row in rows] == [
        "valid",
        "test, 5,000 of 37,000 queries",
        "test, untrained, 5,000 of 37,000 queries",
        "test, popularity, 5,000 of 37,000 queries",
    ]
    del record["untrained/mrr"]
    whole = result_rows(record | {"test_queries": 37_000}, 4000, 37_000)
    assert [row[""] for row in whole] == ["valid", "test", "test, popularity"]
