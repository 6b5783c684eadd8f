"""What a run prints: its plan, with a warning if the budget is too short, and its metrics."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from hale.graphs.kg import KnowledgeGraph
from hale.runs.columns import RANKING
from hale.runs.tables import Row
from hale.training.budget import budget_for, enough_steps, wanted_steps
from hale.training.plan import EvaluationPlan


def headline(graph: KnowledgeGraph, choices: Mapping[str, Any], folder: Path, resumed: bool) -> str:
    """What is trained, on what, and where."""
    return (
        f"{'Resuming' if resumed else 'Training'} {choices.get('model')} with "
        f"{choices.get('loss')} ({choices.get('activation')}) on {graph.name}: "
        f"{graph.num_entities:,} entities, {graph.num_relations:,} relations, "
        f"{len(graph.train):,} training triples; {torch.get_num_threads()} threads; {folder}"
    )


def plan_lines(plan: EvaluationPlan) -> Iterator[str]:
    """One line on training and its validations, one on the test if there is one, and a warning."""
    milliseconds = 1e3 * plan.pace.step_seconds
    about = "about " if plan.setting == "budget.steps" else ""
    yield (
        f"{plan.steps:,} steps, about {number(plan.epochs)} epochs, in {about}"
        f"{duration(plan.train_seconds)} of training ({number(milliseconds)} ms a step)"
    )
    validations = f"{plan.validations} validation{'s' if plan.validations > 1 else ''}"
    line = (
        f"{validations} of {queries(plan.valid_queries, plan.num_valid)} "
        f"(about {duration(plan.valid_seconds)} each)"
    )
    if plan.tests:
        line += (
            f"; test of {queries(plan.test_queries, plan.num_test)}"
            f"{', untrained and trained' if plan.tests > 1 else ''} "
            f"(about {duration(plan.test_seconds)})"
        )
    yield line
    if plan.steps < enough_steps(plan.steps_per_epoch):
        wanted = budget_for(
            plan.setting, wanted_steps(plan.steps_per_epoch), plan.pace.step_seconds
        )
        yield (
            f"Warning: {plan.steps:,} steps ({number(plan.epochs)} epochs) are too few to learn "
            f"much; {wanted} would do"
        )


def result_rows(record: Mapping[str, Any], num_valid: int, num_test: int) -> list[Row]:
    """A row of metrics for each split, and for each baseline on the test split.

    Args:
        record: of the run.
        num_valid: queries of the valid split; the name of a row says if fewer were ranked.
        num_test: queries of the test split.
    """
    rows: list[Row] = []
    for name, ranked, total in (
        ("valid", record["valid_queries"], num_valid),
        ("test", record["test_queries"], num_test),
        ("untrained", record["test_queries"], num_test),
        ("popularity", record["test_queries"], num_test),
    ):
        if f"{name}/mrr" in record:
            shown = name if name in ("valid", "test") else f"test, {name}"
            sample = f", {queries(ranked, total)}" if ranked < total else ""
            rows.append({"": shown + sample} | {key: record[f"{name}/{key}"] for key in RANKING})
    return rows


def queries(ranked: int | None, total: int) -> str:
    """How many queries of a split are ranked: ``5,000 of 37,000 queries``; None is all."""
    if ranked is None or ranked >= total:
        return f"{total:,} queries"
    return f"{ranked:,} of {total:,} queries"


def number(value: float) -> str:
    """Whole from 10 on, below it with one decimal, below .1 with two digits."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """``0.3 s``, ``45 s``, ``12 min``, ``3.5 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"
