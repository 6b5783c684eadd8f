"""The Triton kernels of :mod:`hale.scoring.kernels.triton_lse` that process one row each.

D  dimension    S  splits of the entities
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_rows"])
def bits_kernel(start_ptr, stop_ptr, answer_ptr, known_ptr, num_rows, BLOCK_A: tl.constexpr):
    """Set bit e % 32 of word (e // 32, n) for each known answer e of the program's row n."""
    row = tl.program_id(0)
    start = tl.load(start_ptr + row)
    stop = tl.load(stop_ptr + row)
    for first in range(start, stop, BLOCK_A):
        at = first + tl.arange(0, BLOCK_A)
        here = at < stop
        entity = tl.load(answer_ptr + at, mask=here, other=0).to(tl.int64)
        bit = tl.full((BLOCK_A,), 1, tl.int32) << (entity % 32).to(tl.int32)
        tl.atomic_or(known_ptr + (entity // 32) * num_rows + row, bit, mask=here, sem="relaxed")


@triton.jit(do_not_specialize=["num_rows", "num_splits"])
def combine_kernel(
    query_ptr, partial_ptr, partial_query_ptr,
    lse_ptr, peak_ptr, inverse_ptr, grad_scale_ptr, grad_query_ptr, num_rows, num_splits,
    D: tl.constexpr, BLOCK_D: tl.constexpr, GRADIENT: tl.constexpr,
    BLOCK_S: tl.constexpr, CHUNK_S: tl.constexpr,
):  # fmt: skip
    """One row: its LogSumExp, its gradients, and the peak and 1 / sum that give its softmax."""
    row = tl.program_id(0).to(tl.int64)
    plane = num_splits.to(tl.int64) * num_rows
    split_S = tl.arange(0, BLOCK_S)
    in_S = split_S < num_splits
    at_S = split_S.to(tl.int64) * num_rows + row
    peak_S = tl.load(partial_ptr + at_S, mask=in_S, other=float("-inf"))
    sum_S = tl.load(partial_ptr + plane + at_S, mask=in_S, other=0.0)
    peak = tl.max(peak_S, axis=0)
    peak = tl.where(peak == float("-inf"), 0.0, peak)
    share_S = tl.exp(peak_S - peak)
    total = tl.sum(share_S * sum_S, axis=0)
    tl.store(lse_ptr + row, peak + tl.log(total))
    if GRADIENT:
        inverse = tl.where(total == 0.0, 0.0, 1.0 / total)
        tl.store(peak_ptr + row, peak)
        tl.store(inverse_ptr + row, inverse)
        norm_S = tl.load(partial_ptr + 2 * plane + at_S, mask=in_S, other=0.0)
        scale_S = tl.load(partial_ptr + 3 * plane + at_S, mask=in_S, other=0.0)
        norm = tl.sum(share_S * norm_S, axis=0) * inverse
        tl.store(grad_scale_ptr + row, tl.sum(share_S * scale_S, axis=0) * inverse)

        dim_D = tl.arange(0, BLOCK_D)
        in_D = dim_D < D
        grad_D = tl.zeros((BLOCK_D,), tl.float32)
        for start in range(0, num_splits, CHUNK_S):
            split_C = start + tl.arange(0, CHUNK_S)
            in_C = split_C < num_splits
            at_C = split_C.to(tl.int64) * num_rows + row
            peak_C = tl.load(partial_ptr + at_C, mask=in_C, other=float("-inf"))
            grad_CD = tl.load(
                partial_query_ptr + at_C[:, None] * D + dim_D[None, :],
                mask=in_C[:, None] & in_D[None, :],
                other=0.0,
            )
            grad_D += tl.sum(tl.exp(peak_C - peak)[:, None] * grad_CD, axis=0)
        query_D = tl.load(query_ptr + row * D + dim_D, mask=in_D, other=0.0)
        grad_D = grad_D * inverse + 2.0 * norm * query_D
        tl.store(grad_query_ptr + row * D + dim_D, grad_D, mask=in_D)
