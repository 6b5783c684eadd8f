"""The systems of the race, each with 32 real numbers per entity, and how one is run.

hale trains by its recipe. ComplEx-N3 is the baseline of Lacroix et al. (2018) in the manner of
their code (Adagrad at .1, N3 at .05, vectors that start near 0, full softmax, reciprocal
relations), on hale's loop, with a batch of 1000 for speed where they take 100: once in plain
PyTorch, as their code is, and once on hale's kernel, which serves it too. PyKEEN
trains by its public API; its systems get what their library leaves to the user and hale's recipe
has: a learning rate that falls linearly over the budget, and inverse relations under LCWA.

Validation is not on the clock, and PyKEEN's vectors are ranked by hale (the same ranks as by
PyKEEN's evaluator, in a fraction of its time).
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Row, facts, quieten
from hale.graphs.data_module import QueryDataModule
from hale.graphs.family import family
from hale.graphs.published import benchmark

ROOT = Path(__file__).resolve().parents[1]
DIM = 32
VALIDATIONS = 24
"""Over the budget, evenly on the training clock."""


@dataclass(frozen=True)
class Hale:
    """A run of ``hale.run``.

    Args:
        overrides: of its config.
        share: of the race's seconds that the run gets; its learning rate falls over them.
        kernel: forced backend of ``entity_logsumexp``; hale's choice if empty.
    """

    overrides: tuple[str, ...]
    share: float = 1.0
    kernel: str = ""


@dataclass(frozen=True)
class PyKEEN:
    """A training loop of PyKEEN's.

    Args:
        model: name of the model.
        loop: ``sLCWA``, sampled negatives, or ``LCWA``, all entities.
        batch_size: triples per step (sLCWA) or queries per step (LCWA); where PyKEEN holds batch
            x entities x dimensions, small enough for many steps.
        model_arguments: of the model.
        negatives: per positive (sLCWA).
        loss: name of the loss. The self-adversarial one that PyKEEN's configurations of RotatE
            have was tried with margins of 3 to 9 and learns later than these budgets allow.
        loss_arguments: of the loss.
        optimizer: name of the optimizer.
        lr: of the optimizer, at the start.
        schedule: ``linear``, down over the budget, or ``constant``.
        init_std: standard deviation that all vectors start with; None is the model's own start.
    """

    model: str
    loop: str
    batch_size: int
    model_arguments: dict[str, Any]
    negatives: int | None = None
    loss: str = "crossentropy"
    loss_arguments: dict[str, Any] | None = None
    optimizer: str = "Adam"
    lr: float = 0.01
    schedule: str = "linear"
    init_std: float | None = None


HALE = (f"model.dim={DIM}", "loss=hale", "activation=hanon")
ROTL, MURE = (*HALE, "model=rotl"), (*HALE, "model=mure")
COMPLEX_N3 = (
    f"model.dim={DIM}", "model=complex", "model.n3=0.05", "model.init_std=0.001", "loss=all_neg",
    "activation=identity", "optimizer=adagrad", "optimizer.lr=0.1", "schedule=constant",
    "data.batch_size=1000",
)  # fmt: skip
TRANSE = {"embedding_dim": DIM, "scoring_fct_norm": 2, "entity_constrainer": None}
ROTATE = {"embedding_dim": DIM // 2}
COMPLEX = {"embedding_dim": DIM // 2, "entity_initializer": "xavier_uniform",
           "relation_initializer": "xavier_uniform"}  # fmt: skip
SYSTEMS: dict[str, Hale | PyKEEN] = {
    "hale": Hale(ROTL),
    "hale_short": Hale(ROTL, share=0.25),
    "hale_mure": Hale(MURE),
    "hale_mure_short": Hale(MURE, share=0.25),
    "complex_n3": Hale(COMPLEX_N3),
    "complex_n3_plain": Hale(COMPLEX_N3, kernel="reference"),
    "pykeen_transe_slcwa": PyKEEN("TransE", "sLCWA", 1024, TRANSE, negatives=64),
    "pykeen_transe_lcwa": PyKEEN("TransE", "LCWA", 64, TRANSE),
    "pykeen_rotate_slcwa": PyKEEN("RotatE", "sLCWA", 1024, ROTATE, negatives=64),
    "pykeen_rotate_lcwa": PyKEEN("RotatE", "LCWA", 64, ROTATE),
    "pykeen_complex_slcwa": PyKEEN("ComplEx", "sLCWA", 1024, COMPLEX, negatives=64),
    "pykeen_complex_lcwa": PyKEEN("ComplEx", "LCWA", 256, COMPLEX),
}  # fmt: skip


def run_system(name: str, dataset: str, seconds: float, threads: int) -> Row:
    """Train one system and return its record."""
    torch.set_num_threads(threads)
    system = SYSTEMS[name]
    started = time.perf_counter()
    if isinstance(system, Hale):
        curve, settings = run_hale(system, dataset, seconds, threads)
    else:
        curve, settings = run_pykeen(system, dataset, seconds)
    return {
        "system": name,
        "dataset": dataset,
        "seconds": seconds,
        "settings": settings,
        "curve": curve,
        "total_seconds": time.perf_counter() - started,
    } | facts()


def run_hale(system: Hale, dataset: str, seconds: float, threads: int) -> tuple[list[Row], Row]:
    """Curve and settings of a run of ``hale.run``."""
    overrides = [
        *system.overrides, f"dataset={dataset}", f"budget.seconds={system.share * seconds}",
        "budget.steps=null", f"validations={VALIDATIONS}", "data.valid_queries=all",
        f"threads={threads}", "test=false",
    ]  # fmt: skip
    curve, record = train_hale(overrides, kernel=system.kernel)
    settings = {"overrides": list(system.overrides), "kernel": system.kernel}
    return curve, settings | {"config": record["config"]}


def train_hale(
    overrides: Sequence[str], kernel: str = "", data: Path | None = None
) -> tuple[list[Row], Row]:
    """Curve and record of ``python -m hale.run`` with these overrides.

    Args:
        overrides: of its config; logger and folder are chosen here.
        kernel: forced backend of ``entity_logsumexp``; hale's choice if empty.
        data: folder of all graphs, in which the run starts: paths are relative to it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        here = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        forced = {"HALE_KERNEL": kernel} if kernel else {}
        graphs = {} if data is None else {"HALE_DATA_DIR": str(data)}
        subprocess.run(
            [
                sys.executable, "-m", "hale.run", *overrides, "logger=none",
                f"hydra.run.dir={folder}",
            ],
            check=True, cwd=data, env=os.environ | here | forced | graphs,
        )  # fmt: skip
        with (folder / "curve.csv").open(encoding="utf-8") as file:
            curve = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        return curve, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def run_pykeen(system: PyKEEN, dataset: str, seconds: float) -> tuple[list[Row], Row]:
    """Curve and settings of a run of PyKEEN."""
    from benchmarks.pykeen_training import train_pykeen

    quieten()
    graph = family(seed=0) if dataset == "family" else benchmark(dataset)
    data = QueryDataModule(graph, batch_size=4096, seed=0)
    data.setup()
    trained = train_pykeen(system, data, seconds, VALIDATIONS, seed=0)
    return trained.curve, trained.settings
