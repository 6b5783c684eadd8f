"""Where a training step's time goes: ``python -m benchmarks.step [--quick] [--out FILE]``.

RotL trained with HaLE (alpha .1, 4096 queries, 32 dimensions) on graphs of the size of FB15k-237
and WN18RR, the real ones where ``HALE_DATA_DIR`` is set. First the milliseconds of a step's parts
in a plain loop, then the same step, uninstrumented, in a plain loop and under Lightning's Trainer
as ``hale.run`` sets it up.
"""

import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from unittest import mock

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.optim import Optimizer

import hale.scoring.table
from benchmarks.measure import (
    Row,
    benchmark_graph,
    parse,
    parser,
    random_graph,
    ratio,
    report,
)
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.losses.query_sampling import QuerySampling
from hale.models.euclidean import RotL
from hale.scoring.activations import Hanon
from hale.scoring.kernels.operations import entity_logsumexp
from hale.training.budget import WallClockBudget
from hale.training.module import LinkPrediction

BATCH, ALPHA, DIM = 4096, 0.1, 32


class Stopwatch:
    """Adds up the seconds of named parts of the step in hand; ``steps`` has those of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._started: dict[str, float] = {}

    def start(self, part: str) -> None:
        """Begin a part."""
        self._started[part] = time.perf_counter()

    def stop(self, part: str) -> None:
        """End it."""
        self.steps[-1][part] += time.perf_counter() - self._started.pop(part)

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        """Time a block."""
        self.start(part)
        yield
        self.stop(part)

    def kernel(self, *inputs: object) -> Tensor:
        """``entity_logsumexp``, with its passes as the parts ``kernel`` and ``kernel_backward``."""
        with self.part("kernel"):
            lse_N = entity_logsumexp(*inputs)  # type: ignore[arg-type]
        node = lse_N.grad_fn
        assert node is not None
        node.register_prehook(lambda *_: self.start("kernel_backward"))
        node.register_hook(lambda *_: self.stop("kernel_backward"))
        return lse_N


def training(graph: KnowledgeGraph, mask_known: bool) -> tuple[LinkPrediction, QueryDataModule]:
    """The module and the data of a run."""
    torch.manual_seed(0)
    model = RotL(graph.num_entities, 2 * graph.num_relations, DIM)
    loss = QuerySampling(ALPHA, weight=1.5, mask_known=mask_known)
    adam = partial(torch.optim.Adam, lr=0.01, fused=True)
    data = QueryDataModule(graph, BATCH, seed=0)
    data.setup()
    return LinkPrediction(model, Hanon(), loss, adam), data


def endless(data: QueryDataModule) -> Iterator[QueryBatch]:
    """Training batches, epoch after epoch."""
    return chain.from_iterable(repeat(data.train_dataloader()))


def plain_step(module: LinkPrediction, optimizer: Optimizer, batches: Iterator[QueryBatch]) -> None:
    """One step."""
    optimizer.zero_grad()
    torch.autograd.backward(module.loss_parts(next(batches))["loss"])
    optimizer.step()


def timed_steps(
    module: LinkPrediction, optimizer: Optimizer, batches: Iterator[QueryBatch], count: int
) -> Row:
    """Milliseconds of a step's parts: means over the middle half of ``count`` steps by time."""
    watch = Stopwatch()
    with mock.patch.object(hale.scoring.table, "entity_logsumexp", watch.kernel):
        for _ in range(count):
            watch.steps.append(defaultdict(float))
            with watch.part("step"):
                with watch.part("loading"):
                    batch = next(batches)
                with watch.part("query"):
                    scores = module(batch)
                with watch.part("loss"):
                    loss = module.loss(scores, batch)["loss"]
                with watch.part("backward"):
                    torch.autograd.backward(loss)
                with watch.part("optimizer"):
                    optimizer.step()
                    optimizer.zero_grad()
    middle = sorted(watch.steps, key=lambda step: step["step"])[count // 4 : -(count // 4) or None]
    ms = {part: 1e3 * statistics.mean(step[part] for step in middle) for part in middle[0]}
    kernel = ms["kernel"] + ms["kernel_backward"]
    return {
        "loading": ms["loading"],
        "gather+query": ms["query"],
        "kernel": ms["kernel"],
        "kernel backward": ms["kernel_backward"],
        "alignment+mask": ms["loss"] - ms["kernel"],
        "other backward": ms["backward"] - ms["kernel_backward"],
        "optimizer": ms["optimizer"],
        "step": ms["step"],
        "kernel share": kernel / ms["step"],
    }


def plain_seconds(module: LinkPrediction, batches: Iterator[QueryBatch], count: int) -> float:
    """Seconds of ``count`` steps of a plain loop, after two that warm up."""
    optimizer = module.configure_optimizers()
    for _ in range(2):
        plain_step(module, optimizer, batches)
    started = time.perf_counter()
    for _ in range(count):
        plain_step(module, optimizer, batches)
    return time.perf_counter() - started


def trainer_seconds(module: LinkPrediction, data: QueryDataModule, count: int) -> float:
    """Seconds on the training clock of ``count`` steps under Lightning, logged to CSV files."""
    budget = WallClockBudget(steps=count)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, callbacks=[budget.clock, budget],
            logger=CSVLogger(folder), enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
    return budget.clock.train_seconds


def measure(
    graph: KnowledgeGraph, mask_known: bool, steps: int, repetitions: int
) -> tuple[Row, Row]:
    """Parts of a step, and the step in both loops."""
    module, data = training(graph, mask_known)
    batches = endless(data)
    optimizer = module.configure_optimizers()
    timed_steps(module, optimizer, batches, max(3, steps // 2))
    parts = timed_steps(module, optimizer, batches, steps)
    plain, trainer = [], []
    for _ in range(repetitions):
        plain.append(1e3 * plain_seconds(module, batches, steps) / steps)
        trainer.append(1e3 * trainer_seconds(module, data, steps) / steps)
    size = {"graph": graph.name, "E": graph.num_entities, "N": math.ceil(ALPHA * BATCH)}
    loops = {"plain loop": statistics.median(plain), "Trainer": statistics.median(trainer)}
    return size | parts, size | loops | ratio(trainer, plain)


def main() -> None:
    """Measure both graphs."""
    given = parse(parser(__doc__))
    if given.quick:
        tables = [measure(random_graph("random", 500, 5, (9000, 50, 50)), True, 3, 2)]
    else:
        # the known answers are masked where the recipe of the benchmark masks them
        tables = [
            measure(benchmark_graph(name), masked, steps=60, repetitions=7)
            for name, masked in (("fb15k237", True), ("wn18rr", False))
        ]
    parts, loops = zip(*tables, strict=True)
    report(given, parts_ms=parts, loops_ms=loops)


if __name__ == "__main__":
    main()
