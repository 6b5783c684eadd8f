"""Filtered ranks: the only place where a rank is computed.

Protocol:

- Both directions of every triple are ranked, as two queries.
- Every entity is a candidate, including those that never occur in train.
- Filtered setting: the other known answers to a query, from all splits, are excluded. They are set
  to distance +inf, never to a large finite value that a real distance could exceed.
- Ties are resolved realistically: the rank is the mean of the optimistic one (the target first
  among equals) and the pessimistic one (the target last). Both are kept, so their gap can be
  monitored.
- Distances are computed in float32, or in float64 if the model is float64, whatever the training
  precision. The target's distance is read from the same matrix as the other candidates', so no two
  code paths can differ in a last bit.
- A query's own entity, where the model excludes it, is ranked below all other candidates
  (:meth:`hale.models.base.QueryModel.exclude_own`).
- Where several processes share the entities, each counts the better and the equal candidates among
  its own, and the counts are summed.
- A score that is not finite raises :class:`~hale.errors.DivergedError`: comparisons with NaN are
  false, so a diverged model would rank every target first.

Activations are increasing and do not change the order, so ranks are computed from distances. Where
an activation is flat (beyond Halin's bound, or by rounding) scores tie but distances do not.

    B  queries     E  entities, of this process where they are shared     D  dimension
    P  known pairs     C  queries of one block     N  queries of all processes
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hale.evaluation.distances import Distances
from hale.graphs.batches import QueryBatch
from hale.graphs.queries import Known
from hale.scoring.table import ScoreMatrix


@dataclass(frozen=True)
class Ranks:
    """Filtered ranks of one target per query, int64; rank 1 is the best.

    ``candidates_B`` counts the entities that were ranked: the target and the others.
    """

    optimistic_B: Tensor
    pessimistic_B: Tensor
    candidates_B: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.optimistic_B)

    @property
    def realistic_B(self) -> Tensor:
        """Mean of the optimistic and the pessimistic rank, a multiple of 1/2 in float64."""
        return (self.optimistic_B + self.pessimistic_B).double() / 2


def rank_batch(scores: ScoreMatrix, batch: QueryBatch) -> Ranks:
    """Ranks of a batch's targets; ``batch.answers`` must index the triples of all splits."""
    return filtered_ranks(scores, batch.target_B, batch.known(len(batch)))


@torch.no_grad()
def filtered_ranks(scores: ScoreMatrix, target_B: Tensor, known: Known) -> Ranks:
    """Rank each target among all entities except the other known answers to its query.

    Args:
        scores: B queries against all entities; the activation is not evaluated.
        target_B: for each query, the entity to rank.
        known: answers to exclude; a target among them is ranked all the same. Where the entities
            are shared, they are those of :meth:`hale.graphs.batches.QueryBatch.known`.

    Raises:
        DivergedError: a score is NaN or infinite.
    """
    with _full_precision(target_B.device.type):
        better_B, tied_B, excluded_B = _compare_candidates(scores, target_B, known)
    return Ranks(
        optimistic_B=1 + better_B,
        pessimistic_B=1 + better_B + tied_B,
        candidates_B=len(scores.entity) - excluded_B,
    )


@torch.no_grad()
def top_k(scores: ScoreMatrix, k: int, excluded: Known | None = None) -> Tensor:
    """The k best entities of each query, ``entity_BK``, best first; K = min(k, E).

    Args:
        scores: B queries against all entities; the activation is not evaluated.
        k: how many, at least 1.
        excluded: entities to exclude. A row with fewer than K others, without its own entity if
            the scores exclude that, is padded with -1.

    Raises:
        DivergedError: a score is NaN or infinite.
    """
    count = min(k, len(scores.entity))
    best_BK = scores.query_BD.new_empty(len(scores), count, dtype=torch.int64)
    with _full_precision(best_BK.device.type):
        distances = Distances(scores)
        for rows in _slices(len(scores), distances.rows_of_all(scores.columns)):
            distance_CE = distances.block(rows, slice(0, len(scores.entity)))
            if excluded is not None:
                distance_CE[excluded.rows(rows).pairs()] = torch.inf
            distance_CK, entity_CK = distance_CE.topk(count, largest=False)
            never_CK = distance_CK >= torch.finfo(distance_CK.dtype).max
            best_BK[rows] = entity_CK.masked_fill(never_CK, -1)
    return best_BK


def _compare_candidates(
    scores: ScoreMatrix, target_B: Tensor, known: Known
) -> tuple[Tensor, Tensor, Tensor]:
    """For each target, the numbers of nearer, of equally near, and of excluded other candidates.

    Raises:
        DivergedError: a distance is NaN or infinite.
    """
    here, target_N = scores.here(), scores.place(target_B)
    distances = Distances(here)
    row_count, column_count = distances.block_shape(scores.columns)
    tiles = _slices(len(here.entity), column_count)
    count_N3, flag_CE = target_N.new_zeros(len(target_N), 3), torch.empty(0)
    for rows in _slices(len(here), row_count):
        target_C, (row_P, entity_P) = target_N[rows], known.rows(rows).pairs()
        other_P = entity_P != target_C.index_select(0, row_P)
        count_N3[rows, 2] = torch.bincount(row_P[other_P], minlength=len(target_C))
        of_target_C1 = scores.total(_of_targets(distances, rows, tiles, target_C))[:, None]
        row_X = (target_C >= 0).nonzero().flatten()
        row_P, entity_P = torch.cat((row_P, row_X)), torch.cat((entity_P, target_C[row_X]))
        for columns in tiles:
            distance_CE = distances.block(rows, columns)
            cell_P = _cells(row_P, entity_P, columns, whole=len(tiles) == 1)
            distance_CE.view(-1).index_fill_(0, cell_P, torch.inf)
            # Floating-point flags: several times faster to write and to sum than bool.
            if flag_CE.shape != distance_CE.shape:
                flag_CE = torch.empty_like(distance_CE)
            count_N3[rows, 0] += _count(torch.lt(distance_CE, of_target_C1, out=flag_CE))
            count_N3[rows, 1] += _count(torch.eq(distance_CE, of_target_C1, out=flag_CE))
    better_B, tied_B, excluded_B = scores.own(count_N3).unbind(1)
    return better_B, tied_B, excluded_B


def _of_targets(
    distances: Distances, rows: slice, tiles: Sequence[slice], target_C: Tensor
) -> Tensor:
    """The distances of the targets, ``distance_C``; 0 for one of another process, -1 here."""
    of_target_C = distances.zeros(len(target_C))
    for columns in tiles:
        row_X = ((target_C >= columns.start) & (target_C < columns.stop)).nonzero().flatten()
        if len(row_X):
            column_X = target_C[row_X] - columns.start
            of_target_C[row_X] = distances.block(rows, columns)[row_X, column_X]
    return of_target_C


def _cells(row_P: Tensor, entity_P: Tensor, columns: slice, whole: bool) -> Tensor:
    """Places in a block of the pairs that lie in it; all do in a block of all entities."""
    if not whole:
        inside_P = (entity_P >= columns.start) & (entity_P < columns.stop)
        row_P, entity_P = row_P[inside_P], entity_P[inside_P] - columns.start
    return torch.add(entity_P, row_P, alpha=columns.stop - columns.start)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _count(flag_CE: Tensor) -> Tensor:
    """The exact number of flags that are 1: float32 represents integers up to 2^24."""
    exact = flag_CE.dtype if flag_CE.shape[1] <= 1 << 24 else torch.float64
    return flag_CE.sum(1, dtype=exact).long()


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Matrix products in the dtype of their arguments, without autocast, TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
