"""Hardness-aware activations: increasing maps from distance to distance.

The score of a candidate is ``-activation(distance)``. Distant candidates are pushed further away
(the soft constraint, slope ``beta``) up to the bound ``gamma`` (the hard constraint), where their
gradient vanishes.

An activation is a frozen dataclass: a pure function with named parameters, comparable and
printable. ``nonnegative`` means that it is defined for distances >= 0 only, so it cannot be
combined with comparators whose distance may be negative (the negative dot product). ``positive``
means that its values are above 0 for negative distances too, so that a loss may square them.

Source: Wang et al., "Swift and Sure" (WWW'22), section 3.2 and figure 1.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from hale.errors import require


class Activation(Protocol):
    """Increasing, elementwise map from a distance to the hardened distance of the same shape."""

    @property
    def nonnegative(self) -> bool:
        """Whether it is defined for distances >= 0 only."""

    @property
    def positive(self) -> bool:
        """Whether its values are above 0 for every distance, negative ones too."""

    def __call__(self, distance: Tensor) -> Tensor:
        """Harden ``distance``; any shape and floating dtype."""


@dataclass(frozen=True)
class Identity:
    """h(x) = x: no activation."""

    nonnegative: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    def __call__(self, distance: Tensor) -> Tensor:
        """Return ``distance`` itself."""
        return distance


@dataclass(frozen=True)
class Temperature:
    """h(x) = x / temperature; temperature 1/2 is the y = 2x of figure 1 (Eq. 1)."""

    temperature: float = 0.5
    nonnegative: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require("temperature", self.temperature, above=0)

    def __call__(self, distance: Tensor) -> Tensor:
        """Divide by the temperature."""
        return distance / self.temperature


@dataclass(frozen=True)
class Hanon:
    """h(x) = 1 / (1/gamma + exp(-beta (x - 0.5))), a sigmoid of height gamma (Eq. 6)."""

    beta: float = 3.0
    gamma: float = 10.0
    nonnegative: ClassVar[bool] = False
    positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require("beta", self.beta, above=0)
        require("gamma", self.gamma, above=0)

    def __call__(self, distance: Tensor) -> Tensor:
        """Evaluate as gamma * sigmoid(beta (x - 0.5) - ln gamma), which never overflows."""
        return self.gamma * torch.sigmoid(self.beta * (distance - 0.5) - math.log(self.gamma))


@dataclass(frozen=True)
class Halin:
    """h(x) = 2x for x < 1, else min(beta (x - 1) + 2, gamma) (Eq. 7)."""

    beta: float = 10.0
    gamma: float = 10.0
    nonnegative: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require("beta", self.beta, above=0)
        require("gamma", self.gamma, above=0)
        require("gamma", self.gamma, at_least=2)  # Halin is 2 at x = 1 and would fall there

    def __call__(self, distance: Tensor) -> Tensor:
        """Evaluate both pieces and select one."""
        beyond = (self.beta * (distance - 1) + 2).clamp(max=self.gamma)
        return torch.where(distance < 1, 2 * distance, beyond)


@dataclass(frozen=True)
class XExp:
    """h(x) = x exp(x), RotL's own nonlinearity (Eq. 16); the exponent is capped at ``limit``.

    Beyond ``limit`` it continues as x exp(limit): still increasing, and finite in float32.
    """

    limit: float = 20.0
    nonnegative: ClassVar[bool] = True
    positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require("limit", self.limit, above=0)

    def __call__(self, distance: Tensor) -> Tensor:
        """Multiply by the capped exponential."""
        return distance * distance.clamp(max=self.limit).exp()


@dataclass(frozen=True)
class Artanh:
    """h(x) = 2 artanh(y) of the normalised distance y = x / (1 + x), which equals ln(1 + 2x).

    The nonlinearity of hyperbolic distances is defined on [0, 1), so the distance is normalised
    first (section 4.2.4); the closed form has neither a pole nor cancellation.
    """

    nonnegative: ClassVar[bool] = True
    positive: ClassVar[bool] = False

    def __call__(self, distance: Tensor) -> Tensor:
        """Evaluate ln(1 + 2x)."""
        return torch.log1p(2 * distance)
