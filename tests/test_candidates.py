"""LogSumExp over candidates: weights of entities, clusters, and the choice of near ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_entity_logsumexp import IDS, PAIRS, differentiate, draw, mask, relative

import hale
from hale.errors import ArgumentError
from hale.scoring import clusters as clustering
from hale.scoring.activations import Hanon
from hale.scoring.candidates import GROUP, Candidates, near
from hale.scoring.clusters import (
    CENTRES_EVERY,
    FIRST_REBUILD,
    TILE,
    Clusters,
    EntityClusters,
    centres,
    in_clusters,
    interval_factor,
)
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels.operations import entity_logsumexp
from hale.scoring.kernels.reference import reference_logsumexp
from hale.scoring.table import ScoreMatrix, Table

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


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12 * TILE), st.integers(1, 5), st.integers(0, 99))
def test_clusters_hold_every_entity_once(entities, dim, seed):
    entity_ED = torch.randn(entities, dim, generator=torch.Generator().manual_seed(seed))
    order_E = in_clusters(entity_ED)
    assert torch.equal(order_E.sort().values, torch.arange(entities))
    centre_CD = centres(entity_ED, order_E)
    for cluster, ids in enumerate(order_E.split(TILE)):
        torch.testing.assert_close(centre_CD[cluster], entity_ED[ids].mean(0))


def test_what_lies_together_is_one_cluster():
    generator = torch.Generator().manual_seed(0)
    blob_E = torch.arange(8).repeat_interleave(TILE)[torch.randperm(8 * TILE, generator=generator)]
    place_8D = 10 * torch.randn(8, 6, generator=generator)
    entity_ED = place_8D[blob_E] + 0.1 * torch.randn(8 * TILE, 6, generator=generator)
    for ids in in_clusters(entity_ED).split(TILE):
        assert len(blob_E[ids].unique()) == 1


def lie_in_blobs(rows: int, entities: int, seed: int = 0) -> tuple:
    """Queries and entities of a trained model, more or less: few entities are near a query."""
    generator = torch.Generator().manual_seed(seed)
    place_BD = 1.5 * torch.randn(20, 6, generator=generator)
    vectors = [
        place_BD[torch.randint(20, (count,), generator=generator)]
        + 0.3 * torch.randn(count, 6, generator=generator)
        for count in (rows, entities)
    ]
    return vectors[0], torch.ones(rows), vectors[1]


def clusters_of(entity_ED: torch.Tensor) -> Clusters:
    order_E = in_clusters(entity_ED)
    return Clusters(order_E, order_E.argsort(), centres(entity_ED, order_E))


def draw_sums(query_ND, scale_N, entity_ED, clusters: Clusters, draws: int) -> torch.Tensor:
    """LogSumExps of so many draws, by the score matrix that the losses use."""
    torch.manual_seed(0)
    scores = ScoreMatrix(query_ND, scale_N, Table(entity_ED), *EUCLIDEAN, clusters)
    return torch.stack([scores.logsumexp() for _ in range(draws)])


def test_the_expected_sum_is_the_sum_over_all_entities():
    query_ND, scale_N, entity_ED = lie_in_blobs(40, 30 * TILE)
    clusters = clusters_of(entity_ED)
    exact_N = entity_logsumexp(query_ND, scale_N, entity_ED, *EUCLIDEAN).double().exp()
    drawn_TN = draw_sums(query_ND, scale_N, entity_ED, clusters, 400).double().exp()
    error_N = drawn_TN.std(0) / 400**0.5
    assert ((drawn_TN.mean(0) - exact_N).abs() < 5 * error_N + 1e-5 * exact_N).all()


def test_the_variance_falls_with_the_share_that_is_visited(monkeypatch):
    query_ND, scale_N, entity_ED = lie_in_blobs(40, 40 * TILE)
    clusters = clusters_of(entity_ED)
    spread = []
    for most in (2, 6, 18, 40):
        monkeypatch.setattr("hale.scoring.candidates.most_clusters", lambda _, most=most: most)
        drawn_TN = draw_sums(query_ND, scale_N, entity_ED, clusters, 60)
        spread.append(float(drawn_TN.std(0).mean()))
    assert spread[0] > 1.5 * spread[1] > 2.25 * spread[2]
    assert spread[3] < 1e-5


def test_near_clusters_are_those_that_hold_the_gradient():
    query_ND, scale_N, entity_ED = lie_in_blobs(64, 60 * TILE)
    order_N, candidates = near(query_ND, scale_N, clusters_of(entity_ED), *EUCLIDEAN)
    distance_NE = torch.cdist(query_ND[order_N], entity_ED).square().requires_grad_()
    score_NE = -Hanon()(distance_NE)
    (weight_NE,) = torch.autograd.grad(score_NE.logsumexp(1).sum(), distance_NE)
    near_NE = candidates.log_weights(slice(0, 64), 64) == 0
    assert near_NE.float().mean() <= 0.11
    assert weight_NE[near_NE].sum() / weight_NE.sum() > 0.5


def test_clusters_of_a_run_are_rebuilt_now_and_then_and_kept_with_it():
    state, entity_ED = EntityClusters(300, 3), torch.randn(300, 3)
    rebuilt = []
    for step in range(450):
        before = state.order_E
        state.step(entity_ED + step)
        rebuilt += [step] if state.order_E is not before else []
    assert rebuilt == [0, FIRST_REBUILD, 2 * FIRST_REBUILD, 4 * FIRST_REBUILD]


def test_large_tables_are_clustered_less_often(monkeypatch):
    monkeypatch.setattr(clustering, "interval_factor", lambda entities: 3)
    state, entity_ED = EntityClusters(300, 3), torch.randn(300, 3)
    changed = []
    for step in range(3 * FIRST_REBUILD + 1):
        before = state.order_E, state.centre_CD
        state.step(entity_ED + step)
        changed += [step] if state.centre_CD is not before[1] else []
        assert (state.order_E is not before[0]) == (step in (0, 3 * FIRST_REBUILD))
    assert changed == list(range(0, 3 * FIRST_REBUILD + 1, 3 * CENTRES_EVERY))
    assert [interval_factor(entities) for entities in (300, 100_000, 1_000_000)] == [1, 1, 10]


def test_clusters_are_kept(tmp_path):
    state, entity_ED = EntityClusters(300, 3), torch.randn(300, 3)
    for step in range(30):
        state.step(entity_ED + step)
    other = EntityClusters(300, 3)
    other.load_state_dict(state.state_dict())
    for one, wanted in zip(other.step(entity_ED), state.step(entity_ED), strict=True):
        assert torch.equal(one, wanted)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, monkeypatch):
    rows = [(f"e{i}", f"r{k}", f"e{(i * k + k) % 700}") for i in range(700) for k in (1, 2, 3)]
    graph = hale.KnowledgeGraph.from_triples(rows)

    def train(folder: str) -> dict[str, torch.Tensor]:
        settings = {
            "loss.candidates": "near", "loss.alpha": 0.5, "data.batch_size": 64, "test": False,
            "validations": 6, "threads": 1, "recipe": "auto",
        }  # fmt: skip
        hale.fit(graph, "rotl", steps=240, dim=8, folder=tmp_path / folder, settings=settings)
        return torch.load(tmp_path / folder / "checkpoints/last.ckpt", weights_only=True)

    whole = train("whole")["state_dict"]
    step = EntityClusters.step

    def interrupted(self: EntityClusters, entity_ED: torch.Tensor) -> Clusters:
        if self.steps[0] == 170:
            raise KeyboardInterrupt
        return step(self, entity_ED)

    monkeypatch.setattr(EntityClusters, "step", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train("parts")
    monkeypatch.setattr(EntityClusters, "step", step)
    parts = train("parts")["state_dict"]
    assert {"clusters.order_E", "clusters.centre_CD", "clusters.steps"} <= parts.keys()
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
