"""The systems that are compared on graphs without a recipe, and how one is run.

``default`` is what hale does with a folder of triples and nothing else. Its rivals have settings
that are sensible for any graph, from the sizes of the graph alone: hale's MuRE and RotL trained
with HaLE, ComplEx by the full softmax, and PyKEEN's TransE, RotatE and ComplEx. ``tuned`` is the
recipe of a graph that has one.

All rank the same queries by hale's ranking, filtered by all splits, and test the parameters of
their best validation.
"""

import os
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Row, facts, quieten
from benchmarks.race_systems import PyKEEN, train_hale
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph

HALE = ("default", "tuned", "mure", "rotl", "complex")
PYKEEN = ("pykeen_transe", "pykeen_rotate", "pykeen_complex")
SYSTEMS = (*HALE, *PYKEEN)
TUNED = ("wn18rr", "fb15k237", "codex-s", "codex-m")
"""Graphs with a recipe."""
VALIDATIONS = 10
"""Of PyKEEN's systems; hale's default."""
VALID_QUERIES = 4_000
"""That each of PyKEEN's validations ranks, at most."""
SMALL = 5_000
"""On a graph with fewer entities, rivals have more dimensions, and smaller batches of PyKEEN's."""
METRICS = ("mrr", "hits@1", "hits@3", "hits@10", "mr", "amri")


@dataclass(frozen=True)
class Task:
    """One run.

    Args:
        graph: name of its folder.
        dim: real numbers per entity; None is each system's own choice.
        system: one of ``SYSTEMS``.
        seed: of parameters and sampling.
        seconds: of training.
        threads: CPU threads.
    """

    graph: str
    dim: int | None
    system: str
    seed: int
    seconds: float
    threads: int

    @property
    def row(self) -> str:
        """Graph and dimension, as on the command line: ``codex-s@32``."""
        return self.graph if self.dim is None else f"{self.graph}@{self.dim}"

    @property
    def options(self) -> list[str]:
        """Those of ``benchmarks.own_data`` that ask for this run alone."""
        return [
            "--graphs", self.row, "--systems", self.system, "--seeds", str(self.seed),
            "--seconds", f"{self.seconds:g}", "--threads", str(self.threads),
        ]  # fmt: skip


def applies(task: Task) -> bool:
    """Whether there is such a system for the graph."""
    return task.system != "tuned" or task.graph in TUNED


def run_task(task: Task, folder: Path) -> Row:
    """Train and test; return the record.

    Args:
        task: what to run.
        folder: of the graphs.
    """
    torch.set_num_threads(task.threads)
    quieten()
    load, started = os.getloadavg()[0], time.perf_counter()
    graph = KnowledgeGraph.read(folder / task.graph, unseen="keep")
    sizes = {"entities": graph.num_entities, "relations": graph.num_relations} | {
        split: len(triple_T3) for split, triple_T3 in graph.splits.items()
    }
    run = run_hale if task.system in HALE else run_pykeen
    found = run(task, folder, graph)
    row = asdict(task) | {"sizes": sizes, "load": load} | facts()
    row |= {"command": shlex.join(["python", "-m", "benchmarks.own_data", "GRAPHS", *task.options])}
    row["hardware"] |= found.pop("hardware", {})
    return row | found | {"total_seconds": time.perf_counter() - started}


def run_hale(task: Task, folder: Path, graph: KnowledgeGraph) -> Row:
    """Metrics and settings of a run of ``hale.run``."""
    overrides = hale_overrides(task, graph.num_entities, len(graph.train))
    curve, record = train_hale(overrides, data=folder)
    metrics = {
        split: {name: record[f"{split}/{name}"] for name in METRICS}
        for split in ("valid", "test", "popularity", "untrained")
    }
    kept = ("steps", "train_seconds", "cpu_seconds", "verdict", "hardware")
    settings = {name: record[name] for name in ("choices", "recipe", "config") if name in record}
    return {
        **metrics,
        **{name: record[name] for name in kept if name in record},
        "valid_queries": record["valid_queries"],
        "curve": [[row["train_seconds"], row["valid/mrr"]] for row in curve],
        "settings": {"overrides": overrides} | settings,
    }


def hale_overrides(task: Task, entities: int, triples: int) -> list[str]:
    """What ``python -m hale.run`` is given in the folder of the graphs.

    Args:
        task: with one of hale's systems.
        entities: of the graph.
        triples: of train.
    """
    own = ["dataset=tsv", f"dataset.path={task.graph}", "dataset.unseen=keep"]
    system = {
        "default": own,
        "tuned": [f"dataset={task.graph.replace('-', '_')}"],
        "mure": [*own, *mure(entities, triples)],
        "rotl": [*own, *rotl(entities, triples)],
        "complex": [*own, *complex_n3(entities)],
    }[task.system]
    rival_dim = 32 if entities >= SMALL else 256 if task.system == "complex" else 128
    dim = task.dim or (None if task.system in ("default", "tuned") else rival_dim)
    return [
        *system, *([f"model.dim={dim}"] if dim else []), f"budget.seconds={task.seconds:g}",
        f"seed={task.seed}", f"threads={task.threads}", "data.test_queries=all",
    ]  # fmt: skip


def complex_n3(entities: int) -> list[str]:
    """ComplEx by the full softmax; on a large graph with the values of FB15k-237's recipe."""
    n3, batch = (0.01, 500) if entities < SMALL else (0.05, 1000)
    return [
        "~recipe", "model=complex", f"model.n3={n3}", "model.init_std=0.001", "loss=all_neg",
        "activation=identity", "optimizer=adagrad", "optimizer.lr=0.1", f"data.batch_size={batch}",
    ]  # fmt: skip


def mure(entities: int, triples: int) -> list[str]:
    """MuRE trained with HaLE by the values of FB15k-237's recipe, but for batch and alpha."""
    return [
        "model=mure", "optimizer.lr=0.03", "activation.beta=1.5", "model.scale_lr_multiplier=0.1",
        "optimizer.betas=[0.9,0.99]", "optimizer.eps=1e-5", *_hale(entities, triples),
    ]  # fmt: skip


def rotl(entities: int, triples: int) -> list[str]:
    """RotL trained with HaLE."""
    return ["model=rotl", "optimizer.lr=0.02", *_hale(entities, triples)]


def _hale(entities: int, triples: int) -> list[str]:
    """Loss weight, mask, batch and alpha: a step compares about 10 million pairs."""
    batch = 512
    while batch < 8192 and 2 * batch <= triples / 2:
        batch *= 2
    queries = min(max(10_000_000 // entities, 64), 410)
    return [
        "~recipe", "loss.weight=3", "loss.mask_known=true", f"data.batch_size={batch}",
        f"loss.alpha={min(0.2, queries / batch):.4f}",
    ]  # fmt: skip


def run_pykeen(task: Task, folder: Path, graph: KnowledgeGraph) -> Row:
    """Metrics and settings of a run of PyKEEN's public API."""
    from benchmarks.pykeen_training import rank, train_pykeen

    quieten()
    sampled, whole = (
        QueryDataModule(graph, batch_size=1024, seed=0, valid_queries=count)
        for count in (VALID_QUERIES, None)
    )
    sampled.setup()
    whole.setup()
    system = pykeen_system(task.system, task.dim, graph.num_entities)
    trained = train_pykeen(system, sampled, task.seconds, VALIDATIONS, task.seed)
    last = trained.curve[-1]
    metrics = {split: rank(trained.model, whole, split) for split in ("valid", "test")}
    return {
        **{split: {name: found[name] for name in METRICS} for split, found in metrics.items()},
        "steps": last["step"],
        "train_seconds": last["train_seconds"],
        "valid_queries": 2 * len(graph.valid),
        "curve": [[row["train_seconds"], row["valid/mrr"]] for row in trained.curve],
        "settings": trained.settings,
    }


def pykeen_system(name: str, dim: int | None, entities: int) -> PyKEEN:
    """PyKEEN's settings for a graph, with the learning rate falling over the budget.

    They are the best of those tried in 5 to 40 CPU seconds on nations, umls, kinships, codex-s and
    wn18rr. The softmax cross-entropy is as good as the self-adversarial loss at a margin of 3, and
    better than it at 6 and 9. Few negatives and large batches do best where epochs are few.

    Args:
        name: one of ``PYKEEN``.
        dim: real numbers per entity; by default 128 (ComplEx 256), on a large graph 32 (128).
        entities: of the graph.
    """
    small = entities < SMALL
    own = {True: (256, 128), False: (128, 32)}[small][name != "pykeen_complex"]
    numbers = dim or own
    batch, negatives = (128, 16) if small else (2048, 8)
    if name == "pykeen_transe":
        arguments = {"embedding_dim": numbers, "scoring_fct_norm": 2, "entity_constrainer": None}
        return PyKEEN("TransE", "sLCWA", batch, arguments, negatives, lr=0.01 if small else 0.03)
    halved = {"embedding_dim": numbers // 2}  # complex numbers
    if name == "pykeen_rotate":
        return PyKEEN("RotatE", "sLCWA", batch, halved, negatives, lr=0.03)
    adagrad: dict[str, Any] = {"optimizer": "Adagrad", "lr": 0.1, "init_std": 0.01}
    if small:
        return PyKEEN("ComplEx", "LCWA", batch, halved, **adagrad)
    return PyKEEN("ComplEx", "sLCWA", batch, halved, negatives, **adagrad)
