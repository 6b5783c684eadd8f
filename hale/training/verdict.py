"""The verdict on a finished run: how good its model is, and what to do if it learned little."""

import math
from dataclasses import dataclass

from hale.training.budget import PLENTY_EPOCHS, budget_for, enough_steps, wanted_steps
from hale.training.summary import queries

BUSY = 0.75
"""Below this many CPU seconds per second and thread, others had the cores."""
SLOWER = 1.5
"""Above this ratio of the seconds of a step to those measured before, the machine became slower."""


@dataclass(frozen=True)
class Outcome:
    """What a verdict is made of.

    Args:
        split: ``test``, or ``valid`` without a test.
        mrr: the model's, on the split.
        ranked: queries of the split that were ranked.
        total: queries of the split.
        popularity: the popularity baseline's MRR, on the same queries.
        untrained: the untrained model's, if it was measured.
        steps: taken.
        steps_per_epoch: batches of the training loader.
        train_seconds: on the training clock.
        cpu_seconds: of the process meanwhile, all threads together; None on a GPU.
        threads: PyTorch's CPU threads.
        setting: of the budget: ``budget.seconds`` or ``budget.steps``.
        planned_step_seconds: measured before training, if that was done.
    """

    split: str
    mrr: float
    ranked: int
    total: int
    popularity: float
    untrained: float | None
    steps: int
    steps_per_epoch: int
    train_seconds: float
    cpu_seconds: float | None
    threads: int
    setting: str
    planned_step_seconds: float | None = None

    @property
    def epochs(self) -> float:
        """Of training."""
        return self.steps / self.steps_per_epoch

    @property
    def step_seconds(self) -> float:
        """Of one step."""
        return self.train_seconds / max(self.steps, 1)


def verdict(outcome: Outcome) -> str:
    """One line on the model, and a second one on what to do where it learned little."""
    long = outcome.steps >= enough_steps(outcome.steps_per_epoch)
    good = long and outcome.mrr > max(outcome.popularity, outcome.untrained or 0.0)
    line = f"{outcome.split} MRR {_mrr(outcome.mrr)}{_sampled(outcome)}: {_against(outcome)}"
    if outcome.untrained is not None:
        line += f", untrained {_mrr(outcome.untrained)}"
    return line if good else f"{line}\n{_advice(outcome)}"


def _sampled(outcome: Outcome) -> str:
    """The number of queries if not all were ranked, and the most that the standard error can be.

    A reciprocal rank lies between 0 and 1, so its variance is at most mrr (1 - mrr).
    """
    if outcome.ranked >= outcome.total:
        return ""
    error = math.sqrt(outcome.mrr * (1 - outcome.mrr) / outcome.ranked)
    return f" ({queries(outcome.ranked, outcome.total)}, standard error below {_mrr(error)})"


def _against(outcome: Outcome) -> str:
    mrr, popularity = outcome.mrr, outcome.popularity
    if mrr <= popularity:
        return f"no better than popularity ({_mrr(popularity)})"
    ratio = mrr / popularity if popularity > 0 else math.inf
    times = f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
    return f"{times} times popularity ({_mrr(popularity)})"


def _advice(outcome: Outcome) -> str:
    """What a model that learned little was given, and what it needs."""
    done = f"{outcome.steps:,} steps ({outcome.epochs:.1f} epochs)"
    epoch, took = outcome.steps_per_epoch, outcome.step_seconds
    if outcome.steps < enough_steps(epoch):
        wanted = budget_for(outcome.setting, wanted_steps(epoch), took)
        return f"Too short to learn much: {done}{_machine(outcome)}; {wanted} would do"
    if outcome.epochs < PLENTY_EPOCHS:
        wanted = budget_for(outcome.setting, PLENTY_EPOCHS * epoch, took)
        return (
            f"The model learned little in {done}{_machine(outcome)}: some graphs need "
            f"{PLENTY_EPOCHS}, as in {wanted}"
        )
    return (
        f"The model learned little in {done}: look for faults in the data with hale stats, or "
        "try another model or learning rate"
    )


def _machine(outcome: Outcome) -> str:
    """What slowed the run down, if anything did."""
    if outcome.cpu_seconds is not None:
        cores = outcome.cpu_seconds / outcome.train_seconds
        if cores < BUSY * outcome.threads:
            threads = "thread" if outcome.threads == 1 else "threads, where threads=1 may be faster"
            return (
                f", on a busy machine ({cores:.1f} CPU seconds a second with {outcome.threads} "
                f"{threads})"
            )
    expected = outcome.planned_step_seconds or math.inf
    if outcome.step_seconds > SLOWER * expected:
        return (
            f", on a busy machine ({1e3 * outcome.step_seconds:.0f} ms a step, "
            f"{1e3 * expected:.0f} before training)"
        )
    return ""


def _mrr(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if value >= 0.1 else f"{value:.4f}".lstrip("0")
