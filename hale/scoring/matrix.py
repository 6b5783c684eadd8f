"""The matrix of scores of queries against all entities, which is never materialised."""

from dataclasses import dataclass

from torch import Tensor

from hale.data.queries import Known
from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator
from hale.scoring.kernels.chosen_scores import chosen_scores
from hale.scoring.kernels.entity_logsumexp import entity_logsumexp
from hale.scoring.table import Table


@dataclass(frozen=True)
class ScoreMatrix:
    """f(q_b, e) = -activation(distance(q_b, e)) for B queries and all E entities (Eq. 8).

    A loss may ask for its length B, its first rows, chosen entries, the LogSumExp of each row, and
    the entity vectors. None of these materialises the matrix.
    """

    query_BD: Tensor
    scale_B: Tensor
    entity: Table
    comparator: Comparator
    activation: Activation

    def __len__(self) -> int:
        """B."""
        return len(self.query_BD)

    @property
    def entity_ED(self) -> Tensor:
        """The vectors that queries are compared with; a loss may use them freely."""
        return self.entity.tensor

    def first(self, rows: int) -> "ScoreMatrix":
        """The matrix of the first ``rows`` queries."""
        return ScoreMatrix(
            self.query_BD[:rows], self.scale_B[:rows], self.entity, self.comparator,
            self.activation,
        )  # fmt: skip

    def at(self, entity_BK: Tensor) -> Tensor:
        """Scores of chosen entities, ``score_BK``; differentiable."""
        return chosen_scores(
            self.query_BD, self.scale_B, self.entity, entity_BK, self.comparator, self.activation
        )

    def logsumexp(self, known: Known | None = None) -> Tensor:
        """LogSumExp of each row without its ``known`` entities, ``lse_B``; differentiable."""
        return entity_logsumexp(
            self.query_BD, self.scale_B, self.entity.whole(), self.comparator, self.activation,
            known,
        )  # fmt: skip
