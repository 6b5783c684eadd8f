"""Check and time the CUDA kernels of ``entity_logsumexp``: ``python -m benchmarks.cuda OUT.json``.

First every comparator and activation against float64, then medians of the forward pass and of
forward and backward together for sizes from a training step's to a million entities, beside naive
autograd on the full matrix, the chunked reference, and ``torch.compile`` of the naive form. The
matrix forms are left out where one matrix of scores exceeds ``MATRIX_BYTES``, the chunks beyond
``CHUNKED_SCORES``.

    --stages   which of check, plans and times, in this order; plans tries other launch parameters
    --quick    fewer sizes
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from hale.graphs.queries import Known
from hale.scoring.activations import Activation, Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import Comparator, NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels.reference import reference_sweep
from hale.scoring.kernels.triton_lse import Plan, Tile, plan_for, supported, triton_entity_logsumexp

ROWS, ENTITIES, DIMS = (102, 409, 4096), (14_541, 40_943, 1_000_000), (32, 64, 256)
MATRIX_BYTES = 2 << 30
CHUNKED_SCORES = 10**8
STAGES = ("check", "plans", "times")
TOLERANCE = 1e-4
COMPARATORS = (SquaredEuclidean(), NegativeDot(), Poincare())
ACTIVATIONS = (Identity(), Temperature(), Hanon(), Halin(), XExp(), Artanh())

Inputs = tuple[Tensor, Tensor, Tensor]
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
Row = dict[str, object]


def draw(rows: int, entities: int, dim: int) -> Inputs:
    """Queries inside the unit ball, scales around 1, entities; with gradients."""
    generator = torch.Generator("cuda").manual_seed(rows + entities + dim)
    shape = {"generator": generator, "device": "cuda"}
    query_ND = torch.randn(rows, dim, **shape) * 0.5 / dim**0.5
    scale_N = torch.rand(rows, **shape) + 0.5
    entity_ED = torch.randn(entities, dim, **shape) * 0.7 / dim**0.5
    return query_ND.requires_grad_(), scale_N.requires_grad_(), entity_ED.requires_grad_()


def draw_known(rows: int, entities: int, each: int = 20) -> Known:
    """Up to ``each`` distinct entities of each row."""
    pair = torch.randint(entities, (rows, each), device="cuda")
    pair = (pair + torch.arange(rows, device="cuda")[:, None] * entities).unique()
    return Known.of_pairs(pair // entities, pair % entities, rows)


def naive(comparator: Comparator, activation: Activation, known: Known | None = None) -> Operation:
    """The full matrix, by autograd."""

    def operation(query_ND: Tensor, scale_N: Tensor, entity_ED: Tensor) -> Tensor:
        distance_NE = comparator(
            query_ND @ entity_ED.T,
            query_ND.square().sum(1, keepdim=True),
            entity_ED.square().sum(1),
            scale_N[:, None],
        )
        score_NE = -activation(distance_NE)
        if known is not None:
            score_NE = score_NE.index_put(known.pairs(), score_NE.new_tensor(-torch.inf))
        return score_NE.logsumexp(1)

    return operation


def errors(inputs: Inputs, ours: Operation, exact: Operation, weight_N: Tensor) -> dict[str, float]:
    """Relative errors, in norm, of the value and the three gradients."""
    exact_inputs = [t.detach().double().requires_grad_() for t in inputs]
    expected_N = exact(*exact_inputs)
    expected = torch.autograd.grad(expected_N @ weight_N.double(), exact_inputs)
    actual_N = ours(*inputs)
    actual = torch.autograd.grad(actual_N @ weight_N, inputs)
    names = ("lse", "query", "scale", "entity")
    pairs = zip((actual_N, *actual), (expected_N, *expected), strict=True)
    return {
        name: ((a.double() - b).norm() / b.norm()).item()
        for name, (a, b) in zip(names, pairs, strict=True)
    }


def check_all() -> list[Row]:
    """Every combination, masked and not, at several dimensions; NaN counts as wrong."""
    rows: list[Row] = []
    for comparator, activation in itertools.product(COMPARATORS, ACTIVATIONS):
        for dim, masked in ((32, False), (100, True)):
            if not supported(comparator, activation, torch.float32, dim):
                continue
            inputs = draw(131, 5_003, dim)
            known = draw_known(131, 5_003) if masked else None
            error = errors(
                inputs,
                ours(comparator, activation, known),
                naive(comparator, activation, known),
                torch.randn(131, device="cuda"),
            )
            row: Row = {
                "comparator": type(comparator).__name__,
                "activation": type(activation).__name__,
                "dim": dim,
                "masked": masked,
                **error,
                "ok": all(value < TOLERANCE for value in error.values()),
            }
            rows.append(row)
            if not row["ok"]:
                print("WRONG", row, flush=True)
    print(f"{len(rows)} combinations checked", flush=True)
    return rows


def ours(
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
    plan: Plan | None = None,
) -> Operation:
    """The Triton kernels."""

    def operation(query_ND: Tensor, scale_N: Tensor, entity_ED: Tensor) -> Tensor:
        return triton_entity_logsumexp(
            query_ND, scale_N, entity_ED, comparator, activation, known, plan
        )

    return operation


def median_ms(function: Callable[[], object]) -> float | None:
    """Median device time of a call in milliseconds; none where memory does not suffice."""
    try:
        torch.cuda.empty_cache()
        milliseconds: float = do_bench(function, warmup=20, rep=100, return_mode="median")
    except (torch.OutOfMemoryError, triton.runtime.errors.OutOfResources) as error:
        print(f"  left out: {str(error)[:90]}", flush=True)
        return None
    return milliseconds


def replay_ms(function: Callable[[], object]) -> float:
    """Median time of a captured graph's replay: no launch gaps."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    milliseconds: float = do_bench(graph.replay, warmup=20, rep=100, return_mode="median")
    return milliseconds


def both(operation: Operation, inputs: Inputs) -> Callable[[], object]:
    """Forward and backward of the mean, as a loss does."""
    return lambda: torch.autograd.grad(operation(*inputs).mean(), inputs)


def forward(operation: Operation, inputs: Inputs) -> Callable[[], object]:
    """The value alone."""

    @torch.no_grad()
    def call() -> object:
        return operation(*inputs)

    return call


def time_all(quick: bool) -> list[Row]:
    """One row per size: milliseconds of every way, and Gscores/s of ours."""
    comparator, activation = SquaredEuclidean(), Hanon()
    matrix = naive(comparator, activation)
    rows: list[Row] = []
    for dim, entities, count in itertools.product(DIMS, ENTITIES, ROWS):
        if quick and (dim == 64 or entities == 40_943):
            continue
        torch.compiler.reset()
        inputs = draw(count, entities, dim)
        kernel = ours(comparator, activation)
        masked = ours(comparator, activation, draw_known(count, entities))
        ones_N = torch.ones(count, device="cuda")
        times = {
            "triton fwd": median_ms(forward(kernel, inputs)),
            "triton fwd+bwd": median_ms(both(kernel, inputs)),
            "triton graph": replay_ms(both(kernel, inputs)),
            "triton masked": median_ms(both(masked, inputs)),
        }
        if count * entities * 4 <= MATRIX_BYTES:
            compiled = torch.compile(matrix, dynamic=False)
            times |= {
                "naive fwd": median_ms(forward(matrix, inputs)),
                "naive fwd+bwd": median_ms(both(matrix, inputs)),
                "compile fwd": median_ms(forward(compiled, inputs)),
                "compile fwd+bwd": median_ms(both(compiled, inputs)),
            }
        if count * entities <= CHUNKED_SCORES:
            times["chunks fwd+bwd"] = median_ms(
                lambda i=inputs, w=ones_N: reference_sweep(
                    *i, comparator, activation, None, None, w
                )
            )
        scores = count * entities
        whole = times["triton graph"] or float("nan")
        rows.append({"n": count, "E": entities, "d": dim, **times, "G/s": scores / whole / 1e6})
        show(rows[-1:])
    return rows


def candidates(dim: int) -> list[Plan]:
    """Candidates for the launch parameters."""
    shapes = ((64, 32, 4), (64, 64, 4), (128, 32, 8)) if dim <= 64 else (
        (64, 32, 8), (64, 64, 8), (128, 32, 8)
    )  # fmt: skip
    tiles = [
        Tile(rows, entities, 32, warps, stages)
        for rows, entities, warps in shapes
        for stages in (1, 2)
    ]
    swapped = {t: Tile(t.entities, t.rows, t.depth, t.warps, t.stages) for t in tiles}
    plans = [
        Plan(tile, swapped[tile], 8 // tile.warps, "tf32x3", precision)
        for tile in tiles
        for precision in ("tf32x3", "tf32")
    ]
    default = plan_for(dim)
    occupancies = [Plan(default.forward, default.backward, o) for o in (1, 2, 3, 4)]
    ieee = Plan(default.forward, default.backward, 2, "ieee", "ieee")
    return [default, *occupancies, *plans, *([ieee] if dim <= 64 else [])]


def time_plans() -> list[Row]:
    """Graph replays of forward and of both passes for every candidate, with the worst error."""
    comparator, activation = SquaredEuclidean(), Hanon()
    rows: list[Row] = []
    for dim, (count, entities) in itertools.product((32, 256), ((409, 14_541), (4096, 200_000))):
        inputs = draw(count, entities, dim)
        small = draw(131, 5_003, dim)
        weight_N = torch.randn(131, device="cuda")
        for plan in candidates(dim):
            operation = ours(comparator, activation, None, plan)
            try:
                error = errors(small, operation, naive(comparator, activation), weight_N)
                times = {
                    "graph": replay_ms(both(operation, inputs)),
                    "fwd": replay_ms(forward(operation, inputs)),
                }
            except triton.runtime.errors.OutOfResources as failure:
                print(f"  left out: {plan}: {failure}", flush=True)
                continue
            label = f"{plan.forward} x{plan.occupancy} {plan.precision}/{plan.gradient_precision}"
            worst = max(error.values())
            rows.append(
                {"n": count, "E": entities, "d": dim, **times, "worst": worst, "plan": label}
            )
        rows.sort(key=lambda row: (row["d"], row["E"], row["graph"]))
        show([row for row in rows if row["d"] == dim and row["E"] == entities][:12])
    return rows


def show(rows: list[Row]) -> None:
    """Print rows as ``name value`` cells; milliseconds and errors with three digits."""
    for row in rows:
        cells = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(" | ".join(cells), flush=True)


def main() -> None:
    """Check, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=["check", "times"])
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    stages = {"check": check_all, "plans": time_plans, "times": lambda: time_all(arguments.quick)}
    for name in STAGES:
        if name in arguments.stages:
            result[name] = stages[name]()
            arguments.out.write_text(json.dumps(result, indent=1))
    if not all(row["ok"] for row in result.get("check", [])):
        raise SystemExit("some combinations are wrong")


if __name__ == "__main__":
    main()
