"""A short search in the first part of a run's budget: successive halving on valid.

Every candidate is trained for a small budget, with a learning rate that falls over it; the better
half is trained again for twice as much, and so on until two or fewer are left (Jamieson and
Talwalkar, AISTATS 2016). A trial is an ordinary run in the folder ``search``, so that an
interrupted search is resumed, and its records and curves remain.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from hale.errors import DivergedError, HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.runs.record import read_result, require_same_run
from hale.settings.automatic import Candidate, Choice
from hale.training.job import Job, make_run, with_choices

SHARE = 1 / 3
"""Of the budget, which the search spends at most."""
VALID_QUERIES = 2_000
"""Ranked at the end of a trial, at most."""
DIVERGED = -1.0
"""The metric of a trial that diverged, below all others."""


def search(
    job: Job, graph: KnowledgeGraph, tried: Mapping[Candidate, Sequence[Choice]]
) -> tuple[Candidate, Choice]:
    """The best candidate, and what the search has spent of the budget, with the trials as reason.

    Args:
        job: whose budget is spent.
        graph: to train on.
        tried: what each candidate chooses.

    Raises:
        DivergedError: all candidates diverge.
    """
    if len(tried) == 1:
        return next(iter(tried)), Choice("budget.spent", 0, "there is one candidate")
    rounds = list(_rounds(len(tried)))
    unit, setting = _unit(job, sum(count * factor for count, factor in rounds))
    left, spent = list(tried), 0.0
    trace: list[str] = []
    for count, factor in rounds:
        amount, scores = unit * factor, {}
        for candidate in left[:count]:
            trial = _trial(with_choices(job, tried[candidate]), candidate, setting, amount)
            scores[candidate], cost = _train(trial, graph, setting)
            spent += cost
            trace.append(f"{candidate} {scores[candidate]:.4f} in {amount:g} {setting}")
        left = sorted(scores, key=lambda c: -scores[c])
        if scores[left[0]] == DIVERGED:
            raise DivergedError("all candidates of the search diverged: lower optimizer.lr")
    spent = round(spent, 3) if setting == "seconds" else int(spent)
    return left[0], Choice("budget.spent", spent, f"{job.cfg.monitor}: {', '.join(trace)}")


def _rounds(candidates: int) -> Iterator[tuple[int, int]]:
    """The number of candidates in each round, and the factor on the first round's budget."""
    factor = 1
    while candidates > 2:
        yield candidates, factor
        candidates, factor = (candidates + 1) // 2, 2 * factor
    yield candidates, factor


def require_budget(job: Job, candidates: int) -> None:
    """Raise HaleError if the budget is less than a step for each trial of the search."""
    trials = sum(count * factor for count, factor in _rounds(candidates))
    steps = job.cfg.budget.steps
    if candidates > 1 and steps is not None and steps * SHARE < trials:
        raise HaleError(
            f"recipe=search needs budget.steps of at least {math.ceil(trials / SHARE)}, got {steps}"
        )


def _unit(job: Job, trials: int) -> tuple[float, str]:
    """The budget of a trial in the first round, of which there are so many; and its unit."""
    budget = job.cfg.budget
    if budget.steps is not None:
        return max(1, int(budget.steps * SHARE / trials)), "steps"
    return float(f"{budget.seconds * SHARE / trials:.2g}"), "seconds"


def _trial(job: Job, candidate: Candidate, setting: str, amount: float) -> Job:
    """A job of its own for a candidate: no test, no logger, one validation."""
    cfg = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(job.cfg, resolve=True)))
    with open_dict(cfg):
        cfg.budget.seconds = cfg.budget.steps = None
        cfg.budget[setting] = amount
        cfg.test, cfg.validations, cfg.logger, cfg.callbacks = False, 1, {}, {}
        cfg.data.valid_queries = VALID_QUERIES
    folder = job.folder / "search" / f"{candidate}_{amount:g}{setting}"
    return replace(job, cfg=cfg, folder=folder, name=folder.name)


def _train(trial: Job, graph: KnowledgeGraph, setting: str) -> tuple[float, float]:
    """The metric of a trial, trained unless it is finished, and what it has spent.

    A trial that diverges is worse than any other, and has spent all that it had.
    """
    record = read_result(trial.folder)
    if record is not None:
        require_same_run(record, trial.config, trial.folder, lambda: graph.fingerprint)
    else:
        trial.folder.mkdir(parents=True, exist_ok=True)
        try:
            with ExitStack() as stack:
                record = make_run(trial, graph, stack, console=Console(quiet=True)).train()
        except DivergedError:
            return DIVERGED, trial.cfg.budget[setting]
    return record[trial.cfg.monitor], record["steps" if setting == "steps" else "train_seconds"]
