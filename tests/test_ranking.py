import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scalar import rank_by_hand

from hale.errors import DivergedError
from hale.evaluation import distances
from hale.evaluation.ranking import filtered_ranks, rank_batch, top_k
from hale.graphs.batches import QueryBatch
from hale.graphs.queries import Known, QueryIndex
from hale.scoring.activations import Artanh, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table

NOTHING = Known.of_pairs(*torch.empty(2, 0, dtype=torch.long), 7)


def score_matrix(query_BD, entity_ED, comparator=None, scale_B=None, activation=None):
    return ScoreMatrix(
        query_BD,
        query_BD.new_ones(len(query_BD)) if scale_B is None else scale_B,
        Table(entity_ED),
        SquaredEuclidean() if comparator is None else comparator,
        Identity() if activation is None else activation,
    )


def random_scores(rows=7, entities=23, dim=4, **choices):
    generator = torch.Generator().manual_seed(3)
    query_BD = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    entity_ED = torch.randn(entities, dim, generator=generator, dtype=torch.float64)
    return score_matrix(query_BD / 4, entity_ED / 4, **choices)


def distances_by_hand(scores):
    """Lists of distances, one entry at a time; exact for small whole numbers."""
    return [
        [
            float(scores.comparator((q * e).sum(), q.square().sum(), e.square().sum(), c))
            for e in scores.entity_ED
        ]
        for q, c in zip(scores.query_BD, scores.scale_B, strict=True)
    ]


def assert_ranks_by_hand(ranks, scores, target_B, known):
    pairs = list(zip(*(part.tolist() for part in known.pairs()), strict=True))
    expected = [
        rank_by_hand(row, int(target_B[b]), [entity for at, entity in pairs if at == b])
        for b, row in enumerate(distances_by_hand(scores))
    ]
    optimistic, pessimistic, candidates = (list(x) for x in zip(*expected, strict=True))
    assert ranks.optimistic_B.tolist() == optimistic
    assert ranks.pessimistic_B.tolist() == pessimistic
    assert ranks.candidates_B.tolist() == candidates
    halves = [(low + high) / 2 for low, high in zip(optimistic, pessimistic, strict=True)]
    assert ranks.realistic_B.tolist() == halves


@st.composite
def rankings_with_ties(draw):
    """Small whole numbers, so that every distance is exact and ties abound."""
    rows, entities, dim = (draw(st.integers(1, high)) for high in (6, 9, 3))
    whole = st.integers(-2, 2)

    def matrix(count):
        line = st.lists(whole, min_size=dim, max_size=dim)
        return torch.tensor(draw(st.lists(line, min_size=count, max_size=count)))

    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    comparator = draw(st.sampled_from([SquaredEuclidean(), NegativeDot()]))
    scale = draw(st.lists(st.sampled_from([0.5, 1.0, 4.0]), min_size=rows, max_size=rows))
    scores = score_matrix(
        matrix(rows).to(dtype), matrix(entities).to(dtype), comparator, torch.tensor(scale)
    )
    entity = st.integers(0, entities - 1)
    target_B = torch.tensor(draw(st.lists(entity, min_size=rows, max_size=rows)))
    pairs = draw(st.lists(st.tuples(st.integers(0, rows - 1), entity), unique=True))
    pair_P2 = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return scores, target_B, Known.of_pairs(*pair_P2.unbind(1), rows)


@settings(deadline=None, max_examples=80)
@given(
    rankings_with_ties(), st.sampled_from([1, 40, 100, 1 << 20]), st.integers(1, 9),
    st.integers(1, 9),
)  # fmt: skip
def test_ranks_are_those_of_the_definition_whatever_the_blocks(case, block, least, tiled):
    scores, target_B, known = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(distances.BLOCK_BYTES, "cpu", block)
        patch.setattr(distances, "LEAST_ROWS", least)
        patch.setattr(distances, "TILED_ROWS", tiled)
        ranks = filtered_ranks(scores, target_B, known)
    assert_ranks_by_hand(ranks, scores, target_B, known)


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), NegativeDot()])
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (16 * 23, {(16, 23), (8, 23)}),  # all entities, while sixteen rows of them fit
        (16 * 23 - 1, {(40, 2), (40, 1)}),
    ],
)
def test_a_block_has_all_entities_if_it_can(monkeypatch, comparator, cells, expected):
    monkeypatch.setitem(distances.BLOCK_BYTES, "cpu", 8 * cells)
    scores, shapes = random_scores(rows=40, comparator=comparator), set()
    compute = distances.Distances._compute

    def noted(self, rows, columns):
        distance_CE = compute(self, rows, columns)
        shapes.add(tuple(distance_CE.shape))
        return distance_CE

    monkeypatch.setattr(distances.Distances, "_compute", noted)
    filtered_ranks(scores, torch.arange(20).repeat(2), NOTHING)
    assert shapes == expected


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), Poincare(), NegativeDot()])
def test_every_comparator_ranks_by_its_own_distance(comparator):
    scores = random_scores(comparator=comparator, scale_B=torch.rand(7).double() + 0.5)
    target_B = torch.arange(7)
    known = Known.of_pairs(torch.tensor([0, 0, 2, 5]), torch.tensor([0, 4, 9, 22]), 7)
    assert_ranks_by_hand(filtered_ranks(scores, target_B, known), scores, target_B, known)


@pytest.mark.parametrize(
    "activation", [Temperature(), Hanon(), Hanon(beta=1, gamma=100), XExp(), Artanh()]
)
def test_a_strictly_increasing_activation_changes_no_rank(activation):
    plain = random_scores(rows=40, entities=200)
    hardened = dataclasses.replace(plain, activation=activation)
    every_BE = torch.arange(200).expand(40, 200)
    target_B = torch.arange(40)
    ranks = filtered_ranks(hardened, target_B, NOTHING)
    distance_BE = -hardened.at(every_BE)
    by_score = [rank_by_hand(row, b, []) for b, row in enumerate(distance_BE.tolist())]
    assert ranks.optimistic_B.tolist() == [low for low, _, _ in by_score]
    assert ranks.pessimistic_B.tolist() == [high for _, high, _ in by_score]


def test_a_constant_scorer_ranks_in_the_middle():
    entities = 100
    scores = score_matrix(torch.zeros(2, 3), torch.ones(entities, 3))
    known = Known.of_pairs(torch.tensor([1, 1, 1]), torch.tensor([7, 8, 9]), 2)
    ranks = filtered_ranks(scores, torch.tensor([0, 8]), known)
    assert ranks.optimistic_B.tolist() == [1, 1]
    assert ranks.pessimistic_B.tolist() == [100, 98]
    assert ranks.realistic_B.tolist() == [50.5, 49.5]
    assert ranks.candidates_B.tolist() == [100, 98]


def test_known_answers_cannot_outrank_a_target_that_is_very_far():
    entity_ED = torch.tensor([[0.0], [1e4], [2e4]])
    scores = score_matrix(torch.zeros(1, 1), entity_ED, scale_B=torch.tensor([100.0]))
    assert scores.at(torch.tensor([[2]])) < -1e6
    known = Known.of_pairs(torch.zeros(2, dtype=torch.long), torch.tensor([0, 2]), 1)
    ranks = filtered_ranks(scores, torch.tensor([2]), known)
    assert ranks.optimistic_B.tolist() == ranks.pessimistic_B.tolist() == [2]
    assert ranks.candidates_B.tolist() == [2]


def test_a_target_whose_other_candidates_are_all_excluded_ranks_first():
    scores = score_matrix(torch.zeros(1, 1), torch.tensor([[0.0], [1.0], [2.0]]))
    known = Known.of_pairs(torch.zeros(3, dtype=torch.long), torch.arange(3), 1)
    ranks = filtered_ranks(scores, torch.tensor([2]), known)
    assert (ranks.realistic_B.item(), ranks.candidates_B.item()) == (1, 1)


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), NegativeDot(), Poincare()])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["query_BD", "scale_B", "entity_ED"])
def test_scores_that_are_not_finite_raise(comparator, value, place):
    scores = random_scores(comparator=comparator)
    getattr(scores, place)[3] = value
    with pytest.raises(DivergedError, match="NaN or infinite"):
        filtered_ranks(scores, torch.arange(7), NOTHING)


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), NegativeDot()])
def test_overflow_to_infinity_raises_and_large_finite_scores_do_not(comparator):
    entity_ED = torch.tensor([[1e15], [-1e15], [2e18]])
    target_B = torch.tensor([0])
    large = score_matrix(torch.tensor([[1e18]]), entity_ED, comparator)
    assert filtered_ranks(large, target_B, NOTHING).candidates_B.tolist() == [3]
    overflowing = score_matrix(torch.tensor([[3e38]]), entity_ED, comparator)
    with pytest.raises(DivergedError):
        filtered_ranks(overflowing, target_B, NOTHING)


def test_finite_scores_whose_sum_overflows_are_ranked():
    scores = score_matrix(torch.ones(1, 1), torch.full((4, 1), 3e38), NegativeDot())
    assert filtered_ranks(scores, torch.tensor([0]), NOTHING).realistic_B.tolist() == [2.5]


def test_inputs_are_left_as_they_were():
    scores = random_scores(scale_B=torch.rand(7).double())
    target_B = torch.arange(7)
    known = Known.of_pairs(torch.tensor([6, 0, 2]), torch.tensor([1, 2, 3]), 7)
    tensors = [scores.query_BD, scores.scale_B, scores.entity_ED, target_B, *known]
    before = [tensor.clone() for tensor in tensors]
    filtered_ranks(scores, target_B, known)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_training_precision_does_not_reach_the_ranks():
    """Two entities that bfloat16 cannot tell apart, under autocast and reduced products."""
    scores = score_matrix(torch.ones(1, 1), torch.tensor([[1.0], [1.001], [1.002]]), NegativeDot())
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ranks = filtered_ranks(scores, torch.tensor([1]), NOTHING)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (ranks.optimistic_B.item(), ranks.pessimistic_B.item()) == (2, 2)


def test_bfloat16_embeddings_are_counted_exactly():
    entity_ED = torch.zeros(1001, 1, dtype=torch.bfloat16)
    entity_ED[0] = 1
    ranks = filtered_ranks(
        score_matrix(torch.zeros(1, 1, dtype=torch.bfloat16), entity_ED),
        torch.tensor([0]),
        NOTHING,
    )
    assert ranks.realistic_B.tolist() == [1001]


def test_an_empty_batch_has_no_ranks():
    scores = score_matrix(torch.zeros(0, 2), torch.zeros(5, 2))
    assert len(filtered_ranks(scores, torch.empty(0, dtype=torch.long), NOTHING)) == 0


def test_a_batch_is_filtered_by_its_own_index():
    entity_T, relation_T, answer_T = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [1, 2, 3, 4]])
    index = QueryIndex(entity_T, relation_T, answer_T, num_entities=6, num_relations=2)
    scores = random_scores(rows=3, entities=6)
    batch = QueryBatch(
        torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([2, 3, 5]), index
    )
    ranks = rank_batch(scores, batch)
    assert ranks.candidates_B.tolist() == [5, 6, 6]
    known = Known.of_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 3]), 3)
    assert_ranks_by_hand(ranks, scores, batch.target_B, known)


def test_an_own_entity_that_is_excluded_ranks_last_and_is_not_predicted():
    own_B = torch.tensor([2, -1, 3])
    scores = random_scores(rows=3, entities=6)
    excluding = dataclasses.replace(scores, own_B=own_B)
    known = Known.of_pairs(torch.tensor([0, 2]), torch.tensor([1, 3]), 3)
    for target_B in (torch.tensor([0, 4, 5]), torch.tensor([2, 2, 3])):
        ranks = filtered_ranks(excluding, target_B, known)
        for b, distance_E in enumerate(distances_by_hand(scores)):
            if own_B[b] >= 0:
                distance_E[own_B[b]] = 1e300
            mine = [entity for row, entity in ((0, 1), (2, 3)) if row == b]
            expected = rank_by_hand(distance_E, int(target_B[b]), mine)
            found = (ranks.optimistic_B, ranks.pessimistic_B, ranks.candidates_B)
            assert [int(part[b]) for part in found] == list(expected)
    for b, best in enumerate(top_k(excluding, 6).tolist()):
        row = distances_by_hand(scores)[b]
        order = sorted(set(range(6)) - {int(own_B[b])}, key=row.__getitem__)
        assert best == order + [-1] * (6 - len(order))
