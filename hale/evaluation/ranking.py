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
    P  known pairs     C  queries of one chunk     N  queries of all processes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hale.errors import DivergedError
from hale.graphs.batches import QueryBatch
from hale.graphs.queries import Known
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.table import ScoreMatrix

CHUNK_BYTES = {"cpu": 6 << 20, "cuda": 256 << 20}
"""Bytes of a block of distances: fits a CPU's cache, or saturates a GPU."""
CHUNK_ROWS = 16
"""Rows of a block at least, whatever its bytes: each block reads the whole entity table."""


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
        for rows, distance_CE in _distance_chunks(scores, scores.columns):
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
    entities = len(here.entity)
    count_N3 = target_N.new_zeros(len(target_N), 3)
    flag_CE = torch.empty(0)
    for rows, distance_CE in _distance_chunks(here, scores.columns):
        row_P, entity_P = known.rows(rows).pairs()
        target_C = target_N[rows]
        other_P = entity_P != target_C.index_select(0, row_P)
        count_N3[rows, 2] = torch.bincount(row_P[other_P], minlength=len(distance_CE))
        of_target_C1 = scores.total(_take_targets(distance_CE, target_C))[:, None]
        cell_P = torch.add(entity_P, row_P, alpha=entities)
        distance_CE.view(-1).index_fill_(0, cell_P, torch.inf)
        # Floating-point flags: several times faster to write and to sum than bool.
        if flag_CE.shape != distance_CE.shape:
            flag_CE = torch.empty_like(distance_CE)
        count_N3[rows, 0] = _count(torch.lt(distance_CE, of_target_C1, out=flag_CE))
        count_N3[rows, 1] = _count(torch.eq(distance_CE, of_target_C1, out=flag_CE))
    better_B, tied_B, excluded_B = scores.own(count_N3).unbind(1)
    return better_B, tied_B, excluded_B


def _take_targets(distance_CE: Tensor, target_C: Tensor) -> Tensor:
    """The distances of the targets, ``distance_C``, which are replaced by infinity.

    A target of another process, -1 here, has distance 0.
    """
    row_X = (target_C >= 0).nonzero().flatten()
    cell_X = target_C[row_X]
    of_target_C = distance_CE.new_zeros(len(target_C))
    of_target_C[row_X] = distance_CE[row_X, cell_X]
    distance_CE[row_X, cell_X] = torch.inf
    return of_target_C


def _distance_chunks(scores: ScoreMatrix, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows with their ``distance_CE``, which the caller may overwrite.

    A query's own entity, where it is excluded, is at the largest finite distance.

    Raises:
        DivergedError: a distance is NaN or infinite.
    """
    for rows, distance_CE in _plain_chunks(scores, columns):
        _require_finite(distance_CE)
        if scores.own_B is not None:
            own_C = scores.own_B[rows]
            row_X = (own_C >= 0).nonzero().flatten()
            distance_CE[row_X, own_C[row_X]] = torch.finfo(distance_CE.dtype).max
        yield rows, distance_CE


def _plain_chunks(scores: ScoreMatrix, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows with the distances of their queries to all entities.

    Squared Euclidean distances omit the term scale * |q|^2: the order of each row is the same,
    rounding errors are smaller, and a single matrix product remains.
    """
    dtype = torch.promote_types(scores.query_BD.dtype, torch.float32)
    query_BD, entity_ED = scores.query_BD.to(dtype), scores.entity_ED.to(dtype)
    scale_B1 = scores.scale_B.to(dtype)[:, None]
    _require_finite(scale_B1)  # divided by infinity, a distance would be 0
    query_sq_B1 = query_BD.square().sum(1, keepdim=True)
    entity_sq_E = entity_ED.square().sum(1)
    row_bytes = columns * dtype.itemsize
    chunk = max(CHUNK_ROWS, CHUNK_BYTES[query_BD.device.type] // row_bytes)
    slices = [slice(start, start + chunk) for start in range(0, len(query_BD), chunk)]
    if isinstance(scores.comparator, SquaredEuclidean):
        _require_finite(scale_B1 * query_sq_B1)
        left_BF = torch.cat((-2 * scale_B1 * query_BD, scale_B1), 1)
        right_EF = torch.cat((entity_ED, entity_sq_E[:, None]), 1)
        out_CE = query_BD.new_empty(min(chunk, len(query_BD)), len(entity_ED))
        for rows in slices:
            left_CF = left_BF[rows]
            yield rows, torch.mm(left_CF, right_EF.T, out=out_CE[: len(left_CF)])
    else:
        for rows in slices:
            dot_CE = query_BD[rows] @ entity_ED.T
            yield (
                rows,
                scores.comparator(dot_CE, query_sq_B1[rows], entity_sq_E, scale_B1[rows]),
            )


def _count(flag_CE: Tensor) -> Tensor:
    """The exact number of flags that are 1: float32 represents integers up to 2^24."""
    exact = flag_CE.dtype if flag_CE.shape[1] <= 1 << 24 else torch.float64
    return flag_CE.sum(1, dtype=exact).long()


def _require_finite(distance: Tensor) -> None:
    """Raise DivergedError unless all are finite; a finite sum, one cheap pass, is sufficient."""
    if not distance.sum().isfinite() and not distance.isfinite().all():
        raise DivergedError(
            "scores are NaN or infinite and cannot be ranked: training diverged; "
            "lower optimizer.lr, or bound the distance with activation=hanon"
        )


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
