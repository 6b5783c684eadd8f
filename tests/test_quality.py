"""What hale stats warns of, against small graphs that have one fault each."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.quality import LITERAL, warnings
from hale.graphs.statistics import irreflexive, pairings, split_rows


def lines(triples, valid=None, test=None, entities=None, relations=None) -> list[str]:
    """The warnings of a graph whose ids are the names, unless there are others."""
    parts = [torch.tensor(part) for part in (triples, valid or triples, test or triples)]
    most = torch.cat(parts).amax(0)
    entities = entities or tuple(f"e{i}" for i in range(max(most[0], most[2]) + 1))
    relations = relations or tuple(f"r{i}" for i in range(most[1] + 1))
    graph = KnowledgeGraph("fault", entities, relations, *parts)
    paired = pairings(graph)
    return warnings(graph, split_rows(graph, paired), paired)


def ring(size: int, relation: int = 0) -> list[tuple[int, int, int]]:
    return [(e, relation, (e + step) % size) for e in range(size) for step in (1, 3)]


def has(found: list[str], start: str) -> bool:
    return any(line.removeprefix("warning: ").startswith(start) for line in found)


def test_a_sound_graph_has_no_warnings():
    train = [*ring(300), *[(h, 1, (h * 7 + 2) % 300) for h in range(300)]]
    held_out = [(e, 0, (e + 9) % 300) for e in range(300)] * 2
    assert lines(train, held_out, held_out) == []


@given(st.integers(1, 3000), st.integers(0, 4))
@example(3000, 3)
def test_a_relation_is_irreflexive_if_it_rarely_joins_an_entity_with_itself(triples, loops):
    rows = [(e, 0, e + 1 if e >= loops else e) for e in range(triples)]
    train_T3 = torch.tensor([*rows, (0, 2, 0)])
    names = [tuple(map(str, range(count))) for count in (triples + 1, 3)]
    graph = KnowledgeGraph("loops", *names, train_T3, train_T3, train_T3)
    few = 1000 * min(loops, triples) < triples
    assert irreflexive(graph).tolist() == [few, False, False] * 2


def test_leaks_and_names_that_only_valid_or_test_have():
    found = lines(ring(20), valid=[(0, 0, 1), (0, 0, 9)], test=[(20, 0, 21), (0, 0, 22), (0, 0, 9)])
    assert "warning: 1 of 2 triples of valid (50.0%) are in train, too" in found
    assert has(found, "2 of 3 triples of test (66.7%) have an entity or relation that does not")
    assert has(found, "3 of 23 entities (13.0%) occur in valid or test only")


@pytest.mark.parametrize(("triples", "error"), [(2, 0.25), (100, 0.035), (499, 0.016)])
def test_the_error_of_few_queries_is_an_upper_bound(triples, error):
    few = [(0, 0, 9)] * triples
    found = lines(ring(20), valid=[(0, 0, 9)] * 500, test=few)
    assert has(
        found,
        f"test has {2 * triples} queries only: the standard error of its MRR is up to {error}",
    )
    assert not has(found, "valid has")
    worst = np.array([1.0, 1e-9] * triples)  # half the ranks are the best, half the worst
    assert np.std(worst) / len(worst) ** 0.5 == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize(
    ("name", "literal"),
    [
        ('"text"', True), ('"text"@en-GB', True), ('"7"^^<http://www.w3.org/x#int>', True),
        ('"two\nlines"', True), ("3.14", True), ("-2.5e-3", True), ("2020-01-31", True),
        ("2020-01-31T10:00:00Z", True), ("00260881", False), ("1999", False), ("P31", False),
        ("GO:0001.2", False), ('say "hello"', False), ("1.2.3", False), ('"half', False),
    ],
)  # fmt: skip
def test_names_that_are_literals(name, literal):
    assert bool(LITERAL.fullmatch(name)) == literal
    names = (name, *(f"e{i}" for i in range(1, 20)))
    assert has(lines(ring(20), entities=names), "1 of 20 entities (5.0%) look like lit") == literal


@pytest.mark.parametrize(
    ("size", "others", "warned"), [(20, 4, True), (18, 4, True), (20, 5, False)]
)
def test_one_relation_with_nine_tenths_of_the_triples(size, others, warned):
    most = 2 * size  # of 18 it is nine tenths exactly
    train = [*ring(size), *[(e, 1, e + 7) for e in range(others)]]
    assert (
        has(
            lines(train),
            f"{most} of {most + others} triples of train ({most / (most + others):.1%})",
        )
        == warned
    )
    assert not has(lines(ring(20)), "40 of 40 triples of train")  # a single relation is no fault


@pytest.mark.parametrize(("shared", "warned"), [(3, True), (4, False)])
def test_relations_whose_tails_are_in_no_other_triple(shared, warned):
    """As labels are; the tails of a functional relation, or of a hierarchy, are not."""
    own = [(e, 1, 30 + e) for e in range(30 - shared)]  # all tails differ
    train = [*ring(30), *own, *[(e, 1, 0) for e in range(30 - shared, 30)]]
    train += [(e, 2, (e + 11) % 30) for e in range(30)]  # one to one, among known entities
    found = lines(train)
    share = f"{30 - shared} of 30 tails of r1 ({(30 - shared) / 30:.1%}) occur in no other triple"
    assert has(found, share) == warned
    assert not any("of r0 " in line or "of r2 " in line or "heads of" in line for line in found)
    turned = lines([(t, r, h) for h, r, t in train])
    assert has(turned, share.replace("tails", "heads")) == warned


def test_many_such_relations_are_counted():
    train = [(e, r, 20 + 20 * r + e) for r in range(13) for e in range(20)]
    found = lines(train)
    assert sum("occur in no other triple" in line for line in found) == 10
    assert "warning: 3 more relations have such tails" in found


@pytest.mark.parametrize(("rare", "warned"), [(20, True), (19, False)])
def test_many_rare_relations(rare, warned):
    train = [*ring(20), *[(e, 1 + r, e + 5) for r in range(rare) for e in range(4)]]
    found = lines(train)
    assert has(found, f"{rare} of {rare + 1} relations") == warned
    few = [triple for triple in train if triple[1] < 20]  # up to 19 rare ones
    large = [(e, 20 + r, (e + r) % 20) for r in range(80) for e in range(5)]  # just not rare
    assert not any("fewer than 5 triples" in line for line in lines([*few, *large]))
    assert has(lines([*few, *large[::2]]), "99 of 100 relations")


def test_entities_in_a_single_triple():
    train = [*ring(20), *[(e % 20, 1, 20 + e) for e in range(20)]]
    assert has(lines(train), "20 of 40 entities (50.0%) occur in a single triple of train")
    assert not has(lines([*train, (1, 1, 20)]), "19 of 40")


def test_pairs_of_relations_are_named_and_then_counted():
    train = [triple for relation in range(6) for triple in ring(20, relation)]
    found = lines(train)
    named = [line for line in found if "duplicate" in line and "triples" not in line]
    assert named[:2] == ["warning: r1 is a duplicate of r0", "warning: r2 is a duplicate of r0"]
    assert named[10:] == ["warning: 5 more pairs of relations are duplicate or reverse"]
    turned = [*ring(20), *[(t, 1, h) for h, _, t in ring(20)]]
    assert "warning: r1 is the reverse of r0" in lines(turned)
    both = [
        (e, r, (e + step) % 20) for r in range(12) for e in range(20) for step in (r + 1, -r - 1)
    ]
    notes = [line for line in lines(both) if line.startswith("note: ")]
    assert notes[0] == "note: r0 is symmetric"
    assert notes[-1] == "note: 2 more relations are symmetric"


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 60))
def test_hubs_under_many_relations_are_counted_exactly(relations, pairs):
    """Every relation holds for the same pairs: the shared triples are the square of relations."""
    train = torch.tensor([(p, r, p + pairs) for r in range(relations) for p in range(pairs)])
    names = tuple(map(str, range(2 * pairs)))
    labels = tuple(f"r{r}" for r in range(relations))
    graph = KnowledgeGraph("hubs", names, labels, train, train[:1], train[:1])
    expected = {(i, j) for i in range(relations) for j in range(i + 1, relations)}
    assert {(p.first, p.second) for p in pairings(graph)} == expected
    assert not any(p.reverse for p in pairings(graph))
