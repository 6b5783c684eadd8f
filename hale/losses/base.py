"""What a loss is, and which comparators and activations it composes with."""

from typing import Protocol

from torch import Tensor

from hale.data.queries import QueryBatch
from hale.errors import HaleError
from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator
from hale.scoring.matrix import ScoreMatrix


class Loss(Protocol):
    """Maps the scores of a batch to named scalars; it knows no model, no config, no device.

    ``scores`` has one row for each query of ``batch``. The result's ``loss`` is minimised; every
    other entry is a part of it that is worth a curve (``alignment``, ``uniformity``).
    """

    @property
    def nonnegative(self) -> bool:
        """Whether it needs activated distances >= 0, as a loss that squares them does."""

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """Compute the named scalars, all differentiable."""


def require_compatible(comparator: Comparator, activation: Activation, loss: Loss) -> None:
    """Raise HaleError if the activation or the loss needs distances >= 0 and may not get them."""
    if comparator.nonnegative:
        return
    distance = f"{type(comparator).__name__} distances can be below 0"
    if activation.nonnegative:
        raise HaleError(
            f"{distance}, where {type(activation).__name__} is not defined: choose "
            "activation=identity, temperature, hanon or halin, or a model that measures a distance"
        )
    if loss.nonnegative and not activation.positive:
        raise HaleError(
            f"{distance} under {type(activation).__name__}, and {type(loss).__name__} would pull "
            "their squares to 0: choose activation=hanon, a loss without the square, or a model "
            "that measures a distance"
        )
