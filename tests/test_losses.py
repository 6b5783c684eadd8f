"""Losses against plain Python, by gradcheck, at extreme scores, and after a few optimiser steps."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import scalar
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import hale
from hale.graphs.batches import QueryBatch
from hale.graphs.indexed import scaled_weights
from hale.graphs.kg import reciprocal
from hale.graphs.queries import Known, QueryIndex
from hale.losses.base import Loss
from hale.losses.distillation import DistilE, MulDE, _best
from hale.losses.non_neg import NonNeg
from hale.losses.query_sampling import QuerySampling
from hale.losses.sampled import AdvNeg, Contrastive, SamNeg
from hale.scoring.activations import Hanon, Identity
from hale.scoring.comparators import NegativeDot, SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table

ALL_NEG = QuerySampling(alpha=1.0, weight=1.0, square=False)
SCORES = [[-1.0, -2.0, -0.5], [-3.0, -0.25, -4.0]]
TARGETS = [0, 1]
SAMPLED = [[1, 2, 1, 0], [2, 2, 0, 1]]
TAUGHT = [[-0.2, -2.5, -1.5], [-4.0, -0.5, -3.0]]
OTHER = [[-0.7, -3.0, -0.4], [-1.0, -0.3, -5.0]]


class Table3:
    """A teacher with a score of each of three entities, for the queries of entities 0 and 1."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.score_BE = torch.tensor(rows, dtype=torch.float64)

    def scores(self, entity_B: Tensor, relation_B: Tensor, candidate_BX: Tensor) -> Tensor:
        return self.score_BE[entity_B].gather(1, candidate_BX)


ONE, TWO = [Table3(TAUGHT)], [Table3(TAUGHT), Table3(OTHER)]
EVERY = {
    "hale": QuerySampling(alpha=0.5),
    "hale masked": QuerySampling(alpha=1.0, weight=2.0, mask_known=True),
    "query_sampling": QuerySampling(alpha=0.5, square=False),
    "all_neg": ALL_NEG,
    "sam_neg": SamNeg(num_negatives=4, margin=2.0),
    "sam_neg filtered": SamNeg(num_negatives=4, margin=2.0, filtered=True),
    "adv_neg": AdvNeg(num_negatives=4, margin=2.0, adversarial_temperature=0.7),
    "distil_e": DistilE(teachers=TWO, num_negatives=4, margin=2.0, sharpness=0.6),
    "mul_de": MulDE(teachers=ONE, top=2, soft_weight=0.7, alpha=0.5),
    "non_neg": NonNeg(weight=0.5),
    "contrastive": Contrastive(num_negatives=4, filtered=False),
    "contrastive filtered": Contrastive(num_negatives=4),
}
every = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())


class FixedBatch(QueryBatch):
    """Negatives that a test can count on."""

    def negatives(self, count: int) -> Tensor:
        assert count == 4
        return torch.tensor(SAMPLED)


def fixed_batch(weights: list[float] | None = None) -> FixedBatch:
    """Two queries of three entities; entity 2 answers the first query, too."""
    entity_T, relation_T, answer_T = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 0, 2]]).T
    answers = QueryIndex(entity_T, relation_T, answer_T, 3, 2)
    return FixedBatch(
        torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor(TARGETS), answers,
        torch.Generator(), None if weights is None else torch.tensor(weights),
    )  # fmt: skip


def matrix(score_BE: Tensor) -> ScoreMatrix:
    """A score matrix with these very scores: dot products with unit vectors."""
    count = score_BE.shape[1]
    return ScoreMatrix(
        score_BE, score_BE.new_ones(len(score_BE)), Table(torch.eye(count, dtype=score_BE.dtype)),
        NegativeDot(), Identity(),
    )  # fmt: skip


def by_hand(loss: Loss, weights: list[float]) -> dict[str, float]:
    positive = [row[t] for row, t in zip(SCORES, TARGETS, strict=True)]
    negative = [[row[k] for k in ks] for row, ks in zip(SCORES, SAMPLED, strict=True)]
    known = [{0, 2}, {1}]
    if getattr(loss, "filtered", False):
        kept = [[k for k in ks if k not in known[b]] for b, ks in enumerate(SAMPLED)]
    else:
        kept = SAMPLED
    negative = [[row[k] for k in ks] for row, ks in zip(SCORES, kept, strict=True)]

    def mean(values: list[float]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=False)) / len(values)

    match loss:
        case DistilE():
            return by_hand_distil_e(loss, mean)
        case MulDE():
            kept = {name: getattr(loss, name) for name in ("alpha", "weight", "square")}
            hard = by_hand(QuerySampling(**kept), weights)
            rows = range(math.ceil(loss.alpha * 2))
            soft = mean([by_hand_mul_de(loss, row) for row in rows])
            total = hard["loss"] + loss.soft_weight * soft
            return hard | {"loss": total, "distillation": soft}
        case QuerySampling():
            rows = SCORES[: math.ceil(loss.alpha * 2)]
            if loss.mask_known:
                rows = [[s for e, s in enumerate(row) if e not in known[b]]
                        for b, row in enumerate(rows)]  # fmt: skip
            alignment = mean([s**2 if loss.square else -s for s in positive])
            uniformity = mean(list(map(scalar.logsumexp, rows)))
            total = alignment + loss.weight * uniformity
            return {"loss": total, "alignment": alignment, "uniformity": uniformity}
        case SamNeg():
            one = mean([scalar.softplus(-loss.margin - s) for s in positive])
            two = mean([sum(scalar.softplus(loss.margin + s) for s in row) / 4 for row in negative])
            return {"loss": one + two, "positive": one, "negative": two}
        case AdvNeg():
            one = mean([scalar.softplus(-loss.margin - s) for s in positive])
            sums = []
            for row in negative:
                share = [math.exp(loss.adversarial_temperature * s) for s in row]
                sums.append(sum(
                    w / sum(share) * scalar.softplus(loss.margin + s)
                    for w, s in zip(share, row, strict=True)
                ))  # fmt: skip
            return {"loss": one + mean(sums), "positive": one, "negative": mean(sums)}
        case NonNeg():
            alignment = mean([s**2 for s in positive])
            distance_sq = (2 / 3) ** 2 + 2 * (1 / 3) ** 2  # of a unit vector from the mean of three
            regularization = (distance_sq - loss.radius**2) ** 2
            total = alignment + loss.weight * regularization
            return {"loss": total, "alignment": alignment, "regularization": regularization}
        case Contrastive():
            t = loss.temperature
            return {"loss": mean([
                scalar.logsumexp([p / t, *(s / t for s in row)]) - p / t
                for p, row in zip(positive, negative, strict=True)
            ])}  # fmt: skip
    raise AssertionError(loss)


def by_hand_distil_e(loss: DistilE, mean: Callable[[list[float]], float]) -> dict[str, float]:
    def cell(row: int, entity: int, label: int) -> float:
        taught = loss.margin + (TAUGHT[row][entity] + OTHER[row][entity]) / 2
        learned = loss.margin + SCORES[row][entity]
        trust = scalar.sigmoid(loss.sharpness * label * taught)
        gap = abs(learned - taught)
        huber = gap**2 / 2 if gap < 1 else gap - 0.5
        return trust * huber + (1 - trust) * scalar.softplus(-label * learned)

    one = mean([cell(row, target, 1) for row, target in enumerate(TARGETS)])
    two = mean([sum(cell(row, k, -1) for k in ks) / 4 for row, ks in enumerate(SAMPLED)])
    return {"loss": one + two, "positive": one, "negative": two}


def by_hand_mul_de(loss: MulDE, row: int) -> float:
    others = sorted({0, 1, 2} - {TARGETS[row]}, key=lambda entity: -SCORES[row][entity])
    kept = [TARGETS[row], *others[: loss.top - 1]]

    def shares(values: list[float]) -> list[float]:
        return [math.exp(v - scalar.logsumexp(values)) for v in values]

    def kl(p: list[float], q: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    learned = shares([SCORES[row][entity] for entity in kept])
    taught = [[rows[row][e] for e in kept] for rows in (TAUGHT, OTHER)[: len(loss.teachers)]]
    weights = shares([-kl(shares(values), learned) for values in taught])
    mixed = [
        sum(w * values[k] for w, values in zip(weights, taught, strict=True))
        for k in range(len(kept))
    ]
    return kl(shares(mixed), learned)


@every
@pytest.mark.parametrize("weights", [None, [1.0, 1.0], [0.25, 1.75], [0.0, 2.0]])
def test_values_by_hand(loss: Loss, weights: list[float] | None) -> None:
    score_BE = torch.tensor(SCORES, dtype=torch.float64)
    parts = loss(matrix(score_BE), fixed_batch(weights))
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        by_hand(loss, weights or [1.0, 1.0]), rel=1e-9
    )
    assert all(value.shape == () for value in parts.values())


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any), st.integers(0, 10**6))
@pytest.mark.parametrize("loss", [
    QuerySampling(alpha=1.0, weight=2.0, mask_known=True), ALL_NEG, NonNeg(),
    SamNeg(num_negatives=3), AdvNeg(num_negatives=3), Contrastive(num_negatives=3),
], ids=lambda loss: type(loss).__name__)  # fmt: skip
def test_a_weight_counts_the_queries_of_a_triple_so_often(loss, counts, seed) -> None:
    draw = torch.Generator().manual_seed(seed)
    triple_T3 = torch.tensor([[0, 0, 1], [1, 0, 2], [2, 1, 0], [3, 1, 4]])
    query_B3 = reciprocal(triple_T3, 2)
    answers = QueryIndex(*query_B3.unbind(1), 5, 4)
    negative_BK = torch.randint(5, (len(query_B3), 3), generator=draw)
    query_BD = torch.randn(len(query_B3), 4, generator=draw, dtype=torch.float64)
    entity_ED = torch.randn(5, 4, generator=draw, dtype=torch.float64)

    class Drawn(QueryBatch):
        """Negatives that belong to their queries, however often these are there."""

        def negatives(self, count: int) -> Tensor:
            return negative_BK[row_X]

    def gradients(weight_T: Tensor | None) -> list[Tensor]:
        inputs = [query_BD.clone().requires_grad_(), entity_ED.clone().requires_grad_()]
        scores = ScoreMatrix(
            inputs[0][row_X], inputs[0].new_ones(len(row_X)), Table(inputs[1]),
            SquaredEuclidean(), Hanon(),
        )  # fmt: skip
        weight_B = None if weight_T is None else scaled_weights(weight_T).repeat(2)
        batch = Drawn(*query_B3[row_X].unbind(1), answers, draw, weight_B)
        total = loss(scores, batch)["loss"]
        return [total.detach(), *torch.autograd.grad(total, inputs)]

    row_X = torch.arange(len(query_B3))
    weighted = gradients(torch.tensor(counts, dtype=torch.float32))
    row_X = row_X.repeat_interleave(torch.tensor(counts * 2))
    repeated = gradients(None)
    for ours, wanted in zip(weighted, repeated, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)  # the weights are float32
    assert not weighted[1][torch.tensor(counts * 2) == 0].any()


@every
@pytest.mark.parametrize("weights", [None, [0.25, 1.75]])
def test_gradcheck(loss: Loss, weights: list[float] | None) -> None:
    batch = fixed_batch(weights)
    generator = torch.Generator().manual_seed(0)
    query_BD = torch.randn(2, 4, generator=generator, dtype=torch.float64).requires_grad_()
    entity_ED = torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    scale_B = torch.tensor([0.7, 1.3], dtype=torch.float64).requires_grad_()
    if isinstance(loss, AdvNeg):  # its weights are constants by definition
        scores = ScoreMatrix(query_BD, scale_B, Table(entity_ED), SquaredEuclidean(), Hanon())
        negative_BK = scores.at(torch.tensor(SAMPLED))
        known_BK = batch.is_answer(torch.tensor(SAMPLED))
        weight_BK = (0.7 * negative_BK.detach()).masked_fill(known_BK, -math.inf).softmax(1)
        positive_B = F.softplus(-2.0 - scores.at(batch.target_B[:, None]).squeeze(1))
        expected_B = positive_B + (weight_BK * F.softplus(2.0 + negative_BK)).sum(1)
        expected = (torch.tensor(weights or [1.0, 1.0]) * expected_B).mean()
        inputs = (query_BD, scale_B, entity_ED)
        pairs = zip(
            torch.autograd.grad(loss(scores, batch)["loss"], inputs, retain_graph=True),
            torch.autograd.grad(expected, inputs),
            strict=True,
        )
        for gradient, wanted in pairs:
            torch.testing.assert_close(gradient, wanted)
        return

    def total(query_BD: Tensor, scale_B: Tensor, entity_ED: Tensor) -> Tensor:
        scores = ScoreMatrix(query_BD, scale_B, Table(entity_ED), SquaredEuclidean(), Hanon())
        return loss(scores, batch)["loss"]

    assert torch.autograd.gradcheck(total, (query_BD, scale_B, entity_ED))


@every
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_scores_stay_finite(loss: Loss, sign: int) -> None:
    extreme = sign * torch.tensor([[1e9, -1e9, 0.0], [-1e9, -1e9, 1e9]])
    score_BE = extreme.requires_grad_()
    total = loss(matrix(score_BE), fixed_batch())["loss"]
    total.backward()
    assert total.isfinite()
    assert score_BE.grad.isfinite().all()


@every
def test_a_few_steps_separate_positives_from_negatives(loss: Loss) -> None:
    batch = fixed_batch()
    generator = torch.Generator().manual_seed(1)
    query_BD = (0.5 * torch.randn(2, 4, generator=generator)).requires_grad_()
    entity_ED = (0.5 * torch.randn(3, 4, generator=generator)).requires_grad_()

    def gap() -> Tensor:
        """Score of the answer above the mean of what never answers."""
        scores = ScoreMatrix(
            query_BD, torch.ones(2), Table(entity_ED), SquaredEuclidean(), Identity()
        )
        score_BE = scores.at(torch.arange(3).expand(2, 3)).detach()
        return torch.stack(
            (score_BE[0, 0] - score_BE[0, 1], score_BE[1, 1] - score_BE[1, [0, 2]].mean())
        )

    before = gap()
    optimizer = torch.optim.Adam([query_BD, entity_ED], lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        scores = ScoreMatrix(
            query_BD, torch.ones(2), Table(entity_ED), SquaredEuclidean(), Identity()
        )
        loss(scores, batch)["loss"].backward()
        optimizer.step()
    assert (gap() > before).all()
    if not isinstance(loss, NonNeg):  # it has no negatives to leave behind
        assert (gap() > 0.5).all()


@pytest.mark.parametrize("top", [2, 3, 64])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.25, 1.75]])
def test_teachers_near_the_student_weigh_more(top: int, weights: list[float]) -> None:
    """Apart from the others: the weights are constants by definition, which gradcheck refuses."""
    loss = MulDE(teachers=TWO, top=top, alpha=1.0, square=False)
    parts = loss(matrix(torch.tensor(SCORES, dtype=torch.float64)), fixed_batch(weights))
    expected = by_hand(loss, weights)
    assert {k: v.item() for k, v in parts.items()} == pytest.approx(expected, rel=1e-9)


def test_a_student_that_scores_as_its_teacher_is_at_the_minimum() -> None:
    score_BE = torch.tensor(TAUGHT, dtype=torch.float64).requires_grad_()
    parts = MulDE(teachers=ONE, top=3, alpha=1.0)(matrix(score_BE), fixed_batch())
    (gradient,) = torch.autograd.grad(parts["distillation"], score_BE)
    assert parts["distillation"].item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_candidates_are_the_answer_and_the_best_others_without_the_own_entity() -> None:
    scores = replace(matrix(torch.tensor(SCORES)), own_B=torch.tensor([2, -1]))
    chosen = _best(scores, torch.tensor(TARGETS), 2)
    assert [set(row) for row in chosen.tolist()] == [{0, 1}, {1, 0}]


def test_all_neg_is_cross_entropy_over_all_entities() -> None:
    score_BE = torch.tensor(SCORES, dtype=torch.float64)
    expected = F.cross_entropy(score_BE, torch.tensor(TARGETS))
    torch.testing.assert_close(ALL_NEG(matrix(score_BE), fixed_batch())["loss"], expected)


@pytest.mark.parametrize(
    "known", [None, Known.of_pairs(torch.tensor([0, 0]), torch.tensor([0, 2]), 2)]
)
def test_an_own_entity_that_is_excluded_is_not_in_the_logsumexp(known) -> None:
    own_B = torch.tensor([2, -1])
    query_BD, entity_ED = torch.randn(2, 4).double().requires_grad_(), torch.randn(3, 4).double()
    scores = ScoreMatrix(
        query_BD, torch.ones(2).double(), Table(entity_ED), SquaredEuclidean(), Identity(),
        own_B=own_B,
    )  # fmt: skip
    score_BE = -torch.cdist(query_BD, entity_ED).square()
    kept = [[0, 1] if known is None else [1], [0, 1, 2]]
    expected = torch.stack([score_BE[b, rows].logsumexp(0) for b, rows in enumerate(kept)])
    torch.testing.assert_close(scores.logsumexp(known), expected)
    torch.testing.assert_close(
        scores.first(1).logsumexp(known and known.rows(slice(1))), expected[:1]
    )


def test_contrastive_over_all_negatives_is_cross_entropy_with_a_temperature() -> None:
    score_BE = torch.tensor(SCORES, dtype=torch.float64)

    class Others(FixedBatch):
        def negatives(self, count: int) -> Tensor:
            return torch.tensor([[1, 2], [0, 2]])

    batch = Others(**vars(fixed_batch()))
    loss = Contrastive(num_negatives=2, temperature=0.3, filtered=False)(matrix(score_BE), batch)
    torch.testing.assert_close(loss["loss"], F.cross_entropy(score_BE / 0.3, torch.tensor(TARGETS)))


@pytest.mark.parametrize("make", [SamNeg, AdvNeg, Contrastive])
def test_known_answers_are_excluded_from_filtered_negatives(make) -> None:
    class Answers(FixedBatch):
        def negatives(self, count: int) -> Tensor:
            return torch.tensor([[0, 2, 2, 0], [1, 1, 1, 1]])

    score_BE = torch.tensor(SCORES).requires_grad_()
    batch = Answers(**vars(fixed_batch()))
    total = make(num_negatives=4, filtered=True)(matrix(score_BE), batch)["loss"]
    total.backward()
    assert total.isfinite()
    assert score_BE.grad[0, 2] == 0  # a known answer that is not the target
    assert (score_BE.grad[[0, 1], TARGETS] <= 0).all()


def test_hard_negatives_weigh_more_in_adv_neg() -> None:
    score_BE = torch.tensor(SCORES).requires_grad_()
    loss = AdvNeg(num_negatives=4, margin=0.0, adversarial_temperature=2.0, filtered=False)
    loss(matrix(score_BE), fixed_batch())["negative"].backward()
    share = score_BE.grad[0] / torch.tensor(SCORES).sigmoid()[0]
    assert share[2] > 2 * share[1]  # entity 1 was drawn twice and scores lower


@pytest.mark.parametrize(("alpha", "sampled"), [(0.01, 1), (0.5, 1), (0.51, 2), (1.0, 2)])
def test_uniformity_has_a_gradient_for_the_sampled_queries_only(alpha: float, sampled: int) -> None:
    score_BE = torch.tensor(SCORES).requires_grad_()
    QuerySampling(alpha=alpha)(matrix(score_BE), fixed_batch())["uniformity"].backward()
    assert (score_BE.grad[:sampled] > 0).all()
    assert (score_BE.grad[sampled:] == 0).all()


def test_non_neg_keeps_entities_off_the_centre() -> None:
    entity_ED = (
        1e-3 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    optimizer = torch.optim.Adam([entity_ED], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        scores = ScoreMatrix(
            torch.zeros(2, 3), torch.ones(2), Table(entity_ED), SquaredEuclidean(), Identity()
        )
        NonNeg(radius=2.0)(scores, fixed_batch())["regularization"].backward()
        optimizer.step()
    radius_E = (entity_ED - entity_ED.mean(0)).norm(dim=1)
    torch.testing.assert_close(radius_E, torch.full((5,), 2.0), rtol=0.05, atol=0)


def test_which_losses_require_nonnegative_distances() -> None:
    needs = {name: loss.nonnegative for name, loss in EVERY.items()}
    assert {name for name, need in needs.items() if need} == {
        "hale",
        "hale masked",
        "mul_de",
        "non_neg",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: QuerySampling(alpha=0.0),
            "alpha must be a finite number above 0 and of at most 1, got 0.0",
        ),
        (
            lambda: QuerySampling(alpha=1.1),
            "alpha must be a finite number above 0 and of at most 1, got 1.1",
        ),
        (lambda: QuerySampling(weight=0), "weight must be a finite number above 0, got 0"),
        (lambda: NonNeg(weight=-1), "weight must be a finite number above 0, got -1"),
        (lambda: NonNeg(radius=0), "radius must be a finite number above 0, got 0"),
        (lambda: SamNeg(margin=math.nan), "margin must be a finite number, got nan"),
        (lambda: AdvNeg(margin=math.inf), "margin must be a finite number, got inf"),
        (
            lambda: AdvNeg(adversarial_temperature=0),
            "adversarial_temperature must be a finite number above 0, got 0",
        ),
        (lambda: Contrastive(temperature=0), "temperature must be a finite number above 0"),
        (lambda: DistilE([]), "teachers must be at least one folder of a trained model, got []"),
        (lambda: DistilE(ONE, sharpness=0), "sharpness must be a finite number above 0, got 0"),
        (lambda: MulDE(teachers=[]), "teachers must be at least one folder"),
        (lambda: MulDE(teachers=ONE, top=1), "top must be a whole number of at least 2, got 1"),
        (lambda: MulDE(teachers=ONE, soft_weight=0), "soft_weight must be a finite number above"),
        *[
            (
                lambda make=make: make(num_negatives=0),
                "num_negatives must be a whole number of at least 1, got 0",
            )
            for make in (SamNeg, AdvNeg, Contrastive)
        ],
    ],
)
def test_wrong_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize("kernel", ["", "reference"])
@pytest.mark.parametrize("candidates", ["all", "near"])
def test_a_query_of_which_all_entities_are_answers_is_not_divergence(
    kernel, candidates, monkeypatch
):
    monkeypatch.setenv("HALE_KERNEL", kernel) if kernel else monkeypatch.delenv(
        "HALE_KERNEL", False
    )
    rows = [(x, "reaches", y) for x in "abcdef" for y in "abcdef"]
    rows += [("a", "likes", "b"), ("c", "likes", "d")]
    graph = hale.KnowledgeGraph.from_triples(
        rows, valid=[("b", "likes", "c")], test=[("d", "likes", "e")]
    )
    settings = {"loss.mask_known": True, "loss.candidates": candidates, "threads": 1}
    model = hale.fit(graph, "mure", steps=60, dim=8, settings=settings)
    assert all(tensor.isfinite().all() for tensor in model.model.state_dict().values())
