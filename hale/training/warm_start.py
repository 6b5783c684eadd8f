"""Training that starts from a trained model of a smaller graph, and from its optimizer's state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hale.models.growth import carry
from hale.training.module import LinkPrediction

SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq")
"""Adam's; with 0 in them the first steps of new rows would be too long."""


class WarmStart(pl.Callback):
    """Sets the model's tensors and the optimizer's state when training starts; not when resumed.

    Args:
        tensors: of the model, by name.
        kinds: of their rows (:func:`hale.models.growth.row_kinds`).
        optimizer: state of the smaller model's optimizer, from a checkpoint; a fresh one if None.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        kinds: Mapping[str, str],
        optimizer: Mapping[str, Any] | None,
    ) -> None:
        self.tensors = tensors
        self.kinds = kinds
        self.optimizer = optimizer
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
        if self._started:
            return
        pl_module.model.load_state_dict(dict(self.tensors))
        if self.optimizer is not None:
            names = {parameter: name for name, parameter in pl_module.model.named_parameters()}
            carry_state(self.optimizer, trainer.optimizers[0], names, self.kinds)


def carry_state(
    saved: Mapping[str, Any],
    optimizer: Optimizer,
    names: Mapping[nn.Parameter, str],
    kinds: Mapping[str, str],
) -> None:
    """Give a fresh optimizer the state of a smaller model's, with rows for what is new.

    Args:
        saved: ``state_dict`` of the smaller model's optimizer, with the same groups.
        optimizer: of the larger model; its state is set.
        names: of its parameters.
        kinds: of their rows.
    """
    old_ids = [i for group in saved["param_groups"] for i in group["params"]]
    groups = [(group, p) for group in optimizer.param_groups for p in group["params"]]
    for i, (group, parameter) in zip(old_ids, groups, strict=True):
        kind = kinds.get(names[parameter])
        state = {
            key: _carried(key, value, parameter, kind)
            for key, value in saved["state"].get(i, {}).items()
        }
        if "step" in state and (group.get("fused") or group.get("capturable")):
            state["step"] = state["step"].to(parameter.device)  # as torch's load_state_dict does
        optimizer.state[parameter] = state


def saved_optimizer(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the optimizer in a run's best checkpoint; None if there is no such checkpoint.

    Args:
        folder: the run's.
        fingerprint: of the graph that it was trained on.
    """
    path = folder / "checkpoints" / "best.ckpt"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if checkpoint["callbacks"]["Identity"]["fingerprint"] != fingerprint:
            return None
        state: dict[str, Any] = checkpoint["optimizer_states"][0]
    except Exception:  # a file that is missing or damaged, in any of the ways that torch reports
        return None
    return state


def _carried(key: str, value: Any, parameter: Tensor, kind: str | None) -> Any:
    """One entry of a parameter's state; those of the parameter's shape get its new rows."""
    if not isinstance(value, Tensor) or value.shape[1:] != parameter.shape[1:] or not value.dim():
        return value
    rows = torch.zeros_like(parameter, dtype=value.dtype, device="cpu").detach()
    if key in SECOND_MOMENTS:
        rows += value.mean(0)
    return carry(value, rows, kind).to(parameter.device)
