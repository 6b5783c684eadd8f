"""Pure geometric functions on vectors of even dimension; pairs (2i, 2i+1) are one plane."""

import torch
from torch import Tensor


def givens_rotate(angle_BH: Tensor, vector_BD: Tensor) -> Tensor:
    """Rotate each plane of ``vector_BD`` by its angle in radians; H = D/2 (RotatE, RotE)."""
    first, second = vector_BD.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle_BH.cos(), angle_BH.sin()
    return torch.stack((cos * first - sin * second, sin * first + cos * second), -1).flatten(-2)


def flexible_add(x_BD: Tensor, y_BD: Tensor, alpha_B1: Tensor, guard: float = 1e-2) -> Tensor:
    """RotL's flexible addition ``alpha (x + y) / (1 + x.y)`` (Eq. 14).

    The denominator crosses 0 where ``x.y = -1``. Within ``guard`` of 0 it is held at ``guard``
    with its own sign, so the result stays finite.
    """
    denominator = 1 + (x_BD * y_BD).sum(-1, keepdim=True)
    sign = torch.where(denominator < 0, -1.0, 1.0).to(denominator.dtype)
    return alpha_B1 * (x_BD + y_BD) / (sign * denominator.abs().clamp(min=guard))
