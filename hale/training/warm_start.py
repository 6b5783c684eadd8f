"""Training that starts from a trained model of a smaller graph, with a fresh optimizer."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from hale.training.module import LinkPrediction


class WarmStart(pl.Callback):
    """Sets the model's tensors when training starts; not when it is resumed.

    The optimizer starts afresh: with the moments of the smaller model's run, updates came out
    worse (docs/tuning-log.md).

    Args:
        tensors: of the model, by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self._started = False

    def state_dict(self) -> dict[str, Any]:
        """That training has started."""
        return {"started": True}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Leave the checkpoint's tensors as they are."""
        self._started = state_dict["started"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the smaller model unless the run is resumed."""
        assert isinstance(pl_module, LinkPrediction)
        if not self._started:
            pl_module.model.load_state_dict(dict(self.tensors))
