"""QueryIndex against a dictionary of sets, and QueryBatch."""

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.errors import DatasetError
from hale.graphs.batches import QueryBatch
from hale.graphs.indexed import known_answers, sample_queries, scaled_weights
from hale.graphs.kg import reciprocal
from hale.graphs.queries import Known, QueryIndex, with_own

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


SIZES = [
    (ENTITIES, RELATIONS),
    (2**20, 2**13),  # E * 2R = 2^33: queries are int64
    (2**31 + 1, 4),  # answers are int64
    (10**8, 60_000),  # E * E * 2R is beyond 2^63
    (3 * 10**9, 3 * 10**9),  # E * 2R is just below 2^63
]


@settings(deadline=None, max_examples=150)
@given(
    triples,
    st.permutations(ALL_QUERIES),
    st.integers(0, len(ALL_QUERIES)),
    st.sampled_from(SIZES),
    st.integers(1, 3),
)
def test_index_is_a_dictionary_of_sets(facts, queries, rows, sizes, columns):
    """Of ids spread from the first to the last of those declared."""
    entities = [i * (sizes[0] - 1) // (ENTITIES - 1) for i in range(ENTITIES)]
    relations = [i * (sizes[1] - 1) // (RELATIONS - 1) for i in range(RELATIONS)]
    answers = defaultdict(set)
    for entity, relation, answer in facts:
        answers[entity, relation].add(entities[answer])
    queries = queries[:rows] + queries[: rows // 2]  # some twice, perhaps none
    id_T3 = torch.tensor([(entities[e], relations[r], entities[a]) for e, r, a in facts])
    ids = [(entities[e], relations[r]) for e, r in queries]
    entity_B, relation_B = torch.tensor(ids, dtype=torch.int64).reshape(-1, 2).unbind(1)
    index = QueryIndex(*id_T3.unbind(1), *sizes).to("cpu")

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
    for candidates in (entities, entities[:columns], []):
        candidate_BK = torch.tensor(candidates, dtype=torch.int64).expand(len(queries), -1)
        contains = [[e in answers[q] for e in candidates] for q in queries]
        assert index.contains(entity_B, relation_B, candidate_BK).tolist() == contains


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_each_answer_of_a_long_span_is_found_and_no_other(first, second, seed):
    """Spans of all lengths: a bisection that stops early or leaves its span would err at an end."""
    draw = torch.Generator().manual_seed(seed)
    spans = [torch.randperm(400, generator=draw)[:length] for length in (first, second)]
    entity_T = torch.repeat_interleave(torch.tensor([first, second]))
    index = QueryIndex(entity_T, torch.zeros_like(entity_T), torch.cat(spans), 400, 2)
    every_BK = torch.arange(400).expand(3, -1)
    found_BE = index.contains(torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64), every_BK)
    expected = [sorted(span.tolist()) for span in spans] + [[]]
    assert [row.nonzero().flatten().tolist() for row in found_BE] == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(triples, min_size=1, max_size=3), st.lists(st.integers(0, ENTITIES), max_size=4))
def test_indices_of_shards_of_the_answers_make_up_the_whole(splits, edges):
    """Of the queries of both directions; a shard may be empty, or have no answers."""
    parts = [torch.tensor(split) for split in splits]
    answers = defaultdict(set)
    for entity, relation, answer in torch.cat([reciprocal(t, RELATIONS) for t in parts]).tolist():
        answers[entity, relation].add(answer)
    queries = [(e, r) for e in range(ENTITIES) for r in range(2 * RELATIONS)]
    entity_B, relation_B = torch.tensor(queries).unbind(1)
    every_BE = torch.arange(ENTITIES).expand(len(queries), -1)
    edges = [0, *sorted(edges), ENTITIES]
    for shard in (None, *map(range, edges, edges[1:])):
        index = known_answers(parts, ENTITIES, 2 * RELATIONS, shard)
        kept = [[e for e in sorted(answers[q]) if shard is None or e in shard] for q in queries]
        known = index.lookup(entity_B, relation_B)
        spans = zip(known.start_N.tolist(), known.stop_N.tolist(), strict=True)
        assert [known.answer_A[start:stop].tolist() for start, stop in spans] == kept
        found_BE = index.contains(entity_B, relation_B, every_BE)
        assert [row.nonzero().flatten().tolist() for row in found_BE] == kept


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


def test_last_query_id_fits_and_more_is_refused():
    entities, relations = 2**32, 2**31 - 1
    last = torch.tensor([entities - 1]), torch.tensor([relations - 1])
    index = QueryIndex(*last, last[0], entities, relations)
    _, found_P = index.lookup(*last).pairs()
    assert found_P.tolist() == [entities - 1]
    assert not index.contains(last[0], torch.tensor([0]), last[0][:, None]).any()
    message = "^4294967296 entities and 2147483648 relations are too many: E .* below 2.63$"
    with pytest.raises(DatasetError, match=message):
        QueryIndex(*last, last[0], entities, 2**31)
    with pytest.raises(DatasetError, match=r"^4 queries and \d+ entities are too many: their pro"):
        QueryIndex(torch.arange(4), torch.zeros(4, dtype=torch.int64), last[0], 2**61, 3)


def test_ids_that_fit_are_stored_in_four_bytes():
    triple_T3 = torch.tensor([(5, 1, 2), (0, 1, 3), (0, 1, 3), (0, 0, 3)])
    index = known_answers([triple_T3], ENTITIES, 2 * RELATIONS)
    stored = [value for value in vars(index).values() if isinstance(value, torch.Tensor)]
    queries, answers = 3 + 3, 3 + 3  # (h, r, ?) and (?, r, t) of three distinct triples
    assert sum(value.nbytes for value in stored) == 4 * (queries + 1 + queries + 2 + answers)


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
def test_scaled_weights_have_a_mean_of_one(weights, factor):
    weight_T = torch.tensor(weights, dtype=torch.float32)
    scaled_T = scaled_weights(weight_T)
    assert scaled_T.dtype == torch.float32
    assert scaled_T.double().mean().item() == pytest.approx(1, rel=1e-6)
    share_T = weight_T.double() / weight_T.double().sum()
    torch.testing.assert_close(scaled_T.double() / len(weights), share_T)
    again_T = scaled_weights((weight_T.double() * factor).float())
    torch.testing.assert_close(again_T, scaled_T)  # only their ratios count
    assert scaled_weights(None) is None


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
