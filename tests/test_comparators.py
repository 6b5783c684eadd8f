"""Distances from dot products, against the distances themselves."""

import pytest
import scalar
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hale.models.hyperbolic import exp0, log0, mobius_add, project_to_ball
from hale.scoring.comparators import Comparator, NegativeDot, Poincare, SquaredEuclidean

few = settings(deadline=None, max_examples=25)
vectors = st.lists(st.floats(-2, 2), min_size=3, max_size=3)
scales = st.floats(0.05, 5)


def compare(comparator: Comparator, q_BD: Tensor, e_ED: Tensor, scale_B: Tensor) -> Tensor:
    query_sq_B1, entity_sq_E = q_BD.square().sum(1, keepdim=True), e_ED.square().sum(1)
    return comparator(q_BD @ e_ED.T, query_sq_B1, entity_sq_E, scale_B[:, None])


def draw(spread: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Queries in the ball, tangent vectors of entities, half of them near a query, and scales."""
    generator = torch.Generator().manual_seed(5)
    tangent_BD, other_BD = spread / 8**0.5 * torch.randn(2, 20, 8, generator=generator).double()
    scale_B = 0.1 + 2 * torch.rand(20, generator=generator).double()
    near_BD = tangent_BD + 0.01 * other_BD
    query_BD = project_to_ball(exp0(tangent_BD, scale_B[:, None]).float(), scale_B[:, None].float())
    return query_BD.to(dtype), torch.cat((near_BD, other_BD)).float().to(dtype), scale_B.to(dtype)


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 3.0])
@pytest.mark.parametrize(
    ("comparator", "formula"),
    [
        (SquaredEuclidean(), scalar.squared_euclidean),
        (NegativeDot(), scalar.negative_dot),
        (Poincare(), scalar.poincare),
    ],
)
def test_float64_distances_follow_the_formula(comparator, formula, spread) -> None:
    query_BD, entity_ED, scale_B = draw(spread)
    expected_BE = [
        [formula(q, e, c) for e in entity_ED.tolist()]
        for q, c in zip(query_BD.tolist(), scale_B.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        compare(comparator, query_BD, entity_ED, scale_B),
        torch.tensor(expected_BE, dtype=torch.float64),
        rtol=1e-6,
        atol=1e-12,
    )


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 3.0])
def test_float32_hyperbolic_distances_are_accurate(spread) -> None:
    exact_BE, single_BE = (
        compare(Poincare(), *draw(spread, dtype)).double().sqrt()
        for dtype in (torch.float64, torch.float32)
    )
    # Near pairs included: their distance is a hundredth of the others'.
    torch.testing.assert_close(single_BE, exact_BE, rtol=0.02, atol=1e-7)


@few
@given(vectors, vectors, vectors, scales)
def test_hyperbolic_distance_is_a_metric(x, y, z, c) -> None:
    c_B = torch.tensor([c], dtype=torch.float64)
    c_B1 = c_B[:, None]
    within = 3 * c_B1.sqrt()  # away from the edge, which translations would project points to
    points = [exp0(torch.tensor([w], dtype=torch.float64) / within, c_B1) for w in (x, y, z)]

    def distance(p: Tensor, q: Tensor) -> float:
        return compare(Poincare(), p, log0(q, c_B1), c_B).sqrt().item()

    one, two, three = points
    assert distance(one, one) < 1e-5
    assert distance(one, two) >= 0
    assert distance(one, two) == pytest.approx(distance(two, one), rel=1e-5, abs=1e-5)
    assert distance(one, three) <= distance(one, two) + distance(two, three) + 1e-5
    moved = [mobius_add(three, point, c_B1) for point in (one, two)]
    assert distance(*moved) == pytest.approx(distance(one, two), rel=1e-3, abs=1e-4)


def test_a_flat_ball_measures_twice_the_euclidean_distance() -> None:
    query_BD, entity_ED, _ = draw(0.5)
    flat_B = torch.full((20,), 1e-6, dtype=torch.float64)
    torch.testing.assert_close(
        compare(Poincare(), query_BD, entity_ED, flat_B),
        compare(SquaredEuclidean(), query_BD, entity_ED, torch.full_like(flat_B, 4.0)),
        rtol=1e-4,
        atol=1e-8,
    )


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), NegativeDot(), Poincare()])
def test_comparators_pass_gradcheck(comparator) -> None:
    query_BD, entity_ED, scale_B = draw(1.0)
    inputs = [t[:3].clone().requires_grad_() for t in (query_BD, entity_ED, scale_B)]
    assert torch.autograd.gradcheck(lambda *t: compare(comparator, *t), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1e-6, 1.0, 100.0])
@pytest.mark.parametrize("tangent", [0.0, 1e-20, 0.1, 30.0, 1e9])
def test_hyperbolic_distance_is_safe_everywhere(dtype, c, tangent) -> None:
    direction = torch.tensor([[0.5, -0.5, 0.5, 0.5]], dtype=dtype)
    scale_B = torch.tensor([c], dtype=dtype)
    query = exp0(tangent * direction, scale_B[:, None])
    for entity in (0.0 * direction, tangent * direction, -tangent * direction, query, 1e9 * query):
        inputs = [t.clone().requires_grad_() for t in (query, entity, scale_B)]
        distance = compare(Poincare(), *inputs)
        assert distance.isfinite().all()
        assert (distance >= 0).all()
        for gradient in torch.autograd.grad(distance.sum(), inputs):
            assert gradient.isfinite().all()


def test_an_entity_at_the_origin_is_pulled_toward_the_query() -> None:
    query_BD = torch.tensor([[0.3, -0.2]])
    entity_ED = torch.zeros(1, 2, requires_grad=True)
    compare(Poincare(), query_BD, entity_ED, torch.ones(1)).sum().backward()
    cosine = torch.cosine_similarity(-entity_ED.grad, query_BD)
    assert cosine.item() == pytest.approx(1, abs=1e-5)


def test_rounding_never_makes_a_squared_distance_negative() -> None:
    query_BD = 100 + torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    assert (compare(SquaredEuclidean(), query_BD, query_BD, torch.ones(50)) >= 0).all()
