"""Times the kernels, forward and backward: LogSumExp over all entities, scores of chosen ones.

    python -m benchmarks.kernel [--repeat 15] [--fastest] [--threads 2] [--quick] [--out FILE]

Every way runs once per round, in turn, so that what else the machine does meets all alike; the
tables show medians over rounds, in milliseconds, or with ``--fastest`` minima, for a busy machine.
Each shape has a process of its own.
The LogSumExp runs against naive and chunked PyTorch, over near and far candidates against all
entities, chosen scores against PyTorch. ``floor`` is
what the processor needs at least: as many fused multiply-adds as the three matrix products have, in
registers, and the two exponentials of each score (one for Halin), in cache, each at the rate of
plain loops on all threads.
"""

import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, in_process, interleaved, parse, parser, report
from hale.scoring.activations import Activation, Halin, Hanon
from hale.scoring.candidates import Candidates, near
from hale.scoring.clusters import Clusters, centres, in_clusters
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels.binding import Kernel
from hale.scoring.kernels.operations import chosen_scores, entity_logsumexp, find_kernel
from hale.scoring.table import ScoreMatrix, Table

SHAPES = (
    (102, 40_943, 32), (409, 40_943, 32), (102, 14_541, 32), (409, 14_541, 32), (102, 14_541, 256),
)  # fmt: skip
CHOSEN = ((4096, 1, 14_541, 32), (1024, 50, 14_541, 32), (1024, 50, 40_943, 32))
"""Queries, chosen entities of each (a positive; SamNeg's negatives), entities, dimension."""
NEAR = ((246, 40_943, 32), (410, 14_541, 32), (410, 100_000, 32), (410, 1_000_000, 32))
"""Shapes at which near candidates run: WN18RR's and FB15k-237's recipes, and larger graphs."""


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


def floor(multiply_adds: int, exponentials: int) -> Callable[[], None]:
    """A function that does so many of both, on all threads, as fast as the processor can."""
    kernel = find_kernel(SquaredEuclidean(), Hanon())
    assert isinstance(kernel, Kernel), kernel
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    counts = (multiply_adds, exponentials)
    functions = (kernel.library.hale_multiply_add, kernel.library.hale_powers)

    def part(_: int) -> None:
        result = ctypes.c_float()
        for function, count in zip(functions, counts, strict=True):
            function(round(count / threads / function(1, result)), result)

    return lambda: list(pool.map(part, range(threads))).clear()


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

    exponentials = rows * entities * (2 if isinstance(activation, Hanon) else 1)

    return {
        "native": lambda: backend("native"),
        "chunked": lambda: backend("reference"),
        "naive": naive,
        "floor": floor(3 * rows * entities * dim, exponentials),
    }


def near_ways(rows: int, entities: int, dim: int) -> tuple[Row, dict[str, Callable[[], object]]]:
    """The LogSumExp of near and far candidates against that of all entities, in Hanon.

    Entities and queries lie in blobs, as those of trained models do more or less. Returns the share
    of the pairs that is visited and the milliseconds in which the clusters are built, and the ways.
    """
    leaves = query_ND, scale_N, entity_ED = inputs(rows, entities, dim)
    place_BD = torch.randn(entities // 200, dim) * 3 * (2 * dim) ** -0.5
    with torch.no_grad():
        for points in (query_ND, entity_ED):
            points += place_BD[torch.randint(len(place_BD), (len(points),))]
    table, rest = entity_ED.detach(), (SquaredEuclidean(), Hanon())
    started = time.perf_counter()
    order_E = in_clusters(table)
    clusters = Clusters(order_E, order_E.argsort(), centres(table, order_E))
    building = 1e3 * (time.perf_counter() - started)

    def choose() -> tuple[Tensor, Candidates]:
        return near(query_ND.detach(), scale_N.detach(), clusters, *rest)

    def some() -> None:
        scores = ScoreMatrix(query_ND, scale_N, Table(entity_ED), *rest, clusters)
        torch.autograd.grad(scores.logsumexp().mean(), leaves)

    def everything() -> None:
        torch.autograd.grad(entity_logsumexp(*leaves, *rest).mean(), leaves)

    os.environ["HALE_KERNEL"] = "native"
    visited = float((choose()[1].log_weight_GC > -torch.inf).float().mean())
    row: Row = {"visited": visited, "building the clusters": building}
    return row, {"all": everything, "near": some, "choosing": choose}


def milliseconds(
    timed: dict[str, Callable[[], object]], repeat: int, fastest: bool
) -> dict[str, float]:
    """Milliseconds of each way, the median or minimum of rounds, after two that warm up."""
    of = min if fastest else statistics.median
    seconds = interleaved(timed, repeat, warm_up=2)
    return {name: 1e3 * of(values) for name, values in seconds.items()}


def all_entities(shape: tuple[int, int, int], activation: str, repeat: int, fastest: bool) -> None:
    """Print the row of the LogSumExp over all entities."""
    torch.manual_seed(0)
    ms = milliseconds(ways(*shape, {"Hanon": Hanon, "Halin": Halin}[activation]()), repeat, fastest)
    size = dict(zip(("N", "E", "D"), shape, strict=True))
    ratios = {
        "naive/native": ms["naive"] / ms["native"],
        "chunked/native": ms["chunked"] / ms["native"],
        "native/floor": ms["native"] / ms["floor"],
    }
    print(json.dumps(size | {"activation": activation} | ms | ratios))


def chosen(shape: tuple[int, int, int, int], repeat: int, fastest: bool) -> None:
    """Print the row of the scores of chosen entities."""
    torch.manual_seed(0)
    ms = milliseconds(chosen_ways(*shape), repeat, fastest)
    size = dict(zip(("N", "K", "E", "D"), shape, strict=True))
    print(json.dumps(size | ms | {"reference/native": ms["reference"] / ms["native"]}))


def some(shape: tuple[int, int, int], repeat: int, fastest: bool) -> None:
    """Print the row of the LogSumExp over near and far candidates."""
    torch.manual_seed(0)
    row, timed = near_ways(*shape)
    ms = milliseconds(timed, repeat, fastest)
    size = dict(zip(("N", "E", "D"), shape, strict=True))
    print(json.dumps(size | row | ms | {"all/near": ms["all"] / ms["near"]}))


def main() -> None:
    """Print the table and write the numbers."""
    options = parser(__doc__)
    options.add_argument("--repeat", type=int, default=15)
    options.add_argument("--fastest", action="store_true", help="minima in place of medians")
    given = parse(options)
    how = given.repeat, given.fastest
    rows = [
        in_process("kernel", "all_entities", shape, name, *how)
        for shape in ([(20, 500, 32)] if given.quick else SHAPES)
        for name in ("Hanon", "Halin")
    ]
    chosen_rows = [
        in_process("kernel", "chosen", shape, *how)
        for shape in ([(20, 3, 500, 32)] if given.quick else CHOSEN)
    ]
    near_rows = [
        in_process("kernel", "some", shape, *how)
        for shape in ([(20, 2000, 32)] if given.quick else NEAR)
    ]
    report(given, kernel_ms=rows, chosen_ms=chosen_rows, near_ms=near_rows)


if __name__ == "__main__":
    main()
