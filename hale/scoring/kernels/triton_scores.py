"""Distances and activations, with their derivatives, as Triton device functions.

These are the float32 counterparts of :mod:`hale.scoring.comparators` and
:mod:`hale.scoring.activations`, which define the values. Derivatives are written out and are 0
where a clamp is active. NaN propagates: clamps use ``where``, because the hardware's minimum and
maximum drop NaN.
"""

import triton
import triton.language as tl

from hale.scoring.activations import Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean

COMPARATORS = (SquaredEuclidean, NegativeDot, Poincare)
"""The comparators that :func:`compare` implements, by class name."""

ACTIVATIONS = (Identity, Temperature, Hanon, Halin, XExp, Artanh)
"""The activations that :func:`harden` implements, by class name."""


@triton.jit
def harden(distance, rate, beta, gamma, limit, offset, ACTIVATION: tl.constexpr):
    """Hardened distance and its derivative; an activation uses some of the parameters."""
    if ACTIVATION == "Identity":
        hardened, slope = distance, 1.0
    elif ACTIVATION == "Temperature":
        hardened, slope = distance * rate, rate
    elif ACTIVATION == "Hanon":
        logit = beta * distance - offset
        decay = tl.exp(-tl.abs(logit))
        part = 1.0 / (1.0 + decay)
        hardened = gamma * tl.where(logit < 0.0, decay * part, part)
        slope = beta * gamma * decay * part * part
    elif ACTIVATION == "Halin":
        steep = beta * (distance - 1.0) + 2.0
        hardened = tl.where(distance < 1.0, 2.0 * distance, tl.where(steep > gamma, gamma, steep))
        slope = tl.where(distance < 1.0, 2.0, tl.where(steep > gamma, 0.0, beta))
    elif ACTIVATION == "XExp":
        growth = tl.exp(tl.where(distance > limit, limit, distance))
        hardened = distance * growth
        slope = growth + tl.where(distance > limit, 0.0, hardened)
    else:
        tl.static_assert(ACTIVATION == "Artanh")
        hardened = tl.log(1.0 + 2.0 * distance)
        slope = 2.0 / (1.0 + 2.0 * distance)
    return hardened, slope


@triton.jit
def compare(dot, query_sq, entity_sq, scale, COMPARATOR: tl.constexpr):
    """Distance, and its derivatives in the dot product, the squared norms and the scale."""
    if COMPARATOR == "SquaredEuclidean":
        square = query_sq + entity_sq - 2.0 * dot
        d_square = tl.where(square < 0.0, 0.0, scale)
        square = tl.where(square < 0.0, 0.0, square)
        result = scale * square, -2.0 * d_square, d_square, d_square, square
    elif COMPARATOR == "NegativeDot":
        result = -scale * dot, -scale, 0.0, 0.0, -dot
    else:
        tl.static_assert(COMPARATOR == "Poincare")
        result = _poincare(dot, query_sq, entity_sq, scale)
    return result


@triton.jit
def _poincare(dot, query_sq, entity_sq, scale):
    """The law of cosines with sides A = 2 artanh(a), a = sqrt(c)|q|, and B = 2 sqrt(c)|e|."""
    TINY: tl.constexpr = 1e-15
    EDGE: tl.constexpr = 1 - 4 * 2.0**-23
    REACH: tl.constexpr = 30.0
    root = tl.sqrt(scale)
    query_norm = tl.sqrt(tl.where(query_sq < TINY, TINY, query_sq))
    entity_norm = tl.sqrt(tl.where(entity_sq < TINY, TINY, entity_sq))

    a = root * query_norm
    in_ball = a <= EDGE
    a = tl.where(a > EDGE, EDGE, a)
    gap = (1.0 - a) * (1.0 + a)
    side_a = _log1p(2.0 * a / (1.0 - a))
    sinh_a = 2.0 * a / gap
    cosh_a = (1.0 + a * a) / gap

    side_b = 2.0 * root * entity_norm
    in_reach = side_b <= REACH
    side_b = tl.where(side_b > REACH, REACH, side_b)
    sinh_b = _sinh(side_b)
    cosh_b = tl.sqrt(1.0 + sinh_b * sinh_b)

    raw_cosine = dot / (query_norm * entity_norm)
    cosine = tl.where(raw_cosine > 1.0, 1.0, tl.where(raw_cosine < -1.0, -1.0, raw_cosine))
    between = (1.0 - cosine) * 0.5
    radial = _sinh((side_a - side_b) * 0.5)
    half = radial * radial + sinh_a * sinh_b * between
    apart = half >= TINY
    half = tl.where(half < TINY, TINY, half)
    sine = tl.sqrt(half)
    cosh = tl.sqrt(1.0 + half)
    length = 2.0 * _log1p(sine + half / (1.0 + cosh))
    distance = length * length / scale

    d_half = tl.where(apart, 2.0 * length / (scale * sine * cosh), 0.0)
    twist = radial * tl.sqrt(1.0 + radial * radial)
    d_side_a = d_half * (twist + cosh_a * sinh_b * between)
    d_side_b = d_half * (sinh_a * cosh_b * between - twist)
    d_a = tl.where(in_ball, d_side_a * 2.0 / gap, 0.0)
    d_b = tl.where(in_reach, 2.0 * d_side_b, 0.0)
    d_cosine = -0.5 * d_half * sinh_a * sinh_b
    d_cosine = tl.where((raw_cosine > 1.0) | (raw_cosine < -1.0), 0.0, d_cosine)
    d_dot = d_cosine / (query_norm * entity_norm)
    d_turn = d_cosine * cosine
    d_query_sq = (d_a * root - d_turn / query_norm) / (2.0 * query_norm)
    d_entity_sq = (d_b * root - d_turn / entity_norm) / (2.0 * entity_norm)
    d_scale = (d_a * query_norm + d_b * entity_norm) / (2.0 * root) - distance / scale
    return (
        distance,
        d_dot,
        tl.where(query_sq < TINY, 0.0, d_query_sq),
        tl.where(entity_sq < TINY, 0.0, d_entity_sq),
        d_scale,
    )


@triton.jit
def _log1p(x):
    """ln(1 + x) to float32 accuracy for x >= 0 (Kahan): the rounding error of 1 + x cancels."""
    y = 1.0 + x
    return tl.where(y == 1.0, x, tl.log(y) * (x / tl.where(y == 1.0, 1.0, y - 1.0)))


@triton.jit
def _sinh(x):
    """The hyperbolic sine; a series where the difference of exponentials would cancel."""
    s = x * x
    series = x * (1 + s / 6 * (1 + s / 20 * (1 + s / 42 * (1 + s / 72))))
    growth = tl.exp(x)
    return tl.where(tl.abs(x) < 1.0, series, 0.5 * (growth - 1.0 / growth))
