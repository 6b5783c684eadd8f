"""LogSumExp over candidates: weights of entities, clusters, and the choice of near ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_entity_logsumexp import IDS, PAIRS, differentiate, draw, mask, relative

from hale.errors import ArgumentError
from hale.scoring.activations import Hanon
from hale.scoring.candidates import GROUP, TILE, Candidates
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels.operations import entity_logsumexp
from hale.scoring.kernels.reference import reference_logsumexp

EUCLIDEAN = (SquaredEuclidean(), Hanon())


def some(rows: int, entities: int, seed: int) -> Candidates:
    """Clusters at random, a third of them near, a third drawn, a third left out."""
    generator = torch.Generator().manual_seed(seed)
    order_E = torch.randperm(entities, generator=generator)
    shape = (-(-rows // GROUP), -(-entities // TILE))
    weights = torch.tensor([0.0, math.log(3.5), -math.inf])
    log_weight_GC = weights[torch.randint(3, shape, generator=generator)]
    log_weight_GC[:, 0] = 0
    return Candidates(order_E, order_E.argsort(), log_weight_GC)


def naive(query_ND, scale_N, entity_ED, comparator, activation, known, candidates):
    """The definition entity by entity, cluster by cluster."""
    sums = []
    for n, (query_D, scale) in enumerate(zip(query_ND, scale_N, strict=True)):
        excluded = (
            set(known.answer_A[known.start_N[n] : known.stop_N[n]].tolist()) if known else set()
        )
        terms = []
        for place, entity in enumerate(candidates.order_E.tolist()):
            weight = candidates.log_weight_GC[n // GROUP, place // TILE].double().exp()
            if entity in excluded or weight == 0:
                continue
            entity_D = entity_ED[entity]
            distance = comparator(query_D @ entity_D, query_D @ query_D, entity_D @ entity_D, scale)
            terms.append(weight * (-activation(distance)).exp())
        sums.append(torch.stack(terms).sum().log())
    return torch.stack(sums)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 2 * GROUP + 3), st.integers(2, 2 * TILE + 9), st.booleans(), st.data())
def test_the_reference_is_the_definition(rows, entities, masked, data):
    comparator, activation = data.draw(st.sampled_from(PAIRS))
    inputs, weight = draw(rows, entities, 3, dtype=torch.float64)
    candidates = some(rows, entities, data.draw(st.integers(0, 9)))
    known = mask(rows, entities) if masked else None
    rest = (comparator, activation, known, candidates)
    expected = differentiate(naive, inputs, weight, *rest)
    for actual, wanted in zip(
        differentiate(reference_logsumexp, inputs, weight, *rest), expected, strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_backend_of_this_machine_agrees_with_the_reference(comparator, activation, masked):
    for rows, entities, dim in ((1, 5, 3), (33, 400, 70), (47, TILE * 5 + 1, 9), (102, 1003, 32)):
        inputs, weight = draw(rows, entities, dim)
        known = mask(rows, entities) if masked else None
        rest = (comparator, activation, known, some(rows, entities, rows))
        doubles = [tensor.double() for tensor in inputs]
        actual = differentiate(entity_logsumexp, inputs, weight, *rest)
        expected = differentiate(reference_logsumexp, doubles, weight.double(), *rest)
        torch.testing.assert_close(actual[0].double(), expected[0], rtol=2e-5, atol=2e-5)
        for one, wanted, bound in zip(actual[1:], expected[1:], (2e-2, 1e-4, 2e-2), strict=True):
            assert relative(one, wanted) < bound


@pytest.mark.parametrize("rows", [5, 5000])
def test_weights_of_one_are_those_of_all_entities_bit_by_bit(rows):
    inputs, weight = draw(rows, 5 * TILE - 7, 8)
    order_E = torch.arange(5 * TILE - 7)
    candidates = Candidates(order_E, order_E, torch.zeros(-(-rows // GROUP), 5))
    known = mask(rows, 5 * TILE - 7)
    for one, all_of_them in zip(
        differentiate(entity_logsumexp, inputs, weight, *EUCLIDEAN, known, candidates),
        differentiate(entity_logsumexp, inputs, weight, *EUCLIDEAN, known),
        strict=True,
    ):
        assert torch.equal(one, all_of_them)


def test_candidates_of_another_batch_are_refused():
    inputs, _ = draw(40, 300, 4)
    with pytest.raises(ArgumentError, match="3 groups and 4 clusters, not"):
        entity_logsumexp(*inputs, *EUCLIDEAN, None, some(20, 300, 0))
    with pytest.raises(ArgumentError, match="candidates of 40 queries and 300 entities"):
        entity_logsumexp(*inputs, *EUCLIDEAN, None, some(40, 299, 0))
