"""Formulas of the papers for one triple, and its rank, in plain Python: lists of floats and loops.

A model's parameters come as nested lists under their names in ``state_dict``; what stands here is
deliberately slow and shares no code with the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Vector = list[float]
Parameters = dict[str, list]


def dot(x: Vector, y: Vector) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def norm(x: Vector) -> float:
    return math.sqrt(dot(x, x))


def add(x: Vector, y: Vector) -> Vector:
    return [a + b for a, b in zip(x, y, strict=True)]


def stretch(x: Vector, y: Vector) -> Vector:
    return [a * b for a, b in zip(x, y, strict=True)]


def scaled(factor: float, x: Vector) -> Vector:
    return [factor * a for a in x]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logsumexp(values: Vector) -> float:
    greatest = max(values)
    return greatest + math.log(sum(math.exp(value - greatest) for value in values))


def rotate(angles: Vector, x: Vector) -> Vector:
    pairs = zip(angles, x[::2], x[1::2], strict=True)
    return [
        coordinate
        for angle, a, b in pairs
        for coordinate in (
            math.cos(angle) * a - math.sin(angle) * b,
            math.sin(angle) * a + math.cos(angle) * b,
        )
    ]


def reflect(angles: Vector, x: Vector) -> Vector:
    pairs = zip(angles, x[::2], x[1::2], strict=True)
    return [
        coordinate
        for angle, a, b in pairs
        for coordinate in (
            math.cos(angle) * a + math.sin(angle) * b,
            math.sin(angle) * a - math.cos(angle) * b,
        )
    ]


def flexible_add(x: Vector, y: Vector, alpha: float) -> Vector:
    return scaled(alpha / (1 + dot(x, y)), add(x, y))


def exp0(v: Vector, c: float) -> Vector:
    length = math.sqrt(c) * norm(v)
    return scaled(math.tanh(length) / length, v) if length else v


def mobius_add(x: Vector, y: Vector, c: float) -> Vector:
    xy, x2, y2 = dot(x, y), dot(x, x), dot(y, y)
    along_x, along_y = 1 + 2 * c * xy + c * y2, 1 - c * x2
    total = add(scaled(along_x, x), scaled(along_y, y))
    return scaled(1 / (1 + 2 * c * xy + c * c * x2 * y2), total)


def squared_euclidean(q: Vector, e: Vector, scale: float) -> float:
    return scale * sum((a - b) ** 2 for a, b in zip(q, e, strict=True))


def negative_dot(q: Vector, e: Vector, scale: float) -> float:
    return -scale * dot(q, e)


def poincare(q: Vector, e: Vector, c: float) -> float:
    difference = mobius_add(scaled(-1, q), exp0(e, c), c)
    return (2 / math.sqrt(c) * math.atanh(math.sqrt(c) * norm(difference))) ** 2


def hanon(x: float, beta: float, gamma: float) -> float:
    return 1 / (1 / gamma + math.exp(-beta * (x - 0.5)))


def halin(x: float, beta: float, gamma: float) -> float:
    return 2 * x if x < 1 else min(beta * (x - 1) + 2, gamma)


def relation_scale(p: Parameters, r: int) -> float:
    return softplus(p["raw_scale"][r]) if "raw_scale" in p else 1.0


def transe(p: Parameters, e: int, r: int) -> Vector:
    return add(p["entity"][e], p["translation"][r])


def distmult(p: Parameters, e: int, r: int) -> Vector:
    return stretch(p["entity"][e], p["factor"][r])


def rotate_model(p: Parameters, e: int, r: int) -> Vector:
    return rotate(p["angle"][r], p["entity"][e])


def rote(p: Parameters, e: int, r: int) -> Vector:
    return add(rotate_model(p, e, r), p["translation"][r])


def rotl(p: Parameters, e: int, r: int) -> Vector:
    return flexible_add(rotate_model(p, e, r), p["translation"][r], softplus(p["raw_alpha"][r][0]))


def rot2l(p: Parameters, e: int, r: int) -> Vector:
    first = flexible_add(
        rotate(p["shared_angle"][0], p["entity"][e]),
        p["shared_translation"][0],
        softplus(p["raw_shared_alpha"][0][0]),
    )
    second = rotate(p["angle"][r], [math.tanh(a) for a in first])
    return flexible_add(second, p["translation"][r], softplus(p["raw_alpha"][r][0]))


def _hyperbolic(p: Parameters, tangent: Vector, r: int) -> Vector:
    c = relation_scale(p, r)
    return mobius_add(exp0(tangent, c), exp0(p["translation"][r], c), c)


def mure(p: Parameters, e: int, r: int) -> Vector:
    return add(distmult(p, e, r), p["translation"][r])


def compounde(p: Parameters, e: int, r: int) -> Vector:
    stretched = [a * b for a, b in zip(p["entity"][e], p["factor"][r], strict=True)]
    return add(rotate(p["angle"][r], stretched), p["translation"][r])


def lowranke(p: Parameters, e: int, r: int) -> Vector:
    entity, rank = p["entity"][e], len(p["left"][r]) // len(p["entity"][e])
    left, right = p["left"][r], p["right"][r]
    inner = [sum(entity[i] * right[i * rank + k] for i in range(len(entity))) for k in range(rank)]
    low = [
        sum(inner[k] * left[k * len(entity) + j] for k in range(rank)) for j in range(len(entity))
    ]
    return add(compounde(p, e, r), low)


def murp(p: Parameters, e: int, r: int) -> Vector:
    return _hyperbolic(p, distmult(p, e, r), r)


def roth(p: Parameters, e: int, r: int) -> Vector:
    """As the authors' code has it: translates before it rotates, too."""
    c = relation_scale(p, r)
    shifted = mobius_add(exp0(p["entity"][e], c), exp0(p["first_translation"][r], c), c)
    rotated = rotate(p["angle"][r], shifted)
    return mobius_add(rotated, exp0(p["translation"][r], c), c)


def refh(p: Parameters, e: int, r: int) -> Vector:
    c = relation_scale(p, r)
    reflected = reflect(p["angle"][r], exp0(p["entity"][e], c))
    return mobius_add(reflected, exp0(p["translation"][r], c), c)


def atth(p: Parameters, e: int, r: int) -> Vector:
    reflected = reflect(p["reflection"][r], p["entity"][e])
    rotated = rotate(p["rotation"][r], p["entity"][e])
    context, root = p["context"][r], math.sqrt(len(p["context"][r]))
    share = sigmoid((dot(reflected, context) - dot(rotated, context)) / root)
    return _hyperbolic(p, add(scaled(share, reflected), scaled(1 - share, rotated)), r)


def rescal(p: Parameters, e: int, r: int) -> Vector:
    entity, matrix = p["entity"][e], p["relation"][r]
    size = len(entity)
    return [sum(entity[i] * matrix[i * size + j] for i in range(size)) for j in range(size)]


def distmult_dot(p: Parameters, e: int, r: int) -> Vector:
    return stretch(p["entity"][e], p["relation"][r])


def complex_(p: Parameters, e: int, r: int) -> Vector:
    entity, relation = p["entity"][e], p["relation"][r]
    numbers = [
        complex(*entity[i : i + 2]) * complex(*relation[i : i + 2])
        for i in range(0, len(entity), 2)
    ]
    return [part for number in numbers for part in (number.real, number.imag)]


UNITS = {"1": "1ijk", "i": "i1kj", "j": "jk1i", "k": "kji1"}
"""The product of two units, up to its sign."""
NEGATIVE = {"ii", "jj", "kk", "ji", "kj", "ik"}


def quate(p: Parameters, e: int, r: int) -> Vector:
    """Hamilton's rules, unit by unit: ij = k, jk = i, ki = j, and the squares are -1."""
    entity, relation, query = p["entity"][e], p["relation"][r], []
    for start in range(0, len(entity), 4):
        part = relation[start : start + 4]
        result = dict.fromkeys("1ijk", 0.0)
        for unit, x in zip("1ijk", entity[start : start + 4], strict=True):
            for other, y in zip("1ijk", part, strict=True):
                sign = -1 if unit + other in NEGATIVE else 1
                result[UNITS[unit]["1ijk".index(other)]] += sign * x * y / norm(part)
        query += result.values()
    return query


def batch_norm(p: Parameters, name: str, channel: int, x: float) -> float:
    mean, variance = p[f"{name}.running_mean"][channel], p[f"{name}.running_var"][channel]
    weight, bias = p[f"{name}.weight"][channel], p[f"{name}.bias"][channel]
    return (x - mean) / math.sqrt(variance + 1e-5) * weight + bias


def tucker(p: Parameters, e: int, r: int) -> Vector:
    entity = [batch_norm(p, "input_norm", i, x) for i, x in enumerate(p["entity"][e])]
    size, relation, core = len(entity), p["relation"][r], p["core"]
    product = [
        sum(
            relation[k] * entity[i] * core[k][i * size + j]
            for k in range(len(relation))
            for i in range(size)
        )
        for j in range(size)
    ]
    return [batch_norm(p, "query_norm", j, x) for j, x in enumerate(product)]


def conve(p: Parameters, e: int, r: int, columns: int = 3) -> Vector:
    pixels = p["entity"][e] + p["relation"][r]
    image = [
        [batch_norm(p, "convolution.0", 0, x) for x in pixels[start : start + columns]]
        for start in range(0, len(pixels), columns)
    ]
    features = []
    for channel, kernel in enumerate(p["convolution.2.weight"]):
        for top in range(len(image) - 2):
            for left in range(columns - 2):
                total = p["convolution.2.bias"][channel] + sum(
                    kernel[0][i][j] * image[top + i][left + j] for i in range(3) for j in range(3)
                )
                features.append(max(0.0, batch_norm(p, "convolution.3", channel, total)))
    query = [
        batch_norm(p, "projection.2", i, dot(weights, features) + p["projection.0.bias"][i])
        for i, weights in enumerate(p["projection.0.weight"])
    ]
    return [max(0.0, x) for x in query] + [1.0]


def rank_by_hand(
    distances: Sequence[float], target: int, known: Iterable[int]
) -> tuple[int, int, int]:
    """Optimistic rank, pessimistic rank and number of candidates of one target."""
    rivals = [e for e in range(len(distances)) if e != target and e not in set(known)]
    nearer = [e for e in rivals if distances[e] < distances[target]]
    as_near = [e for e in rivals if distances[e] == distances[target]]
    return 1 + len(nearer), 1 + len(nearer) + len(as_near), 1 + len(rivals)
