"""Lightning's Trainer, whose refusals are the user's to fix."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from hale.errors import HaleError


def make_trainer(factory: Callable[..., pl.Trainer], **arguments: Any) -> pl.Trainer:
    """The trainer that a config group describes, with arguments of hale's own.

    Raises:
        HaleError: it refuses an argument, or has more than one process.
    """
    try:
        trainer = factory(**arguments)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise HaleError(f"trainer: {error}") from error
    if trainer.world_size > 1:
        raise HaleError(
            f"trainer.devices asks for {trainer.world_size} processes, whose clocks would differ: "
            "a run has one device, trainer.devices=1"
        )
    return trainer
