"""The Triton kernels of :mod:`hale.scoring.kernels.triton_lse`.

N  queries    E  entities    D  dimension    S  splits of the entities
"""

import triton
import triton.language as tl

from hale.scoring.kernels.triton_scores import compare, harden


@triton.jit
def _word(known_ptr, word, row, num_rows, num_entities):
    """One word of known bits for each row."""
    inside = (row < num_rows) & (word * 32 < num_entities)
    return tl.load(known_ptr + word * num_rows.to(tl.int64) + row, mask=inside, other=0)


@triton.jit
def _log_weights(
    log_weight_ptr, row, inside, place, num_entities,
    NEAR: tl.constexpr, GROUP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Logarithm of the weight of a block of entities, which is within a cluster, for each row."""
    weight = tl.zeros(row.shape, tl.float32)
    if NEAR:
        at = (row // GROUP).to(tl.int64) * tl.cdiv(num_entities, TILE) + place // TILE
        weight = tl.load(log_weight_ptr + at, mask=inside, other=float("-inf"))
    return weight


@triton.jit
def _block(vector_ptr, index, inside, first, D: tl.constexpr, BLOCK: tl.constexpr):
    """Coordinates first to first + BLOCK of some vectors, 0 outside."""
    dim = first + tl.arange(0, BLOCK)
    return tl.load(
        vector_ptr + index.to(tl.int64)[:, None] * D + dim[None, :],
        mask=inside[:, None] & (dim < D)[None, :],
        other=0.0,
    )


@triton.jit
def _squares(vector_ptr, index, inside, D: tl.constexpr, BLOCK_K: tl.constexpr):
    """Squared norms of some vectors."""
    total = tl.zeros(index.shape, tl.float32)
    for first in range(0, D, BLOCK_K):
        part = _block(vector_ptr, index, inside, first, D, BLOCK_K)
        total += tl.sum(part * part, axis=1)
    return total


@triton.jit
def _products(
    left_ptr, left, in_left, right_ptr, right, in_right,
    D: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Dot products of some vectors with others, and the squared norms of the others."""
    dot = tl.zeros((left.shape[0], right.shape[0]), tl.float32)
    square = tl.zeros(right.shape, tl.float32)
    for first in range(0, D, BLOCK_K):
        left_block = _block(left_ptr, left, in_left, first, D, BLOCK_K)
        right_block = _block(right_ptr, right, in_right, first, D, BLOCK_K)
        dot = tl.dot(left_block, tl.trans(right_block), dot, input_precision=PRECISION)
        square += tl.sum(right_block * right_block, axis=1)
    return dot, square


@triton.jit(do_not_specialize=["num_rows", "num_entities", "tiles_of_split"])
def forward_kernel(
    query_ptr, scale_ptr, entity_ptr, known_ptr, log_weight_ptr, partial_ptr, partial_query_ptr,
    num_rows, num_entities, tiles_of_split, rate, beta, gamma, limit, offset,
    COMPARATOR: tl.constexpr, ACTIVATION: tl.constexpr, MASKED: tl.constexpr,
    NEAR: tl.constexpr, GROUP: tl.constexpr, TILE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, GRADIENT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr, GRADIENT_PRECISION: tl.constexpr,
):  # fmt: skip
    """Maximum, sum and weighted sums of one block of rows over one split of the entities."""
    split = tl.program_id(1)
    row_N = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_N = row_N < num_rows
    query_sq_N = _squares(query_ptr, row_N, in_N, D, BLOCK_K)
    scale_N = tl.load(scale_ptr + row_N, mask=in_N, other=1.0)

    peak_N = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    sum_N = tl.zeros((BLOCK_N,), tl.float32)
    norm_N = tl.zeros((BLOCK_N,), tl.float32)
    grad_scale_N = tl.zeros((BLOCK_N,), tl.float32)
    grad_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    first = split * tiles_of_split * BLOCK_E
    for start in range(first, min(first + tiles_of_split * BLOCK_E, num_entities), BLOCK_E):
        log_weight_N = _log_weights(
            log_weight_ptr, row_N, in_N, start, num_entities, NEAR, GROUP, TILE
        )
        if tl.max(log_weight_N, axis=0) > float("-inf"):
            column_E = tl.arange(0, BLOCK_E)
            entity_E = start + column_E
            in_E = entity_E < num_entities
            dot_NE, entity_sq_E = _products(
                query_ptr, row_N, in_N, entity_ptr, entity_E, in_E, D, BLOCK_K, PRECISION
            )
            distance_NE, d_dot_NE, d_query_NE, _, d_scale_NE = compare(
                dot_NE,
                query_sq_N[:, None],
                entity_sq_E[None, :],
                scale_N[:, None],
                COMPARATOR,
            )
            hardened_NE, slope_NE = harden(
                distance_NE, rate, beta, gamma, limit, offset, ACTIVATION
            )
            counts_NE = in_N[:, None] & in_E[None, :]
            if MASKED:
                for word in tl.static_range(BLOCK_E // 32):
                    bits_N = _word(known_ptr, start // 32 + word, row_N, num_rows, num_entities)
                    known_NE = ((bits_N[:, None] >> (column_E % 32)[None, :]) & 1) == 1
                    counts_NE &= ~(known_NE & (column_E // 32 == word)[None, :])
            score_NE = tl.where(counts_NE, log_weight_N[:, None] - hardened_NE, float("-inf"))

            before_N = peak_N
            peak_N = tl.maximum(before_N, tl.max(score_NE, axis=1))
            shift_N = tl.where(peak_N == float("-inf"), 0.0, peak_N)
            decay_N = tl.exp(before_N - shift_N)
            weight_NE = tl.exp(score_NE - shift_N[:, None])
            sum_N = sum_N * decay_N + tl.sum(weight_NE, axis=1)
            if GRADIENT:
                weight_NE = tl.where(counts_NE, -slope_NE * weight_NE, 0.0)
                norm_N = norm_N * decay_N + tl.sum(weight_NE * d_query_NE, axis=1)
                grad_scale_N = grad_scale_N * decay_N + tl.sum(weight_NE * d_scale_NE, axis=1)
                grad_ND = tl.dot(
                    weight_NE * d_dot_NE,
                    _block(entity_ptr, entity_E, in_E, 0, D, BLOCK_D),
                    grad_ND * decay_N[:, None],
                    input_precision=GRADIENT_PRECISION,
                )

    first_row = split.to(tl.int64) * num_rows
    plane = tl.num_programs(1).to(tl.int64) * num_rows
    partial_ptr += first_row + row_N
    tl.store(partial_ptr, peak_N, mask=in_N)
    tl.store(partial_ptr + plane, sum_N, mask=in_N)
    if GRADIENT:
        tl.store(partial_ptr + 2 * plane, norm_N, mask=in_N)
        tl.store(partial_ptr + 3 * plane, grad_scale_N, mask=in_N)
        dim_D = tl.arange(0, BLOCK_D)
        at_ND = (first_row + row_N)[:, None] * D + dim_D[None, :]
        in_ND = in_N[:, None] & (dim_D < D)[None, :]
        tl.store(partial_query_ptr + at_ND, grad_ND, mask=in_ND)


@triton.jit(do_not_specialize=["weight_stride", "num_rows", "num_entities"])
def grad_entity_kernel(
    query_ptr, scale_ptr, entity_ptr, known_ptr, log_weight_ptr, peak_ptr, inverse_ptr, weight_ptr,
    weight_stride, grad_entity_ptr, num_rows, num_entities, rate, beta, gamma, limit, offset,
    COMPARATOR: tl.constexpr, ACTIVATION: tl.constexpr, MASKED: tl.constexpr,
    NEAR: tl.constexpr, GROUP: tl.constexpr, TILE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr, GRADIENT_PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of entities over all rows; each element is written once."""
    tile = tl.program_id(0)
    column_E = tl.arange(0, BLOCK_E)
    entity_E = tile * BLOCK_E + column_E
    in_E = entity_E < num_entities
    entity_sq_E = _squares(entity_ptr, entity_E, in_E, D, BLOCK_K)

    norm_E = tl.zeros((BLOCK_E,), tl.float32)
    grad_ED = tl.zeros((BLOCK_E, BLOCK_D), tl.float32)
    for start in range(0, num_rows, BLOCK_N):
        row_N = start + tl.arange(0, BLOCK_N)
        in_N = row_N < num_rows
        log_weight_N = _log_weights(
            log_weight_ptr, row_N, in_N, tile * BLOCK_E, num_entities, NEAR, GROUP, TILE
        )
        if tl.max(log_weight_N, axis=0) > float("-inf"):
            scale_N = tl.load(scale_ptr + row_N, mask=in_N, other=1.0)
            peak_N = tl.load(peak_ptr + row_N, mask=in_N, other=0.0)
            share_N = tl.load(inverse_ptr + row_N, mask=in_N, other=0.0)
            share_N *= tl.load(weight_ptr + row_N * weight_stride, mask=in_N, other=0.0)
            dot_EN, query_sq_N = _products(
                entity_ptr, entity_E, in_E, query_ptr, row_N, in_N, D, BLOCK_K, PRECISION
            )
            distance_EN, d_dot_EN, _, d_entity_EN, _ = compare(
                dot_EN,
                query_sq_N[None, :],
                entity_sq_E[:, None],
                scale_N[None, :],
                COMPARATOR,
            )
            hardened_EN, slope_EN = harden(
                distance_EN, rate, beta, gamma, limit, offset, ACTIVATION
            )
            score_EN = log_weight_N[None, :] - hardened_EN
            weight_EN = -slope_EN * tl.exp(score_EN - peak_N[None, :]) * share_N[None, :]
            weight_EN = tl.where((log_weight_N > float("-inf"))[None, :], weight_EN, 0.0)
            if MASKED:
                for word in tl.static_range(BLOCK_E // 32):
                    bits_N = _word(
                        known_ptr, tile * (BLOCK_E // 32) + word, row_N, num_rows, num_entities
                    )
                    known_EN = ((bits_N[None, :] >> (column_E % 32)[:, None]) & 1) == 1
                    known_EN &= (column_E // 32 == word)[:, None]
                    weight_EN = tl.where(known_EN, 0.0, weight_EN)
            norm_E += tl.sum(weight_EN * d_entity_EN, axis=1)
            grad_ED = tl.dot(
                weight_EN * d_dot_EN,
                _block(query_ptr, row_N, in_N, 0, D, BLOCK_D),
                grad_ED,
                input_precision=GRADIENT_PRECISION,
            )
    grad_ED += 2.0 * norm_E[:, None] * _block(entity_ptr, entity_E, in_E, 0, D, BLOCK_D)
    dim_D = tl.arange(0, BLOCK_D)
    at_ED = entity_E.to(tl.int64)[:, None] * D + dim_D[None, :]
    tl.store(grad_entity_ptr + at_ED, grad_ED, mask=in_E[:, None] & (dim_D < D)[None, :])
