"""The parameters of activations, by name, for kernels that know no Python objects."""

import math

from hale.scoring.activations import Activation, Halin, Hanon, Identity, Temperature, XExp

NONE = {"rate": 0.0, "beta": 0.0, "gamma": 0.0, "limit": 0.0, "offset": 0.0}
"""``struct parameters`` of the C source, and the arguments of the Triton kernels."""


def parameters(activation: Activation) -> dict[str, float]:
    """The parameters of one of the activations that the kernels support; 0 for unused ones."""
    used: dict[str, float] = {}
    match activation:
        case Identity():
            used = {"rate": 1}
        case Temperature(temperature):
            used = {"rate": 1 / temperature}
        case Hanon(beta, gamma):  # gamma / (1 + exp(offset - beta x))
            used = {"beta": beta, "gamma": gamma, "offset": beta / 2 + math.log(gamma)}
        case Halin(beta, gamma):
            used = {"beta": beta, "gamma": gamma}
        case XExp(limit):
            used = {"limit": limit}
    return NONE | {name: float(value) for name, value in used.items()}
