"""Times the kernels, forward and backward: LogSumExp over all entities, scores of chosen ones.

    python -m benchmarks.kernel [--repeat 15] [--fastest] [--threads 2] [--quick] [--out FILE]

Every way runs once per round, in turn, so that what else the machine does meets all alike; the
tables show medians over rounds, in milliseconds, or with ``--fastest`` minima, for a busy machine.
The LogSumExp runs against naive and chunked PyTorch, chosen scores against PyTorch. ``roofline`` is
the longer of two times measured in the same rounds: the three matrix products of the same shapes by
``torch.mm`` (scores in float32, both gradient products in the faster of float32 and bfloat16), and
one ``exp`` in place over as many numbers as Hanon needs, two per score (one for Halin), block by
block in cache.
"""

import os
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved, parse, parser, report
from hale.scoring.activations import Activation, Halin, Hanon
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels.operations import chosen_scores, entity_logsumexp
from hale.scoring.table import Table

SHAPES = (
    (102, 40_943, 32), (409, 40_943, 32), (102, 14_541, 32), (409, 14_541, 32), (102, 14_541, 256),
)  # fmt: skip
CHOSEN = ((4096, 1, 14_541, 32), (1024, 50, 14_541, 32), (1024, 50, 40_943, 32))
"""Queries, chosen entities of each (a positive; SamNeg's negatives), entities, dimension."""
BLOCK = 1 << 16


def inputs(rows: int, entities: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, scales and entities, at distances around 1."""
    query_ND, entity_ED = (
        (torch.randn(count, dim) * (2 * dim) ** -0.5).requires_grad_() for count in (rows, entities)
    )
    return query_ND, torch.ones(rows, requires_grad=True), entity_ED


def chosen_ways(
    rows: int, columns: int, entities: int, dim: int
) -> dict[str, Callable[[], object]]:
    """What is timed of chosen scores at one shape, by name."""
    leaves = query_ND, scale_N, entity_ED = inputs(rows, entities, dim)
    entity_NK = torch.randint(entities, (rows, columns))

    def backend(name: str) -> None:
        os.environ["HALE_KERNEL"] = name
        table = Table(entity_ED)
        score_NK = chosen_scores(query_ND, scale_N, table, entity_NK, SquaredEuclidean(), Hanon())
        torch.autograd.grad(score_NK.mean(), leaves)

    return {name: partial(backend, name) for name in ("native", "reference")}


def ways(
    rows: int, entities: int, dim: int, activation: Activation
) -> dict[str, Callable[[], object]]:
    """What is timed of the LogSumExp at one shape, by name."""
    leaves = query_ND, scale_N, entity_ED = inputs(rows, entities, dim)
    comparator = SquaredEuclidean()

    def backend(name: str) -> None:
        os.environ["HALE_KERNEL"] = name
        lse_N = entity_logsumexp(*leaves, comparator, activation)
        torch.autograd.grad(lse_N.mean(), leaves)

    def naive() -> None:
        distance_NE = comparator(
            query_ND @ entity_ED.T,
            query_ND.square().sum(1, keepdim=True),
            entity_ED.square().sum(1),
            scale_N[:, None],
        )
        torch.autograd.grad(torch.logsumexp(-activation(distance_NE), 1).mean(), leaves)

    fp32 = (query_ND.detach(), entity_ED.detach(), torch.rand(rows, entities))
    bf16 = tuple(tensor.bfloat16() for tensor in fp32)
    score_NE = torch.empty(rows, entities)
    block = torch.randn(BLOCK)
    exponentials = rows * entities * (2 if isinstance(activation, Hanon) else 1)

    def scores() -> None:
        torch.mm(fp32[0], fp32[1].T, out=score_NE)

    def gradients(query: torch.Tensor, entity: torch.Tensor, weight_NE: torch.Tensor) -> None:
        torch.mm(weight_NE, entity)
        torch.mm(weight_NE.T, query)

    def elementwise() -> None:
        for _ in range(-(-exponentials // BLOCK)):
            torch.exp(block, out=block).sub_(1)

    return {
        "native": lambda: backend("native"),
        "chunked": lambda: backend("reference"),
        "naive": naive,
        "scores": scores,
        "gradients fp32": lambda: gradients(*fp32),
        "gradients bf16": lambda: gradients(*bf16),
        "elementwise": elementwise,
    }


def milliseconds(
    timed: dict[str, Callable[[], object]], repeat: int, fastest: bool
) -> dict[str, float]:
    """Milliseconds of each way, the median or minimum of rounds, after two that warm up."""
    of = min if fastest else statistics.median
    seconds = interleaved(timed, repeat, warm_up=2)
    return {name: 1e3 * of(values) for name, values in seconds.items()}


def main() -> None:
    """Print the table and write the numbers."""
    options = parser(__doc__)
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--fastest", action="store_true", help="minima in place of medians")
    given = parse(options)
    torch.manual_seed(0)
    rows: list[Row] = []
    for shape in [(20, 500, 32)] if given.quick else SHAPES:
        for activation in (Hanon(), Halin()):
            ms = milliseconds(ways(*shape, activation), given.repeat, given.fastest)
            products = ms["scores"] + min(ms["gradients fp32"], ms["gradients bf16"])
            roofline = max(products, ms["elementwise"])
            size = dict(zip(("N", "E", "D"), shape, strict=True))
            ratios = {
                "naive/native": ms["naive"] / ms["native"],
                "chunked/native": ms["chunked"] / ms["native"],
                "native/roofline": ms["native"] / roofline,
            }
            name = {"activation": type(activation).__name__}
            rows.append(size | name | ms | {"roofline": roofline} | ratios)
    chosen: list[Row] = []
    for shape in [(20, 3, 500, 32)] if given.quick else CHOSEN:
        ms = milliseconds(chosen_ways(*shape), given.repeat, given.fastest)
        size = dict(zip(("N", "K", "E", "D"), shape, strict=True))
        chosen.append(size | ms | {"reference/native": ms["reference"] / ms["native"]})
    report(given, kernel_ms=rows, chosen_ms=chosen)


if __name__ == "__main__":
    main()
