"""The interface of a loss, and which comparators and activations it can be combined with."""

from typing import Protocol

from torch import Tensor

from hale.errors import HaleError
from hale.graphs.batches import QueryBatch
from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator
from hale.scoring.table import ScoreMatrix


class Loss(Protocol):
    """Maps the scores of a batch to named scalars, independently of model, config and device.

    ``scores`` has one row for each query of ``batch``; averages over queries are taken by
    ``batch.mean``, which knows the queries' weights. The result's ``loss`` is minimised; all other
    entries are parts of it that are logged as curves (``alignment``, ``uniformity``).
    """

    @property
    def nonnegative(self) -> bool:
        """Whether it requires activated distances >= 0, as a loss that squares them does."""

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """Compute the named scalars, all differentiable."""


def require_compatible(comparator: Comparator, activation: Activation, loss: Loss) -> None:
    """Raise HaleError if the activation or loss requires distances >= 0 and some may be below 0."""
    if comparator.nonnegative:
        return
    distance = f"{type(comparator).__name__} distances can be below 0"
    if activation.nonnegative:
        raise HaleError(
            f"{distance}, where {type(activation).__name__} is not defined: choose "
            "activation=identity, temperature, hanon or halin, or a model compared by a distance, "
            "such as model=rotl"
        )
    if loss.nonnegative and not activation.positive:
        raise HaleError(
            f"{distance} under {type(activation).__name__}, and {type(loss).__name__} would pull "
            "their squares to 0: choose activation=hanon, a loss without the square, or a model "
            "compared by a distance, such as model=rotl"
        )
