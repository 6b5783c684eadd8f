"""Training without negatives (NonNeg): positives and a regularised entity matrix (Eq. 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hale.errors import require
from hale.graphs.batches import QueryBatch
from hale.scoring.table import ScoreMatrix


@dataclass(frozen=True)
class NonNeg:
    """``L = mean_B h(x_p)^2 + weight * mean_E (|e - c|^2 - radius^2)^2``, c the mean entity.

    Section 4.1.2 names "a square loss to maximize positive triple scores and a global
    regularization to constrain the distance between each entity vector and the center vector of
    entity matrix", without its formula. Positives alone are minimised by collapsing all entities
    to one point, so the constraint must keep entities away from the centre as well as near it:
    they are kept on a sphere around it. This is a soft form of the two constraints (centred, of
    unit length) of Peng et al. (NAACL 2021), whom the paper cites for this strategy.

    Args:
        weight: weight of the regularisation relative to the positives; above 0.
        radius: radius of the sphere around the mean entity; above 0.
    """

    weight: float = 1.0
    radius: float = 1.0
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require("weight", self.weight, above=0)
        require("radius", self.radius, above=0)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss``, ``alignment`` and ``regularization``, each a scalar."""
        alignment = batch.mean(scores.at(batch.target_B[:, None]).square())
        centred_ED = scores.entity_ED - scores.entity_ED.mean(0)
        distance_sq_E = centred_ED.square().sum(1)
        regularization = (distance_sq_E - self.radius**2).square().mean()
        return {
            "loss": alignment + self.weight * regularization,
            "alignment": alignment,
            "regularization": regularization,
        }
