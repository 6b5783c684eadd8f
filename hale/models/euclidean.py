"""Models compared by squared Euclidean distance (HaLE section 3.3)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.models.base import SOFTPLUS_ONE, DistanceModel, random_angles, random_signs
from hale.scoring.table import lookup


class TransE(DistanceModel):
    """Phi(e, r) = e + r (Eq. 10; Bordes et al., NeurIPS 2013)."""

    def build(self) -> None:
        self.translation = self.normal(self.num_relations, self.dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return entity_BD + lookup(self.translation, relation_B)


class DistMult(DistanceModel):
    """Phi(e, r) = e * r, elementwise (Eq. 11; Yang et al., ICLR 2015).

    Each coordinate of r is initialised near 1 or -1 at random: a reflection. If all were near 1,
    every entity would initially be the nearest to its own queries, and would remain so for
    symmetric relations, where r^2 = 1.
    """

    def build(self) -> None:
        self.factor = random_signs(self.num_relations, self.dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return entity_BD * lookup(self.factor, relation_B)


class RotatE(DistanceModel):
    """Phi(e, r) = Rot(r) e: one angle for each pair of coordinates (Eq. 12; Sun et al., 2019)."""

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        self.angle = random_angles(self.num_relations, self.dim // 2)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return complex_multiply(lookup(circle(self.angle), relation_B), entity_BD)


class RotE(DistanceModel):
    """Phi(e, r) = Rot(r) e + r' (Eq. 13; Chami et al., ACL 2020)."""

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        self.angle = random_angles(self.num_relations, self.dim // 2)
        self.translation = self.normal(self.num_relations, self.dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        rotation_BD = lookup(circle(self.angle), relation_B)
        translation_BD = lookup(self.translation, relation_B)
        return complex_multiply(rotation_BD, entity_BD) + translation_BD


class RotL(DistanceModel):
    """Phi(e, r) = Rot(r) e (+)_alpha r' by flexible addition (Eq. 14; Wang et al., EMNLP 2021).

    alpha_r > 0 is trained for each relation and initialised to 1.
    """

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        self.angle = random_angles(self.num_relations, self.dim // 2)
        self.translation = self.normal(self.num_relations, self.dim)
        self.raw_alpha = nn.Parameter(torch.full((self.num_relations, 1), SOFTPLUS_ONE))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        rotation_BD = lookup(circle(self.angle), relation_B)
        translation_BD = lookup(self.translation, relation_B)
        alpha_B1 = lookup(F.softplus(self.raw_alpha), relation_B)
        rotated_BD = complex_multiply(rotation_BD, entity_BD)
        return flexible_add(rotated_BD, translation_BD, alpha_B1)


class Rot2L(DistanceModel):
    """Phi(e, r) = Rot(r) e' (+)_alpha r', e' = tanh(Rot(s) e (+)_alpha' s') (Wang et al., 2021).

    The first layer (s, s', alpha') is shared by all relations; the second is RotL's, with
    parameters for each relation. The source (Findings of EMNLP) describes two stacked
    rotation-translation layers that share some of their parameters across relations; which ones,
    and the function between the layers, are choices made here.
    """

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        self.shared_angle = random_angles(1, self.dim // 2)
        self.shared_translation = self.normal(1, self.dim)
        self.raw_shared_alpha = nn.Parameter(torch.full((1, 1), SOFTPLUS_ONE))
        self.angle = random_angles(self.num_relations, self.dim // 2)
        self.translation = self.normal(self.num_relations, self.dim)
        self.raw_alpha = nn.Parameter(torch.full((self.num_relations, 1), SOFTPLUS_ONE))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        rotated_BD = givens_rotate(self.shared_angle, entity_BD)
        hidden_BD = flexible_add(
            rotated_BD, self.shared_translation, F.softplus(self.raw_shared_alpha)
        ).tanh()
        rotation_BD = lookup(circle(self.angle), relation_B)
        translation_BD = lookup(self.translation, relation_B)
        alpha_B1 = lookup(F.softplus(self.raw_alpha), relation_B)
        return flexible_add(complex_multiply(rotation_BD, hidden_BD), translation_BD, alpha_B1)


class MuRE(DistanceModel):
    """Phi(e, r) = e * r + r', elementwise: DistMult and TransE combined (Balazevic et al., 2019).

    MuRE (NeurIPS 2019) translates the candidate, ``d(e * r, e' + r')``; here the query is
    translated instead, which is the same up to the sign of r'. Its entity biases are omitted, as
    MuRP's are. r is initialised near 1 or -1 at random, as in DistMult.
    """

    def build(self) -> None:
        self.factor = random_signs(self.num_relations, self.dim)
        self.translation = self.normal(self.num_relations, self.dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        factor_BD = lookup(self.factor, relation_B)
        translation_BD = lookup(self.translation, relation_B)
        return torch.addcmul(translation_BD, entity_BD, factor_BD)


class CompoundE(DistanceModel):
    """Phi(e, r) = Rot(r) (e * s) + r': stretch, rotate, translate (Ge et al., ACL 2023).

    The variant that acts on the head alone, CompoundE-Head. It has MuRE's factors, which forget
    coordinates of e, and RotE's rotations. s is initialised to 1: at random angles no entity lies
    on its own query, so the random signs of MuRE are not needed.
    """

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        self.angle = random_angles(self.num_relations, self.dim // 2)
        self.factor = nn.Parameter(torch.ones(self.num_relations, self.dim))
        self.translation = self.normal(self.num_relations, self.dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        rotation_BD = lookup(circle(self.angle), relation_B)
        stretched_BD = entity_BD * lookup(self.factor, relation_B)
        rotated_BD = complex_multiply(rotation_BD, stretched_BD)
        return rotated_BD + lookup(self.translation, relation_B)


# Functions on vectors; coordinates 2i and 2i+1 span a plane.


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
    x_BH, y_BH = (torch.view_as_complex(_pairs(z).contiguous()) for z in (x_BD, y_BD))
    product_BD: Tensor = torch.view_as_real(x_BH * y_BH).flatten(-2)
    return product_BD


def complex_modulus(x_BD: Tensor) -> Tensor:
    """Modulus of each plane, ``modulus_BH``; its gradient at 0 is 0."""
    return torch.view_as_complex(_pairs(x_BD).contiguous()).abs()


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


def _planes(x_BD: Tensor) -> tuple[Tensor, Tensor]:
    first_BH, second_BH = _pairs(x_BD).unbind(-1)
    return first_BH, second_BH


def _pairs(x_BD: Tensor) -> Tensor:
    return x_BD.reshape(*x_BD.shape[:-1], x_BD.shape[-1] // 2, 2)  # B may be 0
