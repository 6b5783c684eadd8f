"""The CUDA kernels against the definition in float64.

Without a CUDA device they run in Triton's interpreter, on CPU tensors, where Triton is installed.
"""

import os

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read where kernels are defined, triton's own too
tl = pytest.importorskip("triton.language")

from triton.runtime.interpreter import InterpretedFunction  # noqa: E402

from hale.graphs.queries import Known  # noqa: E402
from hale.scoring.activations import (  # noqa: E402
    Activation,
    Artanh,
    Halin,
    Hanon,
    Identity,
    Temperature,
    XExp,
)
from hale.scoring.candidates import Candidates  # noqa: E402
from hale.scoring.clusters import TILE as CLUSTER  # noqa: E402
from hale.scoring.comparators import (  # noqa: E402
    Comparator,
    NegativeDot,
    Poincare,
    SquaredEuclidean,
)
from hale.scoring.kernels.reference import reference_logsumexp  # noqa: E402
from hale.scoring.kernels.triton_kernels import forward_kernel  # noqa: E402
from hale.scoring.kernels.triton_lse import (  # noqa: E402
    Plan,
    Tile,
    plan_for,
    supported,
    triton_entity_logsumexp,
)

pytestmark = [
    pytest.mark.skipif(
        DEVICE == "cpu"
        and not all(isinstance(f, InterpretedFunction) for f in (tl.sum, forward_kernel)),
        reason="something imported triton before: set TRITON_INTERPRET=1",
    ),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
    # NumPy speaks up about lanes outside the matrix, whose values no kernel stores
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

COMPARATORS = (SquaredEuclidean(), NegativeDot(), Poincare())
ACTIVATIONS = (Identity(), Temperature(0.7), Hanon(), Halin(3, 5), XExp(0.4), Artanh())
PAIRS = [
    (comparator, activation)
    for comparator in COMPARATORS
    for activation in ACTIVATIONS
    if comparator.nonnegative or not activation.nonnegative
]
SMALL = Plan(Tile(16, 32, 16, 4, 1), Tile(16, 64, 16, 4, 1), occupancy=2)

Inputs = tuple[Tensor, Tensor, Tensor]


def draw(rows: int, entities: int, dim: int, seed: int = 0) -> Inputs:
    """Queries inside the ball of any of the scales, scales around 1, entities."""
    generator = torch.Generator().manual_seed(seed)
    query_ND = torch.randn(rows, dim, generator=generator) * 0.4 / dim**0.5
    scale_N = torch.rand(rows, generator=generator) + 0.5
    entity_ED = torch.randn(entities, dim, generator=generator) * 0.7 / dim**0.5
    return query_ND.to(DEVICE), scale_N.to(DEVICE), entity_ED.to(DEVICE)


def some_known(rows: int, entities: int) -> Known:
    mask_NE = torch.rand(rows, entities, generator=torch.Generator().manual_seed(1)) < 0.2
    mask_NE[0] = False
    return Known.of_pairs(*mask_NE.to(DEVICE).nonzero().unbind(1), rows)


def definition(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None,
) -> Tensor:
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


def check(
    inputs: Inputs,
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
    plan: Plan | None = SMALL,
    tolerance: float = 1e-4,
) -> None:
    """Value and gradients at a random upstream gradient agree with float64, in norm."""
    exact = [t.double().requires_grad_() for t in inputs]
    ours = [t.clone().requires_grad_() for t in inputs]
    weight_N = torch.randn(len(inputs[0]), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    expected_N = definition(*exact, comparator, activation, known)
    actual_N = triton_entity_logsumexp(*ours, comparator, activation, known, plan)
    expected = torch.autograd.grad(expected_N @ weight_N.double(), exact)
    actual = torch.autograd.grad(actual_N @ weight_N, ours)
    names = ("lse", "query", "scale", "entity")
    for name, a, b in zip(names, (actual_N, *actual), (expected_N, *expected), strict=True):
        error = ((a.double() - b).norm() / b.norm()).item()
        assert error < tolerance, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=str)
def test_value_and_gradients_are_those_of_float64(
    comparator: Comparator, activation: Activation, masked: bool
) -> None:
    assert supported(comparator, activation, torch.float32, 19)
    known = some_known(21, 75) if masked else None
    check(draw(21, 75, 19), comparator, activation, known)


@pytest.mark.parametrize(
    ("rows", "entities", "dim"), [(1, 1, 1), (17, 33, 16), (16, 300, 3), (40, 5, 40)]
)
def test_any_shape(rows: int, entities: int, dim: int) -> None:
    check(draw(rows, entities, dim), SquaredEuclidean(), Hanon())


@pytest.mark.parametrize("dim", [32, 70])
def test_the_default_plan(dim: int) -> None:
    check(draw(70, 200, dim), SquaredEuclidean(), Hanon(), some_known(70, 200), plan=None)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("comparator", [SquaredEuclidean(), Poincare()], ids=str)
def test_candidates_are_those_of_the_reference(comparator: Comparator, masked: bool) -> None:
    rows, entities = 37, 2 * CLUSTER + 9
    generator = torch.Generator().manual_seed(3)
    order_E = torch.randperm(entities, generator=generator).to(DEVICE)
    log_weight_GC = torch.tensor([[0.0, 1.2, -torch.inf], [-torch.inf, 0, 0.7], [0.3, 0.3, 0.3]])
    candidates = Candidates(order_E, order_E.argsort(), log_weight_GC.to(DEVICE))
    known = some_known(rows, entities) if masked else None
    inputs = draw(rows, entities, 19)
    exact = [t.double().requires_grad_() for t in inputs]
    ours = [t.clone().requires_grad_() for t in inputs]
    rest = (comparator, Hanon(), known)
    expected_N = reference_logsumexp(*exact, *rest, candidates)
    actual_N = triton_entity_logsumexp(*ours, *rest, candidates=candidates)
    weight_N = torch.randn(rows, generator=generator).to(DEVICE)
    expected = torch.autograd.grad(expected_N @ weight_N.double(), exact)
    actual = torch.autograd.grad(actual_N @ weight_N, ours)
    for a, b in zip((actual_N, *actual), (expected_N, *expected), strict=True):
        assert (a.double() - b).norm() / b.norm() < 1e-4


def test_scores_that_all_underflow() -> None:
    query_ND, scale_N, entity_ED = draw(20, 70, 8)
    inputs = (query_ND, scale_N * 3e3, entity_ED)
    lse_N = triton_entity_logsumexp(*inputs, SquaredEuclidean(), Identity(), plan=SMALL)
    assert (lse_N.exp() == 0).any()
    check(inputs, SquaredEuclidean(), Identity(), some_known(20, 70), tolerance=5e-3)


def test_equal_scores_far_below_underflow() -> None:
    query_ND, scale_N, entity_ED = draw(20, 70, 8)
    lse_N = triton_entity_logsumexp(
        query_ND, scale_N, entity_ED + 300, SquaredEuclidean(), Halin(1, 1e4), plan=SMALL
    )
    torch.testing.assert_close(lse_N, torch.full_like(lse_N, -1e4 + torch.tensor(70.0).log()))


def test_a_row_without_unknown_entities() -> None:
    query_ND, scale_N, entity_ED = draw(3, 40, 8)
    every = torch.arange(40, device=DEVICE)
    inputs = [t.requires_grad_() for t in (query_ND, scale_N, entity_ED)]
    lse_N = triton_entity_logsumexp(
        *inputs,
        SquaredEuclidean(),
        Hanon(),
        Known.of_pairs(torch.ones_like(every), every, 3),
        SMALL,
    )
    assert lse_N.isneginf().tolist() == [False, True, False]
    lse_N.nan_to_num(neginf=0).sum().backward()
    assert query_ND.grad is not None
    assert query_ND.grad[1].tolist() == [0.0] * 8
    assert all(t.grad is not None and t.grad.isfinite().all() for t in inputs)


def test_no_known_pairs_is_no_mask() -> None:
    inputs = draw(20, 40, 8)
    nothing = torch.empty(0, dtype=torch.int64, device=DEVICE)
    rest = (SquaredEuclidean(), Hanon())
    masked_N = triton_entity_logsumexp(*inputs, *rest, Known.of_pairs(nothing, nothing, 20), SMALL)
    assert masked_N.equal(triton_entity_logsumexp(*inputs, *rest, None, SMALL))


@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=str)
def test_nan_stays_nan(comparator: Comparator, activation: Activation) -> None:
    query_ND, scale_N, entity_ED = draw(20, 40, 8)
    query_ND[3, 5] = torch.nan
    lse_N = triton_entity_logsumexp(
        query_ND, scale_N, entity_ED, comparator, activation, None, SMALL
    )
    assert lse_N.isnan().nonzero().flatten().tolist() == [3]
    entity_ED[39, 0] = torch.nan
    lse_N = triton_entity_logsumexp(
        query_ND, scale_N, entity_ED, comparator, activation, None, SMALL
    )
    assert lse_N.isnan().all()


def test_an_expanded_upstream_gradient_and_strided_inputs() -> None:
    query_ND, scale_N, entity_ED = draw(20, 40, 8)
    rest = (SquaredEuclidean(), Hanon())
    entity_DE = entity_ED.T.contiguous().requires_grad_()
    triton_entity_logsumexp(query_ND, scale_N, entity_DE.T, *rest, plan=SMALL).mean().backward()
    exact_ED = entity_ED.double().requires_grad_()
    definition(query_ND.double(), scale_N.double(), exact_ED, *rest, None).mean().backward()
    assert entity_DE.grad is not None
    assert exact_ED.grad is not None
    torch.testing.assert_close(entity_DE.grad.T.double(), exact_ED.grad, rtol=1e-4, atol=1e-6)


def test_what_is_not_supported() -> None:
    euclidean, hanon = SquaredEuclidean(), Hanon()
    assert not supported(NegativeDot(), Artanh(), torch.float32, 32)
    assert not supported(euclidean, hanon, torch.float64, 32)
    assert not supported(euclidean, hanon, torch.float32, 513)
    assert not supported(euclidean, lambda distance: distance, torch.float32, 32)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@pytest.mark.parametrize("dim", [16, 32, 64, 100, 128, 256, 500])
@pytest.mark.parametrize("comparator", COMPARATORS, ids=str)
def test_dimensions_at_size(comparator: Comparator, dim: int) -> None:
    known = some_known(409, 14_541)
    check(draw(409, 14_541, dim), comparator, Hanon(), known, plan_for(dim))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_two_runs_agree_bit_by_bit_and_nothing_waits_for_the_device() -> None:
    inputs = [t.requires_grad_() for t in draw(409, 14_541, 32)]
    known = some_known(409, 14_541)

    def run() -> list[Tensor]:
        lse_N = triton_entity_logsumexp(*inputs, SquaredEuclidean(), Hanon(), known)
        return [lse_N, *torch.autograd.grad(lse_N.mean(), inputs)]

    first = run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_a_captured_graph_replays_on_new_inputs() -> None:
    inputs = [t.requires_grad_() for t in draw(102, 14_541, 32)]
    known = some_known(102, 14_541)

    def run() -> list[Tensor]:
        lse_N = triton_entity_logsumexp(*inputs, SquaredEuclidean(), Hanon(), known)
        return [lse_N, *torch.autograd.grad(lse_N.mean(), inputs)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    with torch.no_grad():
        for tensor, fresh in zip(inputs, draw(102, 14_541, 32, seed=3), strict=True):
            tensor.copy_(fresh)
    graph.replay()
    assert all(a.equal(b) for a, b in zip(captured, run(), strict=True))
