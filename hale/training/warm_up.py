"""Warm-up off the training clock: compilation, caches and allocators, on throw-away steps."""

import copy
import time
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch

from hale.graphs.queries import QueryBatch
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


def warm_up(module: LinkPrediction, batch: QueryBatch, steps: int) -> None:
    """Take throw-away steps on a copy of the model.

    Parameters, buffers and the state of the global generators are left as they were; the batch's
    own generator must be the caller's to spend.
    """
    model = module.model
    devices = [module.device] if module.device.type == "cuda" else []
    module.model = copy.deepcopy(model)
    try:
        with torch.random.fork_rng(devices):
            for _ in range(steps):
                torch.autograd.backward(module.loss_parts(batch)["loss"])
    finally:
        module.model = model
        synchronize(module.device)
