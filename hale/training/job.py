"""From settings to a run: what the settings leave open is chosen, then they become objects."""

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from hale.distributed import processes
from hale.distributed.shards import Shard
from hale.errors import HaleError
from hale.evaluation.rankable import rankable, require_rankable
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.loaders import RankingLoader
from hale.graphs.statistics import irreflexive
from hale.losses.base import require_compatible
from hale.losses.distillation import DistilE, MulDE
from hale.models.base import QueryModel, sharded
from hale.runs.terminal import Unfailing
from hale.settings import recipe
from hale.settings.automatic import Choice
from hale.settings.build import build, build_all
from hale.settings.compose import compose, typed_names
from hale.settings.trainer import is_sharded
from hale.training.module import LinkPrediction
from hale.training.plan import EvaluationPlan
from hale.training.teachers import read_teachers
from hale.training.train import Run


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
        search_path: overrides of Hydra's own that say where choices are found.
        chosen: when the run started, by its recipe, and why.
        plan: of its evaluation; None before :func:`settled`.
    """

    cfg: DictConfig
    choices: Mapping[str, Any]
    overrides: Sequence[str]
    folder: Path
    name: str
    sweep: str | None = None
    search_path: Sequence[str] = ()
    chosen: Sequence[Choice] = ()
    plan: EvaluationPlan | None = None

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
            "recipe": {"kind": kind, "chosen": [vars(choice) for choice in self.chosen]},
        }


def job_of(overrides: Sequence[str], folder: Path) -> Job:
    """The job that these overrides describe.

    Raises:
        HaleError: Hydra refuses an override.
    """
    cfg = compose(overrides)
    choices = dict(cfg.hydra.runtime.choices)
    return Job(_without_hydra(cfg), choices, list(overrides), folder, folder.name)


def with_choices(job: Job, chosen: Sequence[Choice]) -> Job:
    """The job with these choices, which rank below its strategy, experiment and overrides."""
    groups = [c for c in chosen if c.name in recipe.GROUPS]
    values = {c.name: c.value for c in chosen if c.name not in recipe.GROUPS}
    if not chosen:
        return job
    typed = [*(f"{c.name}={c.value}" for c in groups), *job.search_path, *job.overrides]
    composed = compose(typed, values)
    choices = dict(composed.hydra.runtime.choices)
    names = typed_names(job.overrides)
    effective = [
        c for c in chosen
        if c in groups or (c.name not in names and OmegaConf.select(composed, c.name) == c.value)
    ]  # fmt: skip
    return replace(job, cfg=_without_hydra(composed), choices=choices, chosen=effective)


def with_plan(job: Job, plan: EvaluationPlan) -> Job:
    """The job with the plan's numbers of validations, queries and threads among its settings."""
    cfg = copy.deepcopy(job.cfg)
    cfg.validations = plan.validations
    cfg.data.valid_queries, cfg.data.test_queries = plan.valid_queries, plan.test_queries
    if plan.setting == "budget.seconds":  # the measured choice; a budget in steps measures none
        cfg.threads = plan.pace.threads
    return replace(job, cfg=cfg, plan=plan)


def make_run(
    job: Job,
    graph: KnowledgeGraph,
    stack: ExitStack,
    callbacks: Sequence[pl.Callback] = (),
    console: Console | None = None,
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
    first = processes.is_first()
    budget, schedule = build(cfg, "budget"), build(cfg, "schedule")
    return Run(
        module=module,
        data=data,
        budget=budget,
        schedule=schedule,
        make_trainer=build(cfg, "trainer"),
        folder=job.folder,
        choices=record,
        loggers=[
            stack.enter_context(open_logger(output_dir=job.folder, group=job.sweep, record=record))
            for open_logger in (build_all(cfg, "logger") if first else ())
        ],
        callbacks=[*build_all(cfg, "callbacks"), *callbacks],
        plan=job.plan,
        console=console or Console(file=cast(IO[str], Unfailing()), quiet=not first),
    )


def make_parts(cfg: DictConfig, graph: KnowledgeGraph) -> tuple[LinkPrediction, QueryDataModule]:
    """What is trained, drawn with the settings' seed, and what it is trained on.

    Raises:
        HaleError: an argument of a part is refused, parts do not go together, or nothing of a split
            that is to be ranked can be.
    """
    pl.seed_everything(cfg.seed, workers=False, verbose=False)
    activation, loss = build(cfg, "activation"), build(cfg, "loss")
    if isinstance(loss, DistilE | MulDE):
        loss = replace(loss, teachers=read_teachers(list(cfg.loss.teachers), graph))
    shard = None
    if is_sharded(cfg.trainer):
        shard = Shard(graph.num_entities, processes.rank(), processes.process_count())
    with sharded(shard):
        model = build(
            cfg, "model", num_entities=graph.num_entities, num_relations=2 * graph.num_relations
        )
    if cfg.get("exclude_own"):  # not in the settings of an older run that is updated
        model.exclude_own(irreflexive(graph))
    require_compatible(model.comparator, activation, loss)
    require_separable(model)
    module = LinkPrediction(model, activation, loss, build(cfg, "optimizer"))
    sizes: dict[str, Any] = {
        str(name): size for name, size in cfg.data.items() if size not in ("auto", "all", None)
    }
    data = QueryDataModule(graph, seed=cfg.seed, shard=shard, **sizes)
    _require_rankable(data, cfg)
    return module, data


def require_separable(model: QueryModel) -> None:
    """Raise HaleError where several processes train a model that normalises over the batch."""
    over_batch = any(isinstance(part, BatchNorm) for part in model.modules())
    if over_batch and processes.process_count() > 1:
        raise HaleError(
            f"{type(model).__name__} normalises over the batch, of which each process has a part: "
            "train it on one device, trainer=cpu or trainer=gpu, or choose another model"
        )


def _require_rankable(data: QueryDataModule, cfg: DictConfig) -> None:
    """Raise HaleError unless the monitor is defined, and something in test if that is ranked."""
    data.setup()
    name = data.graph.name
    metric = str(cfg.monitor).removeprefix("valid/")
    require_rankable(_rankable(data, data.val_dataloader()), name, "valid", metric)
    if cfg.test:
        require_rankable(_rankable(data, data.test_dataloader()), name, "test")


def _rankable(data: QueryDataModule, batches: RankingLoader) -> set[str]:
    """The directions that can be ranked; of a sharded graph, by any process."""
    found = rankable(batches, data.num_entities, data.num_relations)
    return found if data.shard is None else set().union(*processes.gathered(found))


def quiet_lightning() -> None:
    """Silence what Lightning says of itself: tips, unused devices, restored files."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller")
    warnings.filterwarnings("ignore", "It is recommended to use `self.log")  # metrics are summed
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
