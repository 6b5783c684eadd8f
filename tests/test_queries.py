"""QueryIndex against a dictionary of sets, and QueryBatch."""

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.graphs.batches import QueryBatch
from hale.graphs.indexed import scaled_weights
from hale.graphs.queries import Known, QueryIndex, sample_queries, with_own

ENTITIES, RELATIONS = 6, 4
triples = st.lists(
    st.tuples(
        st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1), st.integers(0, ENTITIES - 1)
    ),
    min_size=1,
    max_size=40,
)
ALL_QUERIES = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]


def index_of(facts) -> QueryIndex:
    return QueryIndex(*torch.tensor(facts).unbind(1), ENTITIES, RELATIONS)


@settings(deadline=None, max_examples=50)
@given(triples, st.permutations(ALL_QUERIES), st.integers(0, len(ALL_QUERIES)))
def test_index_is_a_dictionary_of_sets(facts, queries, rows):
    answers = defaultdict(set)
    for entity, relation, answer in facts:
        answers[entity, relation].add(answer)
    queries = queries[:rows] + queries[: rows // 2]  # some twice, perhaps none
    entity_B, relation_B = torch.tensor(queries, dtype=torch.int64).reshape(-1, 2).unbind(1)
    index = index_of(facts).to("cpu")

    pairs = [(row, answer) for row, q in enumerate(queries) for answer in sorted(answers[q])]
    known = index.lookup(entity_B, relation_B)
    row_P, entity_P = known.pairs()
    assert list(zip(row_P.tolist(), entity_P.tolist(), strict=True)) == pairs
    again = Known.of_pairs(row_P.flip(0), entity_P.flip(0), len(queries))
    assert [part.tolist() for part in again.pairs()] == [row_P.tolist(), entity_P.tolist()]
    later = known.rows(slice(rows // 2, None))
    assert list(zip(*(part.tolist() for part in later.pairs()), strict=True)) == [
        (row - rows // 2, answer) for row, answer in pairs if row >= rows // 2
    ]
    candidate_BK = torch.arange(ENTITIES).expand(len(queries), -1)
    contains = [[e in answers[q] for e in range(ENTITIES)] for q in queries]
    assert index.contains(entity_B, relation_B, candidate_BK).tolist() == contains


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5)), st.integers(-1, 5)), max_size=6),
    st.booleans(),
)
def test_own_entities_join_the_known_ones(rows, filtered):
    own = [entity for _, entity in rows]
    pairs = [(row, e) for row, (answers, _) in enumerate(rows) for e in answers]
    row_P, entity_P = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    known = Known.of_pairs(row_P, entity_P, len(rows)) if filtered else None
    joined = with_own(known, torch.tensor(own, dtype=torch.int64))
    expected = [
        sorted((answers if filtered else set()) | ({entity} - {-1})) for answers, entity in rows
    ]
    assert [
        joined.answer_A[start:stop].tolist()
        for start, stop in zip(joined.start_N, joined.stop_N, strict=True)
    ] == expected


def test_last_triple_id_fits_and_more_is_refused():
    entities, relations = 2**28, 2**6  # E * E * 2R = 2^62
    last = torch.tensor([entities - 1])
    index = QueryIndex(last, torch.tensor([relations - 1]), last, entities, relations)
    _, found_P = index.lookup(last, torch.tensor([relations - 1])).pairs()
    assert found_P.tolist() == [entities - 1]
    assert not index.contains(last, torch.tensor([0]), last[:, None]).any()
    with pytest.raises(ValueError, match="too many"):
        QueryIndex(last, last, last, 2**29, relations)
    with pytest.raises(ValueError, match="at least one query"):
        QueryIndex(last[:0], last[:0], last[:0], entities, relations)


def test_batch_reads_its_own_rows():
    facts = [(0, 1, 2), (0, 1, 3), (5, 0, 4)]
    columns = torch.tensor(facts).unbind(1)
    batch = QueryBatch(*columns, index_of(facts), torch.Generator().manual_seed(3))
    assert len(batch) == 3
    assert [part.tolist() for part in batch.known(2).pairs()] == [[0, 0, 1, 1], [2, 3, 2, 3]]
    assert [part.tolist() for part in batch.known(3).pairs()] == [[0, 0, 1, 1, 2], [2, 3, 2, 3, 4]]
    candidate_BK = torch.tensor([[3, 4], [0, 2], [4, 4]])
    assert batch.is_answer(candidate_BK).tolist() == [[True, False], [False, True], [True, True]]


def test_negatives_are_uniform_and_belong_to_the_generator():
    facts = [(0, 1, 2)] * 1000
    columns = torch.tensor(facts).unbind(1)
    index = index_of(facts)
    draws = [
        QueryBatch(*columns, index, torch.Generator().manual_seed(seed)).negatives(60)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].shape == (1000, 60)
    count_E = draws[0].flatten().bincount()
    assert len(count_E) == ENTITIES  # no entity out of range, each within five deviations
    assert ((count_E - 10_000).abs() < 5 * (60_000 * 5 / 36) ** 0.5).all()
    with pytest.raises(ValueError, match="ranking batch has no negatives"):
        QueryBatch(*columns, index).negatives(1)


def test_mean_weighs_the_first_queries():
    facts = [(0, 1, 2), (0, 1, 3), (5, 0, 4)]
    columns = torch.tensor(facts).unbind(1)
    weight_B = torch.tensor([0.5, 2.0, 0.0])
    batch = QueryBatch(*columns, index_of(facts), weight_B=weight_B)
    plain = QueryBatch(*columns, index_of(facts))
    value_BK = torch.tensor([[1.0, 3.0], [10.0, 30.0], [100.0, 300.0]], dtype=torch.float64)
    assert batch.mean(value_BK).item() == (0.5 * 4 + 2 * 40) / 6
    assert batch.mean(value_BK[:2, 0]).item() == (0.5 * 1 + 2 * 10) / 2
    assert batch.mean(value_BK[:1]).item() == 1.0
    assert torch.equal(plain.mean(value_BK), value_BK.mean())


@settings(deadline=None)
@given(
    st.lists(st.just(0.0) | st.floats(2**-100, 2**100, width=32), min_size=1, max_size=20).filter(
        any
    ),
    st.floats(0.125, 8, width=32),
)
def test_weights_of_both_directions_have_a_mean_of_one(weights, factor):
    weight_T = torch.tensor(weights, dtype=torch.float32)
    scaled_T = scaled_weights(weight_T, torch.device("cpu"))
    assert scaled_T.dtype == torch.float32
    assert torch.equal(scaled_T[: len(weights)], scaled_T[len(weights) :])
    assert scaled_T.double().mean().item() == pytest.approx(1, rel=1e-6)
    share_T = weight_T.double() / weight_T.double().sum()
    torch.testing.assert_close(scaled_T[: len(weights)].double() / len(weights), share_T)
    again_T = scaled_weights((weight_T.double() * factor).float(), torch.device("cpu"))
    torch.testing.assert_close(again_T, scaled_T)  # only their ratios count
    assert scaled_weights(None, torch.device("cpu")) is None


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 250), st.integers(1, 250))
def test_samples_are_in_order_and_a_smaller_one_is_part_of_a_larger(size, first, second):
    query_T3 = torch.arange(size)[:, None].expand(-1, 3)
    torch.manual_seed(first)
    few, many = (
        sample_queries(query_T3, count)[:, 0].tolist() for count in sorted((first, second))
    )
    assert len(few) == min(size, first, second)
    assert few == sorted(set(few))
    assert set(few) <= set(many) <= set(range(size))
    assert sample_queries(query_T3, None) is query_T3
