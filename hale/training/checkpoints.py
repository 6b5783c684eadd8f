"""Checkpoints of a run: the last, the best, and what they were trained with."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from hale.distributed import processes
from hale.distributed.checkpoints import load_weights, require_complete
from hale.errors import HaleError
from hale.runs.files import UNFINISHED, write_bytes_atomically
from hale.runs.record import identity
from hale.settings.trainer import is_sharded
from hale.training.curve import Curve

METADATA = "meta.pt"
"""What Lightning writes beside the parts of a checkpoint folder."""


class Identity(pl.Callback):
    """Records in checkpoints what they were trained with, to refuse those of another run.

    Args:
        fingerprint: of the graph.
        config: the resolved config; what counts of it is :func:`hale.runs.record.identity`.
    """

    def __init__(self, fingerprint: str, config: dict[str, Any]) -> None:
        self.identity = {"fingerprint": fingerprint} | identity(config)
        self._trainer = config["trainer"]

    def state_dict(self) -> dict[str, Any]:
        """What the run is trained with."""
        return self.identity

    def require(self, path: Path) -> dict[str, Any]:
        """The state of the callbacks in a checkpoint of the same identity.

        Raises:
            HaleError: it is of another run, of an older version of hale, or no checkpoint.
        """
        sharded = is_sharded(self._trainer)
        if path.is_dir() != sharded:
            raise HaleError(
                f"{path} is {'not ' if sharded else ''}of a run with trainer=sharded: resume it "
                f"with{'out' if sharded else ''} it, or start in a new folder"
            )
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

    def load_best(self, module: pl.LightningModule) -> dict[str, float]:
        """Load the best weights; returns the row of the curve with the metrics of the same step.

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
        if self.best.is_dir():
            load_weights(module, self.best)
        else:
            module.load_state_dict(best["state_dict"])
        return row

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the copy that an interrupted run may lack."""
        self._keep_best(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint of this validation."""
        if trainer.sanity_checking:
            return
        self.last.parent.mkdir(parents=True, exist_ok=True)
        self._write(trainer)
        self._keep_best(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        """Write the last checkpoint."""
        trainer.save_checkpoint(self.last)

    def _copy(self) -> None:
        """Make the last checkpoint the best."""
        with self.last.open("rb") as last, write_bytes_atomically(self.best) as best:
            shutil.copyfileobj(last, best)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the number of steps, by which loggers count: Lightning's is one less meanwhile."""
        epoch_loop = checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]
        epoch_loop["_batches_that_stepped"] = trainer.global_step

    def _keep_best(self, trainer: pl.Trainer) -> None:
        """Copy the last checkpoint, that of this step, if its validation is the best so far."""
        is_best = self.curve.rows and self.curve.best(self.monitor)["step"] == trainer.global_step
        if is_best and processes.is_first():
            self._copy()
        processes.wait()


class ShardedCheckpoints(Checkpoints):
    """Checkpoints to which each process writes its part, in a folder for each validation's step.

    ``last.ckpt`` and ``best.ckpt`` are links to two of them, and the others are removed. Lightning
    reads and writes them with ``torch.distributed.checkpoint``, for any number of processes.
    """

    def _write(self, trainer: pl.Trainer) -> None:
        folder = self.last.with_name(f"step-{trainer.global_step}")
        if self.last.exists() and self.last.resolve() == folder.resolve():
            return
        if processes.is_first():
            shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
        trainer.save_checkpoint(folder)
        if processes.is_first():
            _link(self.last, folder)
            self._remove_others()

    def _copy(self) -> None:
        _link(self.best, self.last.resolve())
        self._remove_others()

    def _remove_others(self) -> None:
        kept = {link.resolve() for link in (self.last, self.best)}
        for folder in self.last.parent.glob("step-*"):
            if folder.resolve() not in kept:
                shutil.rmtree(folder)


def _link(link: Path, folder: Path) -> None:
    """Have a link in the same folder point to another, at once."""
    new = link.with_name(f".{link.name}{UNFINISHED}")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.replace(link)


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
    """The content of a checkpoint, on the CPU; of a folder, without the weights.

    Raises:
        HaleError: the file is missing, or is not a checkpoint.
    """
    keys, file = ["callbacks", "global_step", "state_dict"], path
    if path.is_dir():
        require_complete(path)
        keys, file = keys[:2], path / METADATA
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        content = {key: state[key] for key in keys}
    except Exception as error:  # a damaged file fails in many ways
        raise HaleError(
            f"{path} is not a checkpoint of hale ({type(error).__name__}): remove it, or "
            "start in a new folder"
        ) from error
    return content
