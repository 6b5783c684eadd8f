"""Identities of rotations, complex numbers and the Poincare ball."""

import math

import pytest
import scalar
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hale.models.euclidean import (
    complex_modulus,
    complex_multiply,
    flexible_add,
    givens_reflect,
    givens_rotate,
)
from hale.models.hyperbolic import exp0, log0, mobius_add, project_to_ball
from hale.models.regularizers import f2, n3

few = settings(deadline=None, max_examples=25)
numbers = st.floats(-2, 2, allow_nan=False)
vectors = st.lists(numbers, min_size=4, max_size=4)
angles = st.lists(st.floats(-10, 10), min_size=2, max_size=2)
curvatures = st.floats(0.05, 5)


def row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def close(x: Tensor, y: Tensor | list[list[float]], tolerance: float = 1e-9) -> None:
    expected = torch.as_tensor(y, dtype=x.dtype)
    torch.testing.assert_close(x, expected, rtol=tolerance, atol=tolerance)


def into_ball(values: list[float], c: float) -> Tensor:
    """A point well inside the ball of curvature -c."""
    return row(values) / (5 * math.sqrt(c))


@few
@given(vectors, vectors, angles, angles)
def test_rotations_compose_and_keep_dot_products(x, y, one, two) -> None:
    x, y, one, two = map(row, (x, y, one, two))
    close((givens_rotate(one, x) * givens_rotate(one, y)).sum(1), (x * y).sum(1))
    close(givens_rotate(two, givens_rotate(one, x)), givens_rotate(one + two, x))
    close(givens_rotate(one * 0, x), x)


@few
@given(vectors, angles)
def test_reflections_are_involutions_that_keep_norms(x, angle) -> None:
    x, angle = row(x), row(angle)
    reflected = givens_reflect(angle, x)
    close(givens_reflect(angle, reflected), x)
    close(reflected.norm(), x.norm())
    close(reflected, [scalar.reflect(angle[0].tolist(), x[0].tolist())])


def test_a_quarter_turn_and_a_mirror() -> None:
    quarter = row([math.pi / 2])
    close(givens_rotate(quarter, row([1.0, 0.0])), [[0.0, 1.0]])
    close(givens_reflect(row([0.0]), row([3.0, 4.0])), [[3.0, -4.0]])


@few
@given(vectors, vectors)
def test_complex_functions_are_those_of_torch(x, y) -> None:
    x, y = row(x), row(y)
    complexes = [torch.view_as_complex(z.view(1, 2, 2)) for z in (x, y)]
    product = torch.view_as_real(complexes[0] * complexes[1]).flatten(1)
    close(complex_multiply(x, y), product)
    close(complex_modulus(x), complexes[0].abs())


@few
@given(vectors, vectors, st.floats(0.1, 3))
def test_flexible_addition_is_symmetric_and_finite(x, y, alpha) -> None:
    x, y, alpha = row(x), row(y), row([alpha])
    total = flexible_add(x, y, alpha)
    close(total, flexible_add(y, x, alpha))
    assert total.isfinite().all()
    if (1 + (x * y).sum()).abs() > 1e-2:
        close(total, alpha * (x + y) / (1 + (x * y).sum()))


def test_flexible_addition_is_guarded_where_its_denominator_is_zero() -> None:
    for x in (1.0, 1.0 + 1e-6, 1.0 - 1e-6):
        x_B1 = torch.tensor([[x]], requires_grad=True)
        total = flexible_add(x_B1, torch.tensor([[-1.0]]), torch.ones(1, 1))
        total.sum().backward()
        assert total.abs().max() < 1e-3
        assert x_B1.grad.isfinite().all()


@few
@given(vectors, curvatures)
def test_exp_and_log_are_inverse(v, c) -> None:
    c_B1 = row([c])
    v = row(v) / math.sqrt(c)  # within reach: |v| sqrt(c) <= 4
    point = exp0(v, c_B1)
    assert (c * point.square().sum() < 1).all()
    close(log0(point, c_B1), v, 1e-5)
    inside = into_ball(v[0].tolist(), max(c, 1.0))
    close(exp0(log0(inside, c_B1), c_B1), inside)


@few
@given(vectors, vectors, curvatures)
def test_moebius_addition_is_a_gyrogroup(x, y, c) -> None:
    c_B1, zero = row([c]), torch.zeros(1, 4, dtype=torch.float64)
    x, y = into_ball(x, c), into_ball(y, c)
    close(mobius_add(x, y, c_B1), [scalar.mobius_add(x[0].tolist(), y[0].tolist(), c)])
    close(mobius_add(zero, y, c_B1), y)
    close(mobius_add(x, zero, c_B1), x)
    close(mobius_add(-x, x, c_B1), zero)
    close(mobius_add(-x, mobius_add(x, y, c_B1), c_B1), y)  # left cancellation
    close(mobius_add(x, y, c_B1).norm(), mobius_add(y, x, c_B1).norm())
    close(mobius_add(x, y, row([1e-12])), x + y, 1e-9)  # a flat ball


@few
@given(vectors, angles, curvatures)
def test_rotations_and_reflections_commute_with_the_exponential_map(v, angle, c) -> None:
    v, angle, c_B1 = row(v), row(angle), row([c])
    for isometry in (givens_rotate, givens_reflect):
        close(exp0(isometry(angle, v), c_B1), isometry(angle, exp0(v, c_B1)))


@few
@given(vectors, vectors, vectors, curvatures)
def test_left_translations_are_isometries(x, y, z, c) -> None:
    c_B1 = row([c])
    x, y, z = (into_ball(w, c) for w in (x, y, z))
    moved = [mobius_add(z, w, c_B1) for w in (x, y)]
    close(mobius_add(-moved[0], moved[1], c_B1).norm(), mobius_add(-x, y, c_B1).norm(), 1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1e-6, 1.0, 50.0])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e9])
def test_the_ball_is_safe_at_the_origin_and_at_the_edge(dtype, c, size) -> None:
    x, y = (
        (size * torch.tensor([values], dtype=dtype)).requires_grad_()
        for values in ([0.3, -1.0, 0.5, 0.1], [-0.3, 1.0, -0.5, -0.1])
    )
    c_B1 = torch.tensor([[c]], dtype=dtype, requires_grad=True)
    point = mobius_add(exp0(x, c_B1), exp0(y, c_B1), c_B1)
    back = log0(point, c_B1)
    assert (c_B1 * point.square().sum() < 1).all()
    assert back.isfinite().all()
    for gradient in torch.autograd.grad(back.sum() + point.sum(), (x, y, c_B1)):
        assert gradient.isfinite().all()


def test_projection_leaves_points_inside_alone() -> None:
    c_B1 = torch.tensor([[4.0], [4.0]])
    inside_BD = torch.tensor([[0.3, 0.0], [0.0, 0.49]])
    assert torch.equal(project_to_ball(inside_BD, c_B1), inside_BD)
    close(project_to_ball(10 * inside_BD, c_B1).norm(dim=1), [0.498, 0.498], 1e-6)


def test_geometry_passes_gradcheck() -> None:
    torch.manual_seed(0)
    x, y, angle = (0.3 * torch.randn(2, n, dtype=torch.float64) for n in (4, 4, 2))
    c = torch.tensor([[0.7], [1.4]], dtype=torch.float64)
    for function, inputs in (
        (givens_rotate, (angle, x)),
        (givens_reflect, (angle, x)),
        (complex_multiply, (x, y)),
        (complex_modulus, (x,)),
        (flexible_add, (x, y, c)),
        (exp0, (x, c)),
        (log0, (x, c)),
        (mobius_add, (x, y, c)),
    ):
        assert torch.autograd.gradcheck(function, [z.requires_grad_() for z in inputs])


def test_regularizers_by_hand() -> None:
    one, two = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[2.0], [-1.0]])
    assert n3(one, two).tolist() == [1 + 8 + 8, 27 + 1]
    assert f2(one, two).tolist() == [1 + 4 + 4, 9 + 1]
