"""Pure geometric functions on vectors; coordinates 2i and 2i+1 span a plane.

The Poincare ball of curvature -c has radius 1/sqrt(c). ``c_B1`` holds one c per row. Points are
kept away from the ball's edge by a margin that the dtype can resolve (``project_to_ball``), so that
every function here is finite, with finite gradients, for any input.

Sources: Chami et al., "Low-Dimensional Hyperbolic Knowledge Graph Embeddings" (ACL 2020); Ganea et
al., "Hyperbolic Neural Networks" (NeurIPS 2018).
"""

import torch
from torch import Tensor

TINY = 1e-15


def circle(angle_BH: Tensor) -> Tensor:
    """The point (cos, sin) for each angle in radians, a plane each, ``point_BD``; D = 2H."""
    return torch.stack((angle_BH.cos(), angle_BH.sin()), -1).flatten(-2)


def givens_rotate(angle_BH: Tensor, vector_BD: Tensor) -> Tensor:
    """Rotate each plane of ``vector_BD`` by its angle in radians; H = D/2 (RotatE, RotE)."""
    return complex_multiply(circle(angle_BH), vector_BD)


def givens_reflect(angle_BH: Tensor, vector_BD: Tensor) -> Tensor:
    """Reflect each plane of ``vector_BD`` in the line at half its angle, in radians (RefH)."""
    first, second = _planes(vector_BD)
    cos, sin = angle_BH.cos(), angle_BH.sin()
    return torch.stack((cos * first + sin * second, sin * first - cos * second), -1).flatten(-2)


def complex_multiply(x_BD: Tensor, y_BD: Tensor) -> Tensor:
    """Elementwise product of complex vectors whose planes are (real, imaginary) parts (ComplEx)."""
    x_BH, y_BH = (
        torch.view_as_complex(z.reshape(*z.shape[:-1], -1, 2).contiguous()) for z in (x_BD, y_BD)
    )
    product_BD: Tensor = torch.view_as_real(x_BH * y_BH).flatten(-2)
    return product_BD


def complex_modulus(x_BD: Tensor) -> Tensor:
    """Modulus of each plane, ``modulus_BH``; its gradient at 0 is 0."""
    modulus_BH: Tensor = torch.linalg.vector_norm(torch.stack(_planes(x_BD)), dim=0)
    return modulus_BH


def flexible_add(x_BD: Tensor, y_BD: Tensor, alpha_B1: Tensor, guard: float = 1e-2) -> Tensor:
    """RotL's flexible addition ``alpha (x + y) / (1 + x.y)`` (Eq. 14).

    The denominator vanishes where ``x.y = -1``. Within ``guard`` of 0 it is replaced by ``guard``
    with its sign, so the result is finite.
    """
    denominator_B1: Tensor = 1 + torch.linalg.vecdot(x_BD, y_BD)[..., None]
    with torch.no_grad():
        near_B1 = denominator_B1.abs() < guard
        held_B1 = torch.where(denominator_B1 < 0, -guard, guard).to(denominator_B1.dtype)
    factor_B1 = alpha_B1 / torch.where(near_B1, held_B1, denominator_B1)
    added_BD: Tensor = factor_B1 * (x_BD + y_BD)
    return added_BD


def project_to_ball(x_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Scale points beyond the margin back to norm ``(1 - margin) / sqrt(c)``; others are unchanged.

    The margin is 4e-3 in float32 and coarser types, 1e-5 in float64.
    """
    margin = 1e-5 if x_BD.dtype == torch.float64 else 4e-3
    limit_B1 = (1 - margin) / c_B1.sqrt()
    norm_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
    return x_BD * (limit_B1 / torch.maximum(norm_B1, limit_B1))


def exp0(tangent_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Exponential map at the origin, ``tanh(sqrt(c)|v|) v / (sqrt(c)|v|)``, projected."""
    length_B1 = _scaled_norm(tangent_BD, c_B1)
    return project_to_ball(tangent_BD * (length_B1.tanh() / length_B1), c_B1)


def log0(point_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Logarithmic map at the origin, the inverse of :func:`exp0`, of points in the ball."""
    point_BD = project_to_ball(point_BD, c_B1)
    length_B1 = _scaled_norm(point_BD, c_B1)
    return point_BD * (length_B1.atanh() / length_B1)


def mobius_add(x_BD: Tensor, y_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Moebius addition of points in the ball, x (+) y, projected; it does not commute."""
    dot_B1 = (x_BD * y_BD).sum(-1, keepdim=True)
    x_sq_B1, y_sq_B1 = (z.square().sum(-1, keepdim=True) for z in (x_BD, y_BD))
    along_x_B1 = 1 + 2 * c_B1 * dot_B1 + c_B1 * y_sq_B1
    along_y_B1 = 1 - c_B1 * x_sq_B1
    denominator_B1 = 1 + 2 * c_B1 * dot_B1 + c_B1.square() * x_sq_B1 * y_sq_B1
    sum_BD = (along_x_B1 * x_BD + along_y_B1 * y_BD) / denominator_B1.clamp(min=TINY)
    return project_to_ball(sum_BD, c_B1)


def _planes(x_BD: Tensor) -> tuple[Tensor, Tensor]:
    first_BH, second_BH = x_BD.reshape(*x_BD.shape[:-1], -1, 2).unbind(-1)
    return first_BH, second_BH


def _scaled_norm(x_BD: Tensor, c_B1: Tensor) -> Tensor:
    norm_B1: Tensor = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
    return (c_B1.sqrt() * norm_B1).clamp(min=TINY)
