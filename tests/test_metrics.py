import json
import math
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import in_processes

from hale.cli import run_command
from hale.distributed.processes import is_first
from hale.errors import HaleError
from hale.evaluation.metrics import RankingMetrics
from hale.evaluation.popularity import Popularity, popularity_metrics
from hale.evaluation.rankable import rankable
from hale.evaluation.ranking import Ranks, filtered_ranks, rank_batch
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.indexed import known_answers
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.queries import Known, QueryIndex
from hale.runs.folders import RunFolder
from hale.scoring.activations import Identity
from hale.scoring.comparators import NegativeDot, SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table
from hale.training.fit import fit


def make_ranks(optimistic, tied=None, candidates=None):
    optimistic_B = torch.tensor(optimistic)
    tied_B = torch.zeros_like(optimistic_B) if tied is None else torch.tensor(tied)
    candidates_B = torch.full_like(optimistic_B, 1000) if candidates is None else candidates
    return Ranks(optimistic_B, optimistic_B + tied_B, torch.as_tensor(candidates_B))


def metrics_of(ranks, relation, num_relations=4):
    metrics = RankingMetrics(num_relations)
    metrics.update(ranks, torch.tensor(relation))
    return metrics


def as_floats(values):
    return {name: float(value) for name, value in values.items()}


def test_the_metrics_are_those_of_their_formulas():
    """Realistic ranks 1, 1.5, 3, 10.5; the last two queries predict heads."""
    ranks = make_ranks([1, 1, 3, 10], [0, 1, 0, 1], [11, 11, 21, 5])
    values = as_floats(metrics_of(ranks, [0, 1, 2, 3]).compute())
    assert values == pytest.approx(
        {
            "mrr": (1 + 1 / 1.5 + 1 / 3 + 1 / 10.5) / 4,
            "mr": 4,
            "hits@1": 1 / 4,
            "hits@3": 3 / 4,
            "hits@10": 3 / 4,
            "amri": 1 - 3 / ((6 + 6 + 11 + 3) / 4 - 1),
            "tie_gap": 0.5,
            "tail/mrr": (1 + 1 / 1.5) / 2,
            "tail/mr": 1.25,
            "tail/hits@1": 0.5,
            "tail/hits@3": 1,
            "tail/hits@10": 1,
            "tail/amri": 1 - 0.25 / 5,
            "tail/tie_gap": 0.5,
            "head/mrr": (1 / 3 + 1 / 10.5) / 2,
            "head/mr": 6.75,
            "head/hits@1": 0,
            "head/hits@3": 0.5,
            "head/hits@10": 0.5,
            "head/amri": 1 - 5.75 / 6,
            "head/tie_gap": 0.5,
        },
        rel=1e-15,
    )


def test_rows_per_relation_hold_both_directions():
    ranks = make_ranks([1, 2, 4, 4])
    rows = metrics_of(ranks, [1, 1, 4, 5], num_relations=6).per_relation()
    assert [row["relation"] for row in rows] == [1, 2]
    first, second = rows
    assert (first["count"], first["tail/count"], first["head/count"]) == (3, 2, 1)
    assert first["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert first["tail/mrr"] == pytest.approx(3 / 4)
    assert first["head/mrr"] == pytest.approx(1 / 4)
    assert (second["head/mr"], second["head/hits@3"], second["head/hits@10"]) == (4, 0, 1)
    assert second["tail/count"] == 0
    assert math.isnan(second["tail/mrr"])


def test_perfect_ranks_are_one_everywhere():
    values = as_floats(metrics_of(make_ranks([1] * 4), [0, 1, 2, 3]).compute())
    gaps = {name for name in values if name.endswith("tie_gap")}
    assert {values[name] for name in gaps} == {0}
    assert {value for name, value in values.items() if name not in gaps} == {1}


def test_the_adjusted_index_of_a_random_scorer_is_near_zero():
    generator = torch.Generator().manual_seed(5)
    query_BD, entity_ED = (torch.randn(n, 8, generator=generator) for n in (4000, 300))
    scores = ScoreMatrix(
        query_BD, torch.ones(4000), Table(entity_ED), SquaredEuclidean(), Identity()
    )
    target_B = torch.randint(300, (4000,), generator=generator)
    other_B = torch.randint(300, (4000,), generator=generator)
    known = Known.of_pairs(torch.arange(4000), other_B, 4000)
    metrics = RankingMetrics(2)
    metrics.update(filtered_ranks(scores, target_B, known), torch.arange(4000) % 2)
    assert abs(float(metrics.compute()["amri"])) < 4 / math.sqrt(3 * 4000)


rank_lists = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30
)


@settings(deadline=None, max_examples=30)
@given(rank_lists, st.data())
def test_any_split_into_batches_gives_the_same(queries, data):
    ranks = make_ranks([q[0] for q in queries], [q[1] for q in queries])
    relation_B = torch.tensor([q[2] for q in queries])
    whole, parts = RankingMetrics(6), RankingMetrics(6)
    whole.update(ranks, relation_B)
    cut = data.draw(st.integers(0, len(queries)))
    for part in (slice(cut), slice(cut, None)):
        parts.update(
            Ranks(ranks.optimistic_B[part], ranks.pessimistic_B[part], ranks.candidates_B[part]),
            relation_B[part],
        )
    assert as_floats(parts.compute()) == pytest.approx(
        as_floats(whole.compute()), rel=1e-12, nan_ok=True
    )


@settings(deadline=None, max_examples=30)
@given(rank_lists, st.data())
def test_a_better_rank_makes_no_metric_worse(queries, data):
    optimistic = [q[0] + 1 for q in queries]
    relation = [q[2] for q in queries]
    before = metrics_of(make_ranks(optimistic), relation, 6).compute()
    optimistic[data.draw(st.integers(0, len(queries) - 1))] -= 1
    after = metrics_of(make_ranks(optimistic), relation, 6).compute()
    assert after["mrr"] > before["mrr"]
    assert after["amri"] > before["amri"]
    assert after["mr"] < before["mr"]
    assert all(after[f"hits@{k}"] >= before[f"hits@{k}"] for k in (1, 3, 10))


def test_what_is_not_defined_is_nan_under_its_own_name():
    """Only tails were ranked, and each target was the only candidate."""
    values = as_floats(metrics_of(make_ranks([1, 1], candidates=[1, 1]), [0, 1]).compute())
    complete = as_floats(metrics_of(make_ranks([1, 2]), [0, 2]).compute())
    assert list(values) == list(complete)
    undefined = {name for name, value in values.items() if math.isnan(value)}
    assert undefined == {n for n in values if n.startswith("head/")} | {"amri", "tail/amri"}
    assert values["mrr"] == values["tail/mrr"] == 1
    assert not any(map(math.isnan, complete.values()))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_a_direction_is_rankable_if_a_query_has_another_candidate(entities, relations, data):
    ids = st.tuples(*(st.integers(0, n - 1) for n in (entities, relations, entities)))
    every = data.draw(st.lists(ids, min_size=1, max_size=30, unique=True))
    triple_T3 = torch.tensor(every)
    query_T3 = reciprocal(triple_T3, relations)
    index = QueryIndex(*query_T3.T, entities, 2 * relations)
    shown = query_T3[: data.draw(st.integers(1, len(query_T3)))]
    batches = [QueryBatch(*part.T, index) for part in shown.split(7)]
    answers = Counter((e, r) for e, r, _ in query_T3.tolist())
    open_queries = [(e, r) for e, r, _ in shown.tolist() if answers[e, r] < entities]
    wanted = {"tail/" if r < relations else "head/" for _, r in open_queries}
    assert rankable(batches, entities, 2 * relations) == (wanted | {""} if wanted else set())


def heads_all_known() -> KnowledgeGraph:
    """Every entity is a head of (?, r, a); tails have wrong answers."""
    triple_T3 = torch.tensor([(e, 0, 0) for e in range(4)])
    names = ("a", "b", "c", "d")
    return KnowledgeGraph("one-sided", names, ("r",), triple_T3, triple_T3[:1], triple_T3[:2])


def test_a_direction_that_cannot_be_ranked_is_null_in_record_curve_and_table(tmp_path, capsys):
    options = {"validations": 1, "threads": 1}
    model = fit(heads_all_known(), "transe", steps=2, dim=4, folder=tmp_path, settings=options)
    record = json.loads((tmp_path / "result.json").read_text())
    for split in ("valid", "test", "untrained", "popularity"):
        assert record[f"{split}/head/amri"] is None
        assert record[f"{split}/head/mrr"] == 1
        assert math.isfinite(record[f"{split}/tail/amri"])
        assert math.isfinite(record[f"{split}/amri"])
    assert "nan" not in (tmp_path / "csv/version_0/metrics.csv").read_text().lower()
    assert "nan" not in (tmp_path / "curve.csv").read_text().lower()
    (row,) = RunFolder(tmp_path, (), None, None).curve
    assert math.isnan(row["valid/head/amri"])
    assert math.isfinite(row["valid/mrr"])
    assert model.record["test/head/amri"] is None
    shown = capsys.readouterr().out
    assert "nan" not in shown.lower()
    for form, wanted in (("json", '"amri": null'), ("tsv", "head\t2\t1\t1\t1\t1\t1\t\t0")):
        assert run_command(["evaluate", str(tmp_path), "--format", form]) == 0
        assert wanted in capsys.readouterr().out


@pytest.mark.parametrize(
    ("graph", "monitor", "message"),
    [
        (heads_all_known(), "valid/head/amri", "valid/head/amri is not defined, as no query"),
        (heads_all_known(), "valid/head/mrr", "valid/head/mrr is not defined, as no query"),
        (
            KnowledgeGraph("one", ("a",), ("r",), *[torch.zeros(1, 3, dtype=torch.int64)] * 3),
            "valid/mrr",
            "one: nothing in valid can be ranked",
        ),
    ],
)
def test_a_graph_in_which_nothing_can_be_ranked_is_refused(tmp_path, graph, monitor, message):
    with pytest.raises(HaleError, match=message) as error:
        fit(graph, "transe", steps=2, dim=4, folder=tmp_path, settings={"monitor": monitor})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_test_alone_can_be_what_cannot_be_ranked(tmp_path):
    """Without a test it does not matter."""
    full = [(0, 0, t) for t in range(3)] + [(h, 0, 0) for h in range(1, 3)]
    train_T3 = torch.tensor([*full, (1, 1, 2)])
    graph = KnowledgeGraph("t", ("a", "b", "c"), ("r", "s"), train_T3, train_T3[-1:], train_T3[:1])
    with pytest.raises(HaleError, match="nothing in test can be ranked"):
        fit(graph, "transe", steps=1, dim=4, folder=tmp_path)
    model = fit(graph, "transe", steps=1, dim=4, settings={"test": False, "validations": 1})
    assert model.record["valid/mrr"] > 0


def test_metrics_without_ranks_are_refused():
    metrics = metrics_of(make_ranks([1]), [0])
    metrics.reset()
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(ValueError, match="no query was ranked"),
    ):
        metrics.compute()


@pytest.mark.parametrize("num_relations", [0, 3])
def test_relations_without_their_reciprocals_are_refused(num_relations):
    with pytest.raises(ValueError, match="reciprocals"):
        RankingMetrics(num_relations)


def _rank_a_half():
    ranks, relation = ([1, 5, 2], [0, 1, 2]) if is_first() else ([8], [3])
    metrics = metrics_of(make_ranks(ranks), relation)
    return as_floats(metrics.compute()), metrics.per_relation(), metrics.total.sum().item()


def test_two_processes_agree_with_one(tmp_path):
    answers = in_processes(2, _rank_a_half, tmp_path)
    whole = metrics_of(make_ranks([1, 5, 2, 8]), [0, 1, 2, 3])
    for values, rows, _ in answers:
        assert values == as_floats(whole.compute())
        assert rows == whole.per_relation()
    assert sum(local for *_, local in answers) == whole.total.sum().item()


@st.composite
def popularity_cases(draw):
    """Triples of few entities and relations, so that counts tie and answers repeat."""
    entities, relations = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    triple = st.tuples(
        st.integers(0, entities - 1), st.integers(0, relations - 1), st.integers(0, entities - 1)
    )
    train, rest = (draw(st.lists(triple, min_size=1, max_size=30, unique=True)) for _ in range(2))
    return entities, relations, torch.tensor(train), torch.tensor(rest)


@settings(deadline=None, max_examples=100)
@given(popularity_cases())
def test_popularity_ranks_as_the_counts_of_all_entities_do(case):
    """Ranks by bisection against ranks of the dense scores, on queries that train has or not."""
    entities, relations, train_T3, rest_T3 = case
    query_T3, rest_T3 = (reciprocal(triple_T3, relations) for triple_T3 in (train_T3, rest_T3))
    index = QueryIndex(*torch.cat((query_T3, rest_T3)).unbind(1), entities, 2 * relations)
    batch = QueryBatch(*rest_T3.unbind(1), index)
    count_RE = torch.zeros(2 * relations, entities)
    count_RE.index_put_((query_T3[:, 1], query_T3[:, 2]), torch.ones(()), accumulate=True)
    dense = ScoreMatrix(
        count_RE[batch.relation_B],
        torch.ones(len(batch)),
        Table(torch.eye(entities)),
        NegativeDot(),
        Identity(),
    )
    expected = rank_batch(dense, batch)
    found = Popularity(train_T3, entities, 2 * relations).ranks(batch)
    assert found.optimistic_B.tolist() == expected.optimistic_B.tolist()
    assert found.pessimistic_B.tolist() == expected.pessimistic_B.tolist()
    assert found.candidates_B.tolist() == expected.candidates_B.tolist()


@settings(deadline=None, max_examples=60)
@given(popularity_cases())
def test_popularity_has_no_row_per_entity(case):
    """Of 3 * 10^9 declared entities, most of which answer nothing; against dictionaries."""
    entities, relations = 3 * 10**9, 10**9
    *_, train_T3, rest_T3 = case
    train_T3, rest_T3 = ((part + 1) * 3 * 10**8 for part in (train_T3, rest_T3))
    batch_T3 = reciprocal(rest_T3, relations)
    index = known_answers([train_T3, rest_T3], entities, 2 * relations)
    found = Popularity(train_T3, entities, 2 * relations).ranks(
        QueryBatch(*batch_T3.unbind(1), index)
    )
    count, known = Counter(), defaultdict(set)
    for entity, relation, answer in reciprocal(train_T3, relations).tolist():
        count[relation, answer] += 1
        known[entity, relation].add(answer)
    for entity, relation, answer in batch_T3.tolist():
        known[entity, relation].add(answer)
    for row, (entity, relation, target) in enumerate(batch_T3.tolist()):
        others = known[entity, relation] - {target}
        listed = {e for r, e in count if r == relation} - others - {target}
        level = count[relation, target]
        better = sum(count[relation, e] > level for e in listed)
        tied = sum(count[relation, e] == level for e in listed)
        tied += 0 if level else entities - 1 - len(others) - len(listed)
        ranks = found.optimistic_B[row], found.pessimistic_B[row], found.candidates_B[row]
        assert ranks == (1 + better, 1 + better + tied, entities - len(others))


def test_popularity_ranks_by_training_counts():
    """Against counting, query by query, on a graph whose counts differ."""
    draw = torch.Generator().manual_seed(0)
    head_T, tail_T = (torch.randint(20, (300,), generator=draw) // 3 for _ in range(2))
    triple_T3 = torch.stack((head_T, torch.randint(3, (300,), generator=draw), tail_T), 1)
    splits = triple_T3.unique(dim=0)[torch.randperm(len(triple_T3.unique(dim=0)), generator=draw)]
    names = tuple(f"e{i}" for i in range(8)), ("a", "b", "c")
    graph = KnowledgeGraph("random", *names, *splits.split([len(splits) - 40, 20, 20]))
    triples = {split: [tuple(row) for row in rows.tolist()] for split, rows in graph.splits.items()}
    known = set().union(*triples.values())
    reciprocal_ranks = []
    for h, r, t in triples["test"]:
        for target, side in ((t, 2), (h, 0)):
            count = Counter(x[side] for x in triples["train"] if x[1] == r)
            candidates = [
                e
                for e in range(8)
                if e != target and ((h, r, e) if side == 2 else (e, r, t)) not in known
            ]
            better = sum(count[e] > count[target] for e in candidates)
            tied = sum(count[e] == count[target] for e in candidates)
            reciprocal_ranks.append(1 / (1 + better + tied / 2))
    data = QueryDataModule(graph, batch_size=8, seed=0, ranking_batch_size=7)
    data.setup()
    found = popularity_metrics(graph.train, data.test_dataloader(), 8, 6)
    assert found["mrr"] == pytest.approx(sum(reciprocal_ranks) / len(reciprocal_ranks), rel=1e-6)
    assert found["tail/mrr"] == pytest.approx(sum(reciprocal_ranks[::2]) / 20, rel=1e-6)
