"""From settings to a run: what the settings leave open is chosen, then they become objects."""

import copy
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.loaders import QueryDataModule
from hale.losses.base import require_compatible
from hale.runs.files import write_atomically
from hale.settings import automatic, recipe
from hale.settings.automatic import Choice
from hale.settings.build import build, build_all
from hale.settings.compose import compose
from hale.training.module import LinkPrediction
from hale.training.train import Run

RECIPE_FILE = "recipe.json"
"""What was chosen for a run, and why; a folder that has one keeps to it."""
OVERLAYS = ("strategy", "experiment", "debug")


@dataclass(frozen=True)
class Job:
    """A run as it is asked for.

    Args:
        cfg: the settings, without Hydra's own.
        choices: the choice of each config group.
        overrides: of the command line.
        folder: where everything is written.
        name: of the run, in its record.
        sweep: the name of the sweep that it belongs to, if any.
        chosen: what was left open and has been chosen; None before :func:`settled`.
    """

    cfg: DictConfig
    choices: Mapping[str, Any]
    overrides: Sequence[str]
    folder: Path
    name: str
    sweep: str | None = None
    chosen: Sequence[Choice] | None = field(default=None)

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain values."""
        config = OmegaConf.to_container(self.cfg, resolve=True)
        return cast(dict[str, Any], config)

    def record(self) -> dict[str, Any]:
        """What a record says of the run beside what is measured."""
        shown = {k: v for k, v in self.choices.items() if not k.startswith(("hydra/", "recipe"))}
        kind = recipe.kind(self.choices.get("recipe"))
        return {
            "name": self.name,
            "choices": shown,
            "overrides": list(self.overrides),
            "config": self.config,
            "recipe": {"kind": kind, "chosen": [vars(choice) for choice in self.chosen or ()]},
        }


def job_of(overrides: Sequence[str], folder: Path) -> Job:
    """The job that these overrides describe.

    Raises:
        HaleError: Hydra refuses an override.
    """
    cfg = compose(overrides)
    choices = dict(cfg.hydra.runtime.choices)
    return Job(_without_hydra(cfg), choices, list(overrides), folder, folder.name)


def as_started(job: Job) -> Job:
    """The job with the choices that its folder keeps, if it was started before.

    Raises:
        HaleError: they are damaged.
    """
    kept = kept_choices(job.folder)
    return job if kept is None else with_choices(job, kept)


def settled(job: Job, graph: KnowledgeGraph) -> Job:
    """The job with its open settings chosen and kept in its folder, as ``recipe.json``.

    Where that was done before, nothing is chosen anew.
    """
    if job.chosen is not None:
        return job
    job = with_choices(job, automatic_choices(job, graph))
    write_choices(job)
    return job


def automatic_choices(job: Job, graph: KnowledgeGraph) -> list[Choice]:
    """What an automatic recipe chooses for a graph; nothing for another recipe."""
    if recipe.kind(job.choices.get("recipe")) not in recipe.AUTOMATIC:
        return []
    known = automatic.facts(graph)
    groups = automatic.combination(known, fixed_choices(job))
    combined = with_choices(job, groups)
    return [*groups, *_values(known, combined)]


def _values(known: automatic.Facts, job: Job) -> list[Choice]:
    return automatic.values(known, job.choices, job.cfg.model.dim, job.cfg.budget.steps)


def fixed_choices(job: Job) -> dict[str, str]:
    """The choices of the groups that an automatic recipe may choose, where they are made.

    A strategy or an experiment makes them all.
    """
    typed = {override.split("=", 1)[0] for override in job.overrides}
    overlaid = any(job.choices.get(overlay) for overlay in OVERLAYS[:2])
    groups = recipe.GROUPS[1:]
    return {group: job.choices[group] for group in groups if overlaid or group in typed}


def with_choices(job: Job, chosen: Sequence[Choice]) -> Job:
    """The job with these choices, which rank below its strategy, experiment and overrides."""
    groups = [c for c in chosen if c.name in recipe.GROUPS]
    values = {c.name: c.value for c in chosen if c.name not in recipe.GROUPS}
    if recipe.kind(job.choices.get("recipe")) in recipe.AUTOMATIC:
        composed = compose([*(f"{c.name}={c.value}" for c in groups), *job.overrides], values)
        choices = dict(composed.hydra.runtime.choices)
        return replace(job, cfg=_without_hydra(composed), choices=choices, chosen=chosen)
    cfg = copy.deepcopy(job.cfg)
    for name, value in values.items():
        OmegaConf.update(cfg, name, value)
    return replace(job, cfg=cfg, chosen=chosen)


def kept_choices(folder: Path) -> list[Choice] | None:
    """The choices kept in a folder, if any.

    Raises:
        HaleError: the file is damaged.
    """
    path = folder / RECIPE_FILE
    try:
        return [Choice(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise HaleError(f"{path} is damaged ({error}): remove it and train anew") from error


def write_choices(job: Job) -> None:
    """Keep the choices of a job, and the settings that follow, in its folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(job.folder / RECIPE_FILE) as file:
        json.dump([vars(choice) for choice in job.chosen or ()], file, indent=1)
        file.write("\n")
    composed = job.folder / ".hydra" / "config.yaml"
    if composed.is_file():
        with write_atomically(composed) as file:
            file.write(OmegaConf.to_yaml(job.cfg))


def make_run(
    job: Job, graph: KnowledgeGraph, stack: ExitStack, callbacks: Sequence[pl.Callback] = ()
) -> Run:
    """The objects of a settled job on a graph; ``stack`` closes its loggers.

    Raises:
        HaleError: an argument of a part is refused, or parts that do not go together.
    """
    quiet_lightning()
    cfg, record = job.cfg, job.record()
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    module, data = make_parts(cfg, graph)
    budget, schedule = build(cfg, "budget"), build(cfg, "schedule")
    interval = budget.validation_interval(cfg.validations)
    return Run(
        module=module,
        data=data,
        budget=budget,
        schedule=schedule,
        make_trainer=partial(build(cfg, "trainer"), val_check_interval=interval),
        folder=job.folder,
        choices=record,
        loggers=[
            stack.enter_context(open_logger(output_dir=job.folder, group=job.sweep, record=record))
            for open_logger in build_all(cfg, "logger")
        ],
        callbacks=[*build_all(cfg, "callbacks"), *callbacks],
    )


def make_parts(cfg: DictConfig, graph: KnowledgeGraph) -> tuple[LinkPrediction, QueryDataModule]:
    """What is trained, drawn with the settings' seed, and what it is trained on."""
    pl.seed_everything(cfg.seed, workers=False, verbose=False)
    activation, loss = build(cfg, "activation"), build(cfg, "loss")
    model = build(
        cfg, "model", num_entities=graph.num_entities, num_relations=2 * graph.num_relations
    )
    require_compatible(model.comparator, activation, loss)
    module = LinkPrediction(model, activation, loss, build(cfg, "optimizer"))
    sizes: dict[str, Any] = {
        str(name): size for name, size in cfg.data.items() if size not in ("auto", "all", None)
    }
    return module, QueryDataModule(graph, seed=cfg.seed, **sizes)


def quiet_lightning() -> None:
    """Silence what Lightning says of itself: tips, unused devices, restored files."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
