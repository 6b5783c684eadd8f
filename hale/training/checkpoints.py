"""Checkpoint identity (what a checkpoint was trained with) and relocation of run folders."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from hale.errors import HaleError
from hale.runs.record import identity


class Identity(pl.Callback):
    """Records in checkpoints what they were trained with, to refuse those of another run.

    Args:
        fingerprint: of the graph.
        config: the resolved config; what counts of it is :func:`hale.runs.record.identity`.
    """

    def __init__(self, fingerprint: str, config: dict[str, Any]) -> None:
        self.identity = {"fingerprint": fingerprint} | identity(config)

    def state_dict(self) -> dict[str, Any]:
        """What the run is trained with."""
        return self.identity

    def require(self, path: Path) -> None:
        """Raise HaleError unless ``path`` is a checkpoint of the same identity."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = state["callbacks"][self.state_key]
        except Exception as error:
            raise HaleError(
                f"{path} is not a checkpoint of hale ({type(error).__name__}): remove it, or "
                "start in a new folder"
            ) from error
        for key, value in self.identity.items():
            if found.get(key) != value:
                what = "dataset content" if key == "fingerprint" else key
                raise HaleError(
                    f"{path} was trained with another {what} ({found.get(key)}, now {value}): "
                    "use the same, or start in a new folder"
                )


class MovableCheckpoint(ModelCheckpoint):
    """Keeps its best score and files when the run folder has been moved since.

    Lightning's own forgets the best score then, and looks for the file in the old place.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, its paths adjusted to where the folder lies now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        super().load_state_dict(
            state_dict
            | {"dirpath": self.dirpath}
            | {key: here(state_dict[key]) for key in paths}
            | {"best_k_models": {here(p): v for p, v in state_dict["best_k_models"].items()}}
        )
