"""Regularisers of the factors of a batch's triples, as unweighted scalars."""

import torch
from torch import Tensor


def n3(*modulus_BH: Tensor) -> Tensor:
    """Nuclear 3-norm: ``mean_B sum_H |x|^3``, summed over factors given by their moduli.

    Source: Lacroix et al., "Canonical Tensor Decomposition for Knowledge Base Completion" (ICML
    2018).
    """
    return torch.stack([x.abs().pow(3).sum(1).mean() for x in modulus_BH]).sum()


def f2(*factor_BH: Tensor) -> Tensor:
    """Squared Frobenius norm: ``mean_B sum_H x^2``, summed over factors."""
    return torch.stack([x.square().sum(1).mean() for x in factor_BH]).sum()
