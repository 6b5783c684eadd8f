"""What a loss is."""

from typing import Protocol

from torch import Tensor

from hale.queries import QueryBatch
from hale.scores import ScoreMatrix


class Loss(Protocol):
    """Maps the scores of a batch to named scalars; it knows no model, no config, no device.

    ``scores`` has one row for each query of ``batch``. The result's ``loss`` is minimised; every
    other entry is a part of it that is worth a curve (``alignment``, ``uniformity``).
    """

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """Compute the named scalars, all differentiable."""
