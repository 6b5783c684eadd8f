"""Lightning's Trainer, whose refusals are the user's to fix."""

import signal
import threading
from functools import partial
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies import ModelParallelStrategy

from hale.distributed import processes
from hale.errors import HaleError
from hale.settings.trainer import is_sharded


def make_trainer(factory: partial[pl.Trainer], **arguments: Any) -> pl.Trainer:
    """The trainer that a config group describes, with arguments of hale's own.

    Raises:
        HaleError: it refuses an argument, or wants other processes than were started.
    """
    found = processes.process_count()
    if is_sharded(factory.keywords):
        arguments["strategy"] = ModelParallelStrategy(1, found)
    if SLURMEnvironment.detect():  # a job that is requeued resumes from its last checkpoint
        arguments["plugins"] = [*arguments.get("plugins", ()), SLURMEnvironment(auto_requeue=False)]
    try:
        trainer = factory(**arguments)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise HaleError(f"trainer: {error}") from error
    if trainer.world_size != found:
        raise HaleError(
            f"the trainer wants {trainer.world_size} processes, and {found} train: "
            f"set trainer.devices={found}"
        )
    return trainer


class OwnSigterm(pl.Callback):
    """Lets SIGTERM end one of several processes as it did before training.

    Lightning's handler would first wait for the other processes, whatever they are doing.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the handler from before."""
        main = threading.current_thread() is threading.main_thread()
        if main and processes.process_count() > 1 and self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
