"""Lightning's Trainer, whose refusals are the user's to fix."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from hale.errors import HaleError
from hale.training import processes


def make_trainer(factory: Callable[..., pl.Trainer], **arguments: Any) -> pl.Trainer:
    """The trainer that a config group describes, with arguments of hale's own.

    Raises:
        HaleError: it refuses an argument, or wants other processes than were started.
    """
    try:
        trainer = factory(**arguments)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise HaleError(f"trainer: {error}") from error
    if trainer.world_size != processes.count():
        raise HaleError(
            f"the trainer wants {trainer.world_size} processes, and {processes.count()} train: "
            f"set trainer.devices={processes.count()}"
        )
    return trainer
