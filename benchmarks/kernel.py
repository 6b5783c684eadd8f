"""Times entity_logsumexp, forward and backward, against naive and chunked PyTorch and the roofline.

    python benchmarks/kernel.py [--repeat 15] [--fastest] [--threads 2] [--json kernel.json]

Every way runs once per round, in turn, so that what else the machine does meets all alike; the
table shows medians over rounds, in milliseconds, or with ``--fastest`` minima, for a busy machine.
``roofline`` is the longer of two times measured in the same rounds: the three matrix products of
the same shapes by ``torch.mm`` (scores in float32, both gradient products in the faster of float32
and bfloat16), and one ``exp`` in place over as many numbers as Hanon needs, two per score (one for
Halin), block by block in cache.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from hale.activations import Activation, Halin, Hanon
from hale.comparators import SquaredEuclidean
from hale.kernels.entity_logsumexp import entity_logsumexp

SHAPES = (
    (102, 40_943, 32), (409, 40_943, 32), (102, 14_541, 32), (409, 14_541, 32), (102, 14_541, 256),
)  # fmt: skip
BLOCK = 1 << 16


def ways(rows: int, entities: int, dim: int, activation: Activation) -> dict[str, Callable]:
    """What is timed at one shape, by name."""
    query_ND = (torch.randn(rows, dim) * (2 * dim) ** -0.5).requires_grad_()
    entity_ED = (torch.randn(entities, dim) * (2 * dim) ** -0.5).requires_grad_()
    scale_N = torch.ones(rows, requires_grad=True)
    leaves = (query_ND, scale_N, entity_ED)
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


def measure(timed: dict[str, Callable], repeat: int, fastest: bool) -> dict[str, float]:
    """Milliseconds of each way, the median or minimum of rounds, after two that warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeat + 2):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    of = min if fastest else statistics.median
    return {name: 1e3 * of(values[2:]) for name, values in seconds.items()}


def main() -> None:
    """Print the table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path, default=Path("kernel.json"))
    parser.add_argument("--fastest", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = []
    names = ("naive", "chunked", "native", "naive/native", "chunked/native", "native/roofline")
    print(f"{'N':>4} {'E':>6} {'D':>4} {'':6}", *(f"{name:>15}" for name in names))
    for shape in SHAPES:
        for activation in (Hanon(), Halin()):
            ms = measure(ways(*shape, activation), arguments.repeat, arguments.fastest)
            products = ms["scores"] + min(ms["gradients fp32"], ms["gradients bf16"])
            roofline = max(products, ms["elementwise"])
            row = {
                **ms,
                "roofline": roofline,
                "naive/native": ms["naive"] / ms["native"],
                "chunked/native": ms["chunked"] / ms["native"],
                "native/roofline": ms["native"] / roofline,
            }
            name = type(activation).__name__
            print("{:4} {:6} {:4}".format(*shape), f"{name:6}", *(f"{row[n]:15.2f}" for n in names))
            rows.append({"N, E, D": shape, "activation": name, **row})
    arguments.json.write_text(
        json.dumps(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "repeat": arguments.repeat,
                "fastest": arguments.fastest,
                "rows": rows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
