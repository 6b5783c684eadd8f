import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.errors import ArgumentError, HaleError
from hale.graphs.queries import Known
from hale.scoring.activations import Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels import binding, operations, reference
from hale.scoring.kernels.operations import chosen_scores, entity_logsumexp, kernel_variant
from hale.scoring.kernels.reference import reference_sweep
from hale.scoring.table import Table

ACTIVATIONS = (Identity(), Temperature(0.7), Hanon(), Halin(beta=3.0), XExp(limit=2.0), Artanh())
PAIRS = [
    (comparator, activation)
    for comparator in (SquaredEuclidean(), NegativeDot(), Poincare())
    for activation in ACTIVATIONS
    if comparator.nonnegative or not activation.nonnegative
]
IDS = [f"{type(c).__name__}-{type(a).__name__}" for c, a in PAIRS]


def naive(query, scale, entity, comparator, activation, known=None):
    """The definition on the full matrix, differentiated by autograd."""
    score = -activation(
        comparator(
            query @ entity.T,
            query.square().sum(1, keepdim=True),
            entity.square().sum(1),
            scale[:, None],
        )
    )
    if known is not None:
        score = score.index_put(known.pairs(), score.new_tensor(-torch.inf))
    return score.logsumexp(1)


def draw(rows, entities, dim, seed=0, dtype=torch.float32, std=None):
    """Queries, scales, entities and upstream gradients, with distances around 1."""
    generator = torch.Generator().manual_seed(seed)
    std = std or (2 * dim) ** -0.5
    query = torch.randn(rows, dim, generator=generator, dtype=dtype) * std
    entity = torch.randn(entities, dim, generator=generator, dtype=dtype) * std
    scale = torch.rand(rows, generator=generator, dtype=dtype) + 0.5
    weight = torch.rand(rows, generator=generator, dtype=dtype) + 0.1
    # well within the ball of curvature 1.5, where the Poincare comparator is smooth
    query = query * 0.6 / query.norm(dim=1, keepdim=True).clamp(min=0.6)
    return (query, scale, entity), weight


def mask(rows, entities, seed=0, share=0.2):
    """Known pairs that leave every row an entity."""
    generator = torch.Generator().manual_seed(seed)
    known_NE = torch.rand(rows, entities, generator=generator) < share
    known_NE[:, 0] = False
    pairs = known_NE.nonzero()
    return Known.of_pairs(*pairs[torch.randperm(len(pairs), generator=generator)].T, rows)


def differentiate(function, inputs, weight, *rest):
    """The value and the gradients of ``sum weight lse``."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    lse = function(*leaves, *rest)
    return lse.detach(), *torch.autograd.grad((lse * weight).sum(), leaves)


def relative(actual, expected):
    """Frobenius norm of the error over that of the expected; NaN is no agreement."""
    return float((actual.double() - expected).norm() / expected.norm().clamp(min=1e-12))


@pytest.fixture
def _reference(monkeypatch):
    monkeypatch.setenv("HALE_KERNEL", "reference")


@pytest.mark.usefixtures("_reference")
@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=IDS)
def test_reference_gradients_by_finite_differences(comparator, activation):
    inputs, _ = draw(3, 5, 2, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    known = Known.of_pairs(torch.tensor([0, 2, 2]), torch.tensor([1, 0, 4]), 3)
    assert torch.autograd.gradcheck(
        lambda *tensors: entity_logsumexp(*tensors, comparator, activation, known), leaves
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 6), st.booleans(), st.data())
def test_reference_is_the_naive_definition_in_any_chunks(rows, entities, dim, masked, data):
    comparator, activation = data.draw(st.sampled_from(PAIRS))
    inputs, weight = draw(rows, entities, dim, dtype=torch.float64)
    rest = (comparator, activation, mask(rows, entities) if masked else None)
    expected = differentiate(naive, inputs, weight, *rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "CHUNK_BYTES", entities * 8 * data.draw(st.integers(1, 4)))
        for actual, wanted in zip(
            reference_sweep(*inputs, *rest, None, weight), expected, strict=True
        ):
            torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_reference")
@pytest.mark.parametrize("uniform", [True, False])
def test_reference_serves_any_upstream_gradient_twice(uniform):
    inputs, weight = draw(4, 9, 3, dtype=torch.float64)
    weight = torch.full_like(weight, 0.3) if uniform else weight
    leaves = [tensor.requires_grad_() for tensor in inputs]
    lse = (entity_logsumexp(*leaves, SquaredEuclidean(), Hanon()) * weight).sum()
    first = torch.autograd.grad(lse, leaves, retain_graph=True)
    expected = differentiate(naive, inputs, weight, SquaredEuclidean(), Hanon())[1:]
    for actual in (first, torch.autograd.grad(lse, leaves)):
        for one, wanted in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, wanted)


def test_unknown_kernel_is_refused(monkeypatch):
    monkeypatch.setenv("HALE_KERNEL", "fast")
    inputs, _ = draw(2, 3, 2)
    with pytest.raises(ValueError, match="reference, native or triton, got 'fast'"):
        entity_logsumexp(*inputs, SquaredEuclidean(), Hanon())


@pytest.mark.parametrize("kernel", ["native", "triton"])
def test_forced_kernel_that_cannot_serve_is_an_error(monkeypatch, kernel):
    monkeypatch.setenv("HALE_KERNEL", kernel)
    inputs, _ = draw(2, 3, 2, dtype=torch.float64)
    with pytest.raises(HaleError, match=f"HALE_KERNEL={kernel}: "):
        entity_logsumexp(*inputs, SquaredEuclidean(), Hanon())


def test_obstacle_is_logged_once_and_the_reference_serves(monkeypatch, caplog):
    monkeypatch.setattr(binding, "_library", lambda defines: "no compiler; install one")
    monkeypatch.setattr(operations, "load", binding.load.__wrapped__)
    monkeypatch.delenv("HALE_KERNEL", raising=False)
    operations._note.cache_clear()
    inputs, _ = draw(2, 3, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            lse = entity_logsumexp(*inputs, SquaredEuclidean(), Hanon())
    torch.testing.assert_close(lse, naive(*inputs, SquaredEuclidean(), Hanon()))
    assert [record.message for record in caplog.records] == [
        "no compiler; install one; using the slower reference"
    ]


class Square(Identity):
    """An activation that no kernel supports."""

    def __call__(self, distance):
        return distance.square()


def test_the_variant_is_that_of_the_backend_that_runs(monkeypatch):
    cpu, square = torch.device("cpu"), (SquaredEuclidean(), Square())
    monkeypatch.setenv("HALE_KERNEL", "reference")
    assert kernel_variant(cpu) == kernel_variant(cpu, *square) == "reference"
    monkeypatch.delenv("HALE_KERNEL")
    assert kernel_variant(cpu, *square) == "reference"
    if isinstance(operations.find_kernel(SquaredEuclidean(), Hanon()), str):
        assert kernel_variant(cpu) == "reference"
    else:
        assert kernel_variant(cpu) == operations.variant(SquaredEuclidean(), Hanon()) != "reference"


@pytest.mark.parametrize("kernel", ["native", "triton"])
def test_there_is_no_variant_of_a_forced_backend_that_does_not_run(monkeypatch, kernel):
    monkeypatch.setenv("HALE_KERNEL", kernel)
    with pytest.raises(HaleError, match=f"HALE_KERNEL={kernel}: the .* kernel"):
        kernel_variant(torch.device("cpu"), SquaredEuclidean(), Square())


def test_an_activation_of_the_users_own_falls_back(monkeypatch):
    monkeypatch.delenv("HALE_KERNEL", raising=False)
    inputs, _ = draw(2, 3, 2)
    lse = entity_logsumexp(*inputs, SquaredEuclidean(), Square())
    torch.testing.assert_close(lse, naive(*inputs, SquaredEuclidean(), Square()))


@pytest.mark.parametrize("kernel", ["reference", ""])
def test_no_queries_have_no_sums_and_gradients_of_zero(monkeypatch, kernel):
    monkeypatch.setenv("HALE_KERNEL", kernel) if kernel else monkeypatch.delenv(
        "HALE_KERNEL", False
    )
    inputs, weight = draw(0, 7, 4)
    lse, *gradients = differentiate(entity_logsumexp, inputs, weight, SquaredEuclidean(), Hanon())
    assert lse.shape == (0,)
    assert [g.shape for g in gradients] == [t.shape for t in inputs]
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize(
    "shapes", [((3, 8), (3,), (9, 16)), ((3, 8), (3, 1), (9, 8)), ((3,), (3,), (9, 8))]
)
def test_shapes_that_do_not_go_together_are_refused(shapes):
    query, scale, entity = map(torch.ones, shapes)
    with pytest.raises(
        ArgumentError, match=r"queries \(N, D\), scales \(N\) and entities \(E, D\)"
    ):
        entity_logsumexp(query, scale, entity, SquaredEuclidean(), Hanon())
    with pytest.raises(ArgumentError, match=r"queries \(N, D\)"):
        chosen_scores(
            query, scale, Table(entity), torch.zeros(3, 2).long(), SquaredEuclidean(), Hanon()
        )
