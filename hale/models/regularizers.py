"""Regularisers of the factors of a batch's triples: a value for each triple, unweighted."""

import torch
from torch import Tensor


def n3(*modulus_BH: Tensor) -> Tensor:
    """Nuclear 3-norm: ``sum_H |x|^3`` of each triple, summed over factors given by their moduli.

    Source: Lacroix et al., "Canonical Tensor Decomposition for Knowledge Base Completion" (ICML
    2018).
    """
    return torch.stack([x.abs().pow(3).sum(1) for x in modulus_BH]).sum(0)


def f2(*factor_BH: Tensor) -> Tensor:
    """Squared Frobenius norm: ``sum_H x^2`` of each triple, summed over factors."""
    return torch.stack([x.square().sum(1) for x in factor_BH]).sum(0)
