"""A small graph and a run on it, in one process."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():  # read where Triton is imported, which Lightning does
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytorch_lightning as pl

from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.losses.query_sampling import QuerySampling
from hale.models.euclidean import RotL
from hale.scoring.activations import Hanon
from hale.training.budget import WallClockBudget
from hale.training.module import LinkPrediction
from hale.training.schedules import constant
from hale.training.train import Run

os.environ.setdefault("WANDB_MODE", "disabled")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data") and not os.environ.get("HALE_DATA_DIR"):
        pytest.skip("HALE_DATA_DIR is not set")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_log_handlers():
    """A run that is resumed configures logging, which would write to the streams of its test."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def graph() -> KnowledgeGraph:
    """60 entities on a ring; relation k steps k + 1 along it."""
    size = 60
    triples = torch.tensor(
        [(e, k, (e + k + 1) % size) for e in range(size) for k in range(3)], dtype=torch.int64
    )
    order = torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))
    train_T3, valid_T3, test_T3 = triples[order].split([140, 20, 20])
    names = tuple(f"e{i}" for i in range(size))
    return KnowledgeGraph("ring", names, ("one", "two", "three"), train_T3, valid_T3, test_T3)


@pytest.fixture(scope="session")
def make_module(graph: KnowledgeGraph) -> Callable[..., LinkPrediction]:
    def make(seed: int = 0) -> LinkPrediction:
        torch.manual_seed(seed)
        model = RotL(graph.num_entities, 2 * graph.num_relations, dim=8)
        optimizer = partial(torch.optim.Adam, lr=0.02)
        return LinkPrediction(model, Hanon(), QuerySampling(alpha=0.5), optimizer)

    return make


@pytest.fixture(scope="session")
def run_training(
    graph: KnowledgeGraph, make_module: Callable[..., LinkPrediction]
) -> Callable[..., LinkPrediction]:
    """Train in a folder with a budget; further callbacks may interfere."""

    def run(
        folder: Path,
        budget: WallClockBudget,
        module: LinkPrediction | None = None,
        callbacks: tuple[pl.Callback, ...] = (),
        seed: int = 0,
        logger: object = None,
        schedule: Callable[[float], float] = constant,
        validations: int = 5,
        **trainer_arguments: object,
    ) -> LinkPrediction:
        module = module or make_module(seed)
        data = QueryDataModule(graph, batch_size=32, seed=seed)
        groups = ("loss", "dataset", "data", "optimizer", "schedule")
        config = {group: {"fixed": True} for group in groups} | {
            "model": {"_target_": "hale.models.euclidean.RotL", "dim": 8},
            "activation": {"_target_": "hale.scoring.activations.Hanon"},
            "seed": seed,
            "monitor": "valid/mrr",
            "test": True,
            "validations": validations,
            "trainer": {},
        }
        choices = {"name": "test", "choices": {"model": "rotl"}, "overrides": [], "config": config}
        arguments = {"accelerator": "cpu", "devices": 1}
        Run(
            module,
            data,
            budget,
            schedule,
            partial(pl.Trainer, **(arguments | trainer_arguments)),
            folder,
            choices,
            loggers=[logger] if logger else [],
            callbacks=callbacks,
        ).train()
        return module

    return run


@pytest.fixture(scope="session")
def trained_folder(
    run_training: Callable[..., LinkPrediction], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run on the ring; read only."""
    folder = tmp_path_factory.mktemp("trained")
    run_training(folder, WallClockBudget(steps=60), validations=15)
    return folder
