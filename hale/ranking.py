"""Filtered ranks: the only place where a rank is computed.

Protocol:

- Both directions of every triple are ranked, as the two queries they are everywhere in hale.
- Every entity is a candidate, those never seen in training too.
- Filtered: the known answers of a query, from all splits, are no rivals of its target. They are
  put at distance +inf, never at a large number that a real distance could pass.
- Ties are realistic: the mean of the optimistic rank (ties go to the target) and the pessimistic
  one (ties go to the rivals). Both are kept, so the gap between them can be watched.
- Distances are computed in the dtype of the embeddings, float32 as trained, and the target's is
  read from the same matrix as its rivals', so no two code paths can disagree in a last bit.
- Scores that are not finite raise :class:`NonFiniteScoreError`: a comparison with NaN is false, so
  a diverged run would rank first everywhere.

An activation is increasing, so it does not change an order: ranks are those of distances. Where an
activation is flat (beyond Halin's bound, or by rounding) scores tie and distances still do not.

    B  queries     E  entities     D  dimension     P  known pairs     C  queries of one chunk
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hale.comparators import SquaredEuclidean
from hale.queries import Known, QueryBatch
from hale.scores import ScoreMatrix

CHUNK_BYTES = 4 << 20
"""Size of the block of distances held at once, never less than one row."""


class NonFiniteScoreError(ValueError):
    """A score is NaN or infinite, so ranks would be meaningless."""


@dataclass(frozen=True)
class Ranks:
    """Filtered ranks of one target per query; rank 1 is the best.

    ``candidates_B`` counts the entities that were ranked, the target and its rivals.
    """

    optimistic_B: Tensor
    pessimistic_B: Tensor
    candidates_B: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.optimistic_B)

    @property
    def realistic_B(self) -> Tensor:
        """Mean of the optimistic and the pessimistic rank, in halves, as float64."""
        return (self.optimistic_B + self.pessimistic_B).double() / 2


def rank_batch(scores: ScoreMatrix, batch: QueryBatch) -> Ranks:
    """Ranks of a batch's targets; ``batch.answers`` must index the triples of all splits."""
    return filtered_ranks(scores, batch.target_B, batch.known(len(batch)))


@torch.no_grad()
def filtered_ranks(scores: ScoreMatrix, target_B: Tensor, known: Known) -> Ranks:
    """Rank each target among all entities but the other known answers of its query.

    Args:
        scores: B queries against all entities; the activation is not evaluated.
        target_B: entity whose rank is asked for.
        known: answers that are no rivals. Whether a target is listed too makes no difference.

    Raises:
        NonFiniteScoreError: if a score is NaN or infinite.
    """
    known, first_B1 = _by_row(known, len(scores))
    entity_sq_E = scores.entity_ED.square().sum(1)
    rows = max(1, CHUNK_BYTES // (len(entity_sq_E) * entity_sq_E.element_size()))
    better, tied = [], []
    for start in range(0, len(scores), rows):
        stop = min(start + rows, len(scores))
        pairs = slice(int(first_B1[start]), int(first_B1[stop]))
        distance_CE = _distances(scores, slice(start, stop), entity_sq_E)
        better_C, tied_C = _count_rivals(
            distance_CE,
            target_B[start:stop],
            Known(known.row_P[pairs] - start, known.entity_P[pairs]),
        )
        better.append(better_C)
        tied.append(tied_C)
    optimistic_B = torch.cat(better) + 1
    other_P = known.entity_P != target_B[known.row_P]
    filtered_B = torch.bincount(known.row_P[other_P], minlength=len(scores))
    return Ranks(optimistic_B, optimistic_B + torch.cat(tied), len(entity_sq_E) - filtered_B)


def _by_row(known: Known, rows: int) -> tuple[Known, Tensor]:
    """The pairs sorted by row, and where each row's begin (on the host)."""
    row_P, entity_P = known
    if (row_P[1:] < row_P[:-1]).any():
        row_P, order_P = row_P.sort(stable=True)
        entity_P = entity_P[order_P]
    start_B1 = torch.arange(rows + 1, device=row_P.device)
    return Known(row_P, entity_P), torch.searchsorted(row_P, start_B1).cpu()


def _distances(scores: ScoreMatrix, rows: slice, entity_sq_E: Tensor) -> Tensor:
    """A fresh ``distance_CE`` whose every row has the order of the comparator's distances."""
    query_CD, scale_C1 = scores.query_BD[rows], scores.scale_B[rows, None]
    if isinstance(scores.comparator, SquaredEuclidean):  # the same less scale * |q|^2, in one GEMM
        return torch.addmm(
            entity_sq_E * scale_C1, query_CD * scale_C1, scores.entity_ED.T, alpha=-2
        )
    return scores.comparator(
        query_CD @ scores.entity_ED.T,
        query_CD.square().sum(1, keepdim=True),
        entity_sq_E,
        scale_C1,
    )


def _count_rivals(distance_CE: Tensor, target_C: Tensor, known: Known) -> tuple[Tensor, Tensor]:
    """Rivals before each target and beside it, ``better_C`` and ``tied_C``; overwrites distances.

    Raises:
        NonFiniteScoreError: if a distance is NaN or infinite.
    """
    if not distance_CE.isfinite().all():
        raise NonFiniteScoreError(
            "scores are NaN or infinite and cannot be ranked: the run has diverged; "
            "lower optimizer.lr"
        )
    target_C1 = target_C[:, None]
    of_target_C1 = distance_CE.gather(1, target_C1)
    distance_CE.scatter_(1, target_C1, torch.inf)
    distance_CE[known] = torch.inf
    return (distance_CE < of_target_C1).sum(1), (distance_CE == of_target_C1).sum(1)
