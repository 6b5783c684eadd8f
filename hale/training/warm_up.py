"""Throw-away steps off the training clock: they warm up compilation, caches and allocators."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch

from hale.distributed import processes
from hale.graphs.batches import QueryBatch
from hale.training.clock import synchronize
from hale.training.module import LinkPrediction


class WarmUp(pl.Callback):
    """Takes a few throw-away steps before the first one, and again when a run is resumed.

    ``seconds`` is what they took, over all parts of a resumed run.
    """

    steps: ClassVar[int] = 2

    def __init__(self) -> None:
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add to the checkpoint's seconds."""
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warm up unless training is over."""
        if trainer.should_stop:
            return
        started = time.perf_counter()
        assert isinstance(pl_module, LinkPrediction)
        batch = next(iter(trainer.datamodule.train_dataloader()))  # type: ignore[attr-defined]
        warm_up(pl_module, batch, self.steps)
        self.seconds += time.perf_counter() - started


def warm_up(
    module: LinkPrediction, batch: QueryBatch, steps: int, seconds: float = math.inf
) -> list[float]:
    """Take throw-away steps, the optimizer's included, on a copy of the model.

    Parameters, buffers, gradients and the state of the global generators are left as they were; the
    batch's own generator must be the caller's to spend.

    Args:
        module: whose model is copied.
        batch: of every step.
        steps: at most so many.
        seconds: after these no further step is taken, but always a second one, because the first
            may compile.

    Returns:
        Seconds of each step.
    """
    took: list[float] = []
    with _throw_away(module):
        optimizer = module.configure_optimizers()
        while len(took) < steps and (len(took) < 2 or sum(took) < seconds):
            started = time.perf_counter()
            optimizer.zero_grad()
            torch.autograd.backward(module.loss_parts(batch)["loss"])
            optimizer.step()
            synchronize(module.device)
            seconds_taken = time.perf_counter() - started
            if module.model.shard is not None:
                seconds_taken = processes.seconds_of_first(seconds_taken)
            took.append(seconds_taken)
    return took


@contextmanager
def _throw_away(module: LinkPrediction) -> Iterator[None]:
    """Copies in place of the module's model and clusters; generators are set back in the end."""
    model, clusters = module.model, module.clusters
    devices = [module.device] if module.device.type == "cuda" else []
    module.model, module.clusters = copy.deepcopy(model), copy.deepcopy(clusters)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        module.model, module.clusters = model, clusters
        synchronize(module.device)
