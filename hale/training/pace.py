"""The pace of a run, measured on throw-away steps before it starts."""

import dataclasses
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from hale.distributed import processes
from hale.errors import HaleError
from hale.evaluation.ranking import rank_batch
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.settings.build import is_out_of_memory
from hale.training.clock import synchronize
from hale.training.module import LinkPrediction
from hale.training.warm_up import warm_up

TIMED_STEPS, TIMED_SECONDS = 6, 2.0
"""Throw-away steps of which the pace is measured, or the seconds after which they end."""
TIMED_SCORES = 10**8
"""About so many scores are computed to time ranking: half a second of one core."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step, and of ranking one query, with some number of CPU threads."""

    step_seconds: float
    query_seconds: float
    threads: int | None = None


def measure_pace(module: LinkPrediction, data: QueryDataModule) -> Pace:
    """Time throw-away training steps, and the ranking of some validation queries.

    Parameters, buffers, gradients, the global generators and the loaders' state are left as they
    were. It is measured on the module's device and takes a few seconds at most, unless two steps
    take longer. Of a model that is sharded all processes measure it, and have the first one's.

    Raises:
        HaleError: a step does not fit in memory.
    """
    data.setup()
    batch = _on(next(iter(data.train_dataloader())), module.device)
    try:
        took = warm_up(module, batch, TIMED_STEPS, TIMED_SECONDS)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise HaleError(
            f"a training step of {len(batch):,} queries does not fit in memory: lower "
            "data.batch_size, model.dim, or loss.num_negatives if the loss has them"
        ) from error
    pace = Pace(statistics.median(took[1:]), _query_seconds(module, data), torch.get_num_threads())
    return pace if module.model.shard is None else processes.of_first(pace)


def fastest_pace(module: LinkPrediction, data: QueryDataModule) -> Pace:
    """The pace with PyTorch's threads, or with one where that is faster.

    So it is for small models, and where other processes have the cores. PyTorch's number of
    threads is left as it was.
    """
    paces, threads = [measure_pace(module, data)], torch.get_num_threads()
    if threads > 1 and module.device.type == "cpu":
        try:
            torch.set_num_threads(1)
            paces.append(measure_pace(module, data))
        finally:
            torch.set_num_threads(threads)
    return min(paces, key=lambda pace: pace.step_seconds)


@torch.inference_mode()
def _query_seconds(module: LinkPrediction, data: QueryDataModule) -> float:
    """Seconds of ranking one query, the lower of two timings."""
    batch = _on(next(iter(data.val_dataloader())), module.device)
    rows = slice(max(16, TIMED_SCORES // data.num_entities))
    some = dataclasses.replace(
        batch, entity_B=batch.entity_B[rows], relation_B=batch.relation_B[rows],
        target_B=batch.target_B[rows],
    )  # fmt: skip
    training, took = module.training, []
    module.eval()
    for _ in range(2):
        started = time.perf_counter()
        rank_batch(module(some), some)
        synchronize(module.device)
        took.append(time.perf_counter() - started)
    module.train(training)
    return min(took) / len(some)


def _on(batch: QueryBatch, device: torch.device) -> QueryBatch:
    """The batch on a device, with a generator of its own there if it has one."""
    if batch.entity_B.device == device:
        return batch
    moved: dict[str, Any] = {
        field.name: value.to(device)
        for field in dataclasses.fields(batch)
        if hasattr(value := getattr(batch, field.name), "to")
    }
    if batch.generator is not None:
        moved["generator"] = torch.Generator(device).manual_seed(batch.generator.initial_seed())
    return dataclasses.replace(batch, **moved)
