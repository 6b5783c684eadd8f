"""What settings leave open is settled before training, and kept in the run's folder.

An automatic recipe chooses settings from the graph and from the number of steps that the budget
holds; the plan decides how much is evaluated. Both follow from a measurement, so they are kept: a
run that is resumed or repeated in its folder has the same ones.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import Any

import torch

from hale.graphs.kg import KnowledgeGraph
from hale.runs.files import read_json, write_atomically
from hale.runs.record import RESULT_FILE
from hale.settings import automatic, recipe
from hale.settings.automatic import Candidate, Choice, Facts
from hale.settings.build import build
from hale.settings.compose import typed_names
from hale.training.job import Job, make_parts, with_choices, with_plan
from hale.training.pace import fastest_pace, measure_pace
from hale.training.plan import EvaluationPlan, evaluation_plan, keep_plan, kept_plan
from hale.training.search import require_budget, search
from hale.training.update_settings import Update, following

RECIPE_FILE = "recipe.json"
"""What was chosen for a run, and why; a folder that has one keeps to it."""
ADVICE = "start in a new folder"
OVERLAYS = ("strategy", "experiment", "debug")


def as_started(job: Job, composed: bool = False) -> Job:
    """The job with the choices and the plan that its folder keeps, if it was started before.

    Args:
        job: as it is asked for.
        composed: whether its settings have the choices already, as those in its folder do.

    Raises:
        HaleError: they are damaged.
    """
    chosen, plan = kept_choices(job.folder), kept_plan(job.folder)
    if chosen is None or plan is None:
        return job
    if composed:
        groups = {c.name: c.value for c in chosen if c.name in recipe.GROUPS}
        return replace(job, choices={**job.choices, **groups}, chosen=chosen, plan=plan)
    if _untrained(job.folder) and _kept_overrides(job.folder) != list(job.overrides):
        return job  # another command's, with which nothing was trained
    return with_plan(with_choices(job, chosen), plan)


def decided(job: Job, graph: KnowledgeGraph) -> Job:
    """The job with its open settings chosen and its evaluation planned; nothing is written.

    An automatic recipe chooses twice: from the graph, and again when it is known how many steps of
    what was chosen the budget holds. A job that has a plan is not decided anew, and one whose
    recipe searches is only checked.

    Raises:
        HaleError: a part of the run refuses its arguments.
    """
    if job.plan is not None:
        return job
    if isinstance(job, Update):
        plan = planned(job, graph)
        return with_plan(following(job, automatic.facts(graph), plan.epochs), plan)
    kind = recipe.kind(job.choices.get("recipe"))
    if kind not in recipe.AUTOMATIC:
        plan = planned(job, graph)
        return with_plan(with_choices(job, epoch_choices(job, plan.epochs)), plan)
    if kind != "search":
        return _automatic(job, graph, Candidate(), [])
    tried = _tried(job, graph)
    require_budget(job, len(tried))
    for choices in tried.values():
        make_parts(with_choices(job, choices).cfg, graph)
    return job


def settled(
    job: Job, graph: KnowledgeGraph, remember: Callable[[Job], None] = lambda job: None
) -> Job:
    """The decided job, kept in its folder, the plan last; a search is made if there is one.

    A folder that has the job's plan is left as it is, any other is settled anew.

    Args:
        job: as it was asked for or decided, or as its folder has it.
        graph: to train on.
        remember: keeps the settings of the job, so that it can be resumed.
    """
    if job.plan is not None and job.plan == kept_plan(job.folder):
        return job
    if job.plan is None and recipe.kind(job.choices.get("recipe")) == "search":
        remember(job)
        found, *spent = search(job, graph, _tried(job, graph))
        job = _automatic(job, graph, found, spent)
    job = decided(job, graph)
    write_choices(job)
    remember(job)
    assert job.plan is not None
    keep_plan(job.folder, job.plan)
    return job


def _tried(job: Job, graph: KnowledgeGraph) -> dict[Candidate, list[Choice]]:
    """What each candidate of a search chooses."""
    known = automatic.facts(graph)
    typed = typed_names(job.overrides)
    candidates = automatic.candidates(fixed_choices(job), _typed_dim(job))
    open_ones = [c for c in candidates if typed.isdisjoint(c.factors)]
    return {c: automatic_choices(job, known, None, c) for c in open_ones}


def _automatic(job: Job, graph: KnowledgeGraph, found: Candidate, spent: Sequence[Choice]) -> Job:
    """The job as an automatic recipe decides it, around what a search has found and spent."""
    known = automatic.facts(graph)
    chosen = [*automatic_choices(job, known, None, found), *spent]
    first = with_choices(job, chosen)
    plan = planned(first, graph)
    again = [*automatic_choices(job, known, plan.steps, found), *spent]
    return with_plan(first if again == chosen else with_choices(job, again), plan)


def planned(job: Job, graph: KnowledgeGraph) -> EvaluationPlan:
    """How many steps, validations and ranked queries the budget holds, by the measured pace."""
    cfg = job.cfg
    budget = build(cfg, "budget")
    module, data = make_parts(cfg, graph)
    on_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    measure = measure_pace if cfg.threads or budget.seconds is None else fastest_pace
    pace = measure(module.to("cuda" if on_gpu else "cpu"), data)
    batches = cfg.trainer.get("accumulate_grad_batches", 1)  # of an optimizer step
    pace = replace(pace, step_seconds=batches * pace.step_seconds)
    return evaluation_plan(
        pace,
        budget_seconds=None if budget.seconds is None else budget.seconds - budget.spent,
        budget_steps=None if budget.steps is None else int(budget.steps - budget.spent),
        steps_per_epoch=ceil(len(data.train_dataloader()) / batches),
        validations=cfg.validations,
        num_valid=2 * len(graph.valid),
        num_test=2 * len(graph.test),
        tests=2 if cfg.test else 0,
        valid_queries=cfg.data.valid_queries,
        test_queries=cfg.data.test_queries,
    )


def epoch_choices(job: Job, epochs: float) -> list[Choice]:
    """What a tuned recipe sets where the budget holds few epochs; nothing for an experiment.

    The runs of an experiment are compared with each other, so their settings do not follow the
    machine.
    """
    if recipe.kind(job.choices.get("recipe")) != "tuned" or job.choices.get("experiment"):
        return []
    rules = recipe.read_rules(recipe.recipe_file(job.choices["dataset"]))
    deciding = recipe.deciding_rules(rules, job.choices, job.cfg.model.dim, epochs)
    return [
        Choice(name, rule.values[name], f"{rule}; the budget holds {epochs:.0f}")
        for name, rule in deciding.items()
        if rule.max_epochs < inf
    ]


def automatic_choices(
    job: Job, known: Facts, steps: int | None = None, candidate: Candidate | None = None
) -> list[Choice]:
    """What the automatic recipe chooses.

    Args:
        job: with the user's choices.
        known: of the graph.
        steps: that the budget holds, if that is known.
        candidate: of a search, in place of what the rules would choose.
    """
    candidate, fixed = candidate or Candidate(), fixed_choices(job)
    searched = [
        Choice(group, choice, "found by the search")
        for group, choice in candidate.choices.items()
        if group not in fixed
    ]
    decided = fixed | dict(candidate.choices)
    groups = [*searched, *automatic.combination(known, decided, _typed_dim(job))]
    choices = {**job.choices, **{choice.name: choice.value for choice in groups}}
    values = automatic.values(known, choices, job.cfg.model.dim, job.cfg.budget.steps or steps)
    return [*groups, *(_scaled(choice, candidate.factors) for choice in values)]


def _typed_dim(job: Job) -> int | None:
    """The embedding dimension, if the user has chosen it."""
    typed = any(override.startswith("model.dim=") for override in job.overrides)
    return job.cfg.model.dim if typed else None


def _scaled(choice: Choice, factors: Mapping[str, float]) -> Choice:
    factor = factors.get(choice.name)
    if factor is None:
        return choice
    return Choice(choice.name, choice.value * factor, f"{choice.why}; times {factor:g} by search")


def fixed_choices(job: Job) -> dict[str, str]:
    """The choices of the groups that an automatic recipe may choose, where they are made.

    A strategy or an experiment makes them all.
    """
    typed = {override.split("=", 1)[0] for override in job.overrides}
    overlaid = any(job.choices.get(overlay) for overlay in OVERLAYS[:2])
    groups = recipe.GROUPS[1:]
    return {group: job.choices[group] for group in groups if overlaid or group in typed}


def kept_choices(folder: Path) -> list[Choice] | None:
    """The choices kept in a folder, if any.

    Raises:
        HaleError: the file is damaged.
    """

    def choices(kept: dict[str, Any]) -> list[Choice]:
        return [Choice(**entry) for entry in kept["chosen"]]

    return read_json(folder / RECIPE_FILE, choices, ADVICE)


def _kept_overrides(folder: Path) -> list[str] | None:
    """The overrides of the command for which the choices kept in a folder were made."""
    return read_json(folder / RECIPE_FILE, lambda kept: list(kept["overrides"]), ADVICE)


def _untrained(folder: Path) -> bool:
    return not any((folder / kept).exists() for kept in (RESULT_FILE, "checkpoints/last.ckpt"))


def write_choices(job: Job) -> None:
    """Keep the choices of a job in its folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    kept = {"overrides": list(job.overrides), "chosen": [vars(choice) for choice in job.chosen]}
    with write_atomically(job.folder / RECIPE_FILE) as file:
        json.dump(kept, file, indent=1)
        file.write("\n")
