"""The plan of a run: how long its steps take, how often it is validated, on how many queries.

Validations together, and the test with its baselines, take no longer than training does, unless
the user asks for it. Queries are sampled first; validations become fewer only where a sample would
be too small to tell checkpoints apart.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hale.errors import HaleError, require_whole
from hale.runs.files import read_json, write_atomically
from hale.training.pace import Pace

PLAN_FILE = "plan.json"
ENOUGH_QUERIES = 1000
"""Below these a sample is not reduced further as long as validations can be fewer."""
FEWEST_QUERIES = 100
"""Of any sample."""

Queries = int | Literal["auto", "all"] | None
"""How many queries of a split are ranked: a number, all (or None), or what the budget allows."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What a run is going to do, and how long that is expected to take.

    Args:
        pace: measured before training.
        setting: that has the budget: ``budget.seconds`` or ``budget.steps``.
        steps: expected number of training steps, or those of the budget.
        train_seconds: the budget, or what its steps are expected to take.
        steps_per_epoch: batches of the training loader.
        validations: over the budget.
        valid_queries: ranked in each validation; None is all.
        test_queries: ranked after training; None is all.
        num_valid: queries of the valid split.
        num_test: queries of the test split.
        tests: how often the model ranks the test queries: once untrained and once trained, or 0.
    """

    pace: Pace
    setting: str
    steps: int
    train_seconds: float
    steps_per_epoch: int
    validations: int
    valid_queries: int | None
    test_queries: int | None
    num_valid: int
    num_test: int
    tests: int

    @property
    def epochs(self) -> float:
        """Of training."""
        return self.steps / self.steps_per_epoch

    @property
    def valid_seconds(self) -> float:
        """Of one validation."""
        return self.pace.query_seconds * (self.valid_queries or self.num_valid)

    @property
    def test_seconds(self) -> float:
        """Of the test, the untrained model's included."""
        return self.pace.query_seconds * self.tests * (self.test_queries or self.num_test)


def evaluation_plan(
    pace: Pace,
    *,
    budget_seconds: float | None,
    budget_steps: int | None,
    steps_per_epoch: int,
    validations: int,
    num_valid: int,
    num_test: int,
    tests: int = 2,
    valid_queries: Queries = "auto",
    test_queries: Queries = "auto",
) -> EvaluationPlan:
    """How many validations there are, and how many queries they and the test rank.

    Args:
        pace: measured before training.
        budget_seconds: of training; None if ``budget_steps`` are given, and the reverse.
        budget_steps: of training; nothing depends on the pace then: ``auto`` is ``all``.
        steps_per_epoch: batches of the training loader.
        validations: at most so many.
        num_valid: queries of the valid split, two for each triple.
        num_test: queries of the test split.
        tests: how often the model ranks the test queries; 0 if there is no test.
        valid_queries: that the user asks for.
        test_queries: that the user asks for.

    Raises:
        HaleError: a number below 1, or neither a number nor ``auto`` nor ``all``.
    """
    require_whole("validations", validations, at_least=1)
    allowed = (budget_seconds or math.inf) / pace.query_seconds
    if valid_queries == "auto":
        validations = _fewer(validations, allowed / min(ENOUGH_QUERIES, num_valid))
    valid = _ranked("valid_queries", valid_queries, num_valid, allowed / validations)
    tested = _ranked("test_queries", test_queries, num_test, allowed / max(tests, 1))
    return EvaluationPlan(
        pace, *_expected(pace, budget_seconds, budget_steps), steps_per_epoch, validations,
        valid, tested, num_valid, num_test, tests,
    )  # fmt: skip


def keep_plan(folder: Path, plan: EvaluationPlan) -> None:
    """Write the plan into the run's folder, for a resumed run to follow it."""
    with write_atomically(folder / PLAN_FILE) as file:
        json.dump(dataclasses.asdict(plan), file, indent=2)
        file.write("\n")


def kept_plan(folder: Path) -> EvaluationPlan | None:
    """The plan that the folder's run was started with; None before its start.

    Raises:
        HaleError: the file is not a plan.
    """

    def plan(kept: dict[str, Any]) -> EvaluationPlan:
        return EvaluationPlan(**kept | {"pace": Pace(**kept["pace"])})

    return read_json(folder / PLAN_FILE, plan, "start in a new folder")


def _expected(pace: Pace, seconds: float | None, steps: int | None) -> tuple[str, int, float]:
    """The budget's setting, and the steps and seconds that it amounts to."""
    if steps is not None:
        return "budget.steps", steps, steps * pace.step_seconds
    assert seconds is not None
    return "budget.seconds", max(1, round(seconds / pace.step_seconds)), seconds


def _fewer(validations: int, allowed: float) -> int:
    """At least one validation, and no more than are allowed."""
    return validations if allowed >= validations else max(1, int(allowed))


def _ranked(name: str, asked: Queries, count: int, allowed: float) -> int | None:
    """How many of ``count`` queries are ranked; None is all."""
    if asked == "auto":
        sample = _sample(allowed, count)
    elif asked == "all" or asked is None:
        return None
    elif isinstance(asked, str):
        raise HaleError(f"{name} must be a number, all or auto, got {asked}")
    else:
        require_whole(name, asked, at_least=1)
        sample = asked
    return sample if sample < count else None


def _sample(allowed: float, count: int) -> int:
    """All ``count`` queries if that many are allowed, or else 1, 2 or 5 times a power of ten.

    Round numbers, so that runs on similar machines rank the same sample.
    """
    if count <= allowed:
        return count
    sizes = (size * 10**power for power in range(2, 12) for size in (1, 2, 5))
    return min(count, max((size for size in sizes if size <= allowed), default=FEWEST_QUERIES))
