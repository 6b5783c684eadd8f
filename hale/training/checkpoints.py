"""Checkpoints of a run: the last, the best, and what they were trained with."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from hale import distributed
from hale.errors import HaleError
from hale.runs.files import write_bytes_atomically
from hale.runs.record import identity
from hale.training.curve import Curve


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

    def require(self, path: Path) -> dict[str, Any]:
        """The state of the callbacks in a checkpoint of the same identity.

        Raises:
            HaleError: it is of another run, of an older version of hale, or no checkpoint.
        """
        callbacks: dict[str, Any] = read_checkpoint(path)["callbacks"]
        found = callbacks.get(self.state_key, {})
        for key, value in self.identity.items():
            if key not in found:
                raise HaleError(
                    f"{path} does not say with which {key} it was trained: resume it with the "
                    "version of hale that began it, or start in a new folder"
                )
            if found[key] != value:
                what = "dataset content" if key == "fingerprint" else key
                raise HaleError(
                    f"{path} was trained with another {what} ({found[key]}, now {value}): "
                    "use the same, or start in a new folder"
                )
        return callbacks


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` at each validation, and copies it to ``best.ckpt`` if it is the best.

    Which validation is the best follows from the curve in ``last.ckpt``. So a run that is killed
    between the two files has one truth: the copy is made when it is resumed.

    Args:
        folder: of the two files.
        curve: whose last row is that of the validation; its callback comes before this one.
        monitor: the metric that the best checkpoint maximises.
    """

    def __init__(self, folder: Path, curve: Curve, monitor: str) -> None:
        self.last = folder / "last.ckpt"
        self.best = folder / "best.ckpt"
        self.curve = curve
        self.monitor = monitor

    def read_best(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The best weights, and the row of the curve with the metrics of the same step.

        Raises:
            HaleError: the checkpoint is missing or damaged, or of another run.
        """
        best = read_checkpoint(self.best)
        row = self.curve.at(best["global_step"])
        if row is None:
            raise HaleError(
                f"{self.best} is of step {best['global_step']}, whose validation is not on the "
                "run's curve: remove the run's folder and rerun"
            )
        return best["state_dict"], row

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the copy that an interrupted run may lack."""
        self._keep_best(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint of this validation."""
        if trainer.sanity_checking:
            return
        self.last.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.last)
        self._keep_best(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the number of steps, by which loggers count: Lightning's is one less meanwhile."""
        epoch_loop = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]
        epoch_loop["_batches_that_stepped"] = trainer.global_step

    def _keep_best(self, trainer: pl.Trainer) -> None:
        """Copy the last checkpoint, that of this step, if its validation is the best so far."""
        is_best = self.curve.rows and self.curve.best(self.monitor)["step"] == trainer.global_step
        if is_best and distributed.is_first():
            with self.last.open("rb") as last, write_bytes_atomically(self.best) as best:
                shutil.copyfileobj(last, best)
        distributed.wait()


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint completely or not at all, and beside its path; not as Lightning's own."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; a full disk is an OSError, which that of ``torch.save`` is not."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with write_bytes_atomically(Path(path)) as file:
            file.write(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        HaleError: the file is missing, or is not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        content = {key: state[key] for key in ("callbacks", "global_step", "state_dict")}
    except Exception as error:  # a damaged file fails in many ways
        raise HaleError(
            f"{path} is not a checkpoint of hale ({type(error).__name__}): remove it, or "
            "start in a new folder"
        ) from error
    return content
