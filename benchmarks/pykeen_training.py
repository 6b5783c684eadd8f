"""PyKEEN trained by its public API on a training clock; hale ranks, off the clock."""

import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from pykeen.models import ERModel, model_resolver
from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop, TrainingCallback

from benchmarks.measure import Row
from benchmarks.pykeen_scores import factory, scorer
from benchmarks.race_systems import PyKEEN
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.data_module import QueryDataModule
from hale.training.schedules import constant, linear

LOOPS = {"LCWA": LCWATrainingLoop, "sLCWA": SLCWATrainingLoop}
SCHEDULES: dict[str, Callable[[float], float]] = {"linear": linear, "constant": constant}


class SpentError(Exception):
    """The budget is spent."""


class Clock(TrainingCallback):
    """Validates off the clock, sets the learning rate and ends the training.

    Everything is done before a batch: what follows the batch before, the optimizer's step
    included, is over then.

    Args:
        seconds: of training.
        validations: over the budget, evenly.
        lr: the learning rate at each share of the budget.
        validate: metrics of the model.
    """

    def __init__(
        self,
        seconds: float,
        validations: int,
        lr: Callable[[float], float],
        validate: Callable[[ERModel], Row],
    ) -> None:
        super().__init__()
        self.seconds, self.validations, self.lr, self.metrics = seconds, validations, lr, validate
        self.curve: list[Row] = []
        self.best: dict[str, Any] = {}
        self.spent, self.steps = 0.0, -1
        self.since: float | None = None

    def pre_batch(self, **kwargs: object) -> None:
        """Read the clock, validate when due, and end the training."""
        if self.since is not None:
            self.spent += time.perf_counter() - self.since
        self.steps += 1
        if self.spent >= self.seconds * (len(self.curve) + 1) / self.validations:
            self.validate()
        if self.spent >= self.seconds:
            raise SpentError
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.spent / self.seconds)
        self.since = time.perf_counter()

    def validate(self) -> None:
        """Rank the valid split, and keep the parameters if they are the best so far."""
        found = {f"valid/{name}": value for name, value in self.metrics(self.model).items()}
        if found["valid/mrr"] > max((row["valid/mrr"] for row in self.curve), default=-1):
            self.best = deepcopy(self.model.state_dict())
        self.curve.append({"step": self.steps, "train_seconds": self.spent, **found})
        print(f"  {self.spent:6.1f} s  valid/mrr {found['valid/mrr']:.4f}", flush=True)


@dataclass(frozen=True)
class Trained:
    """A model with the parameters of its best validation, its validations, and its settings."""

    model: ERModel
    curve: list[Row]
    settings: Row


def train_pykeen(
    system: PyKEEN, data: QueryDataModule, seconds: float, validations: int, seed: int
) -> Trained:
    """Train ``system`` on the graph of ``data`` for so many seconds.

    Args:
        system: model, loop and their settings.
        data: set up; its valid queries are ranked in each validation.
        seconds: of training; validation stops the clock.
        validations: over the budget, evenly.
        seed: of the parameters and of sampling.
    """
    triples = factory(data.graph, inverse=system.loop == "LCWA")
    model = model_resolver.make(
        system.model, triples_factory=triples, random_seed=seed, loss=system.loss,
        loss_kwargs=system.loss_arguments, **_initializers(system.init_std),
        **system.model_arguments,
    )  # fmt: skip
    sampling = {"negative_sampler_kwargs": {"num_negs_per_pos": system.negatives}}
    loop = LOOPS[system.loop](
        model=model, triples_factory=triples, optimizer=system.optimizer,
        optimizer_kwargs={"lr": system.lr}, automatic_memory_optimization=False,
        **(sampling if system.negatives else {}),
    )  # fmt: skip
    clock = Clock(
        seconds, validations,
        lambda share: system.lr * SCHEDULES[system.schedule](share),
        lambda current: rank(current, data, "valid"),
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # PyKEEN collects garbage in every epoch: not through all that hale has imported
    with tempfile.TemporaryDirectory() as folder, suppress(SpentError):
        loop.train(
            triples, num_epochs=10**9, batch_size=system.batch_size, use_tqdm=False,
            callbacks=clock, checkpoint_directory=folder, pin_memory=False,
        )  # fmt: skip
    model.load_state_dict(clock.best)
    settings = asdict(system) | {"inverse_relations": triples.create_inverse_triples}
    return Trained(model, clock.curve, settings)


def _initializers(std: float | None) -> dict[str, Any]:
    """Arguments of a model whose vectors start with this standard deviation."""
    if std is None:
        return {}
    normal = partial(torch.nn.init.normal_, std=std)
    return {"entity_initializer": normal, "relation_initializer": normal}


def rank(model: ERModel, data: QueryDataModule, split: str) -> Row:
    """Metrics of ``model`` on ``valid`` or ``test``."""
    loader = {"valid": data.val_dataloader, "test": data.test_dataloader}[split]()
    return evaluate(scorer(model), loader, RankingMetrics(data.num_relations))
