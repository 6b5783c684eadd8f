"""Every model against its paper's formula, and every choice of conf/ with every other."""

import math
import re
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path

import pytest
import scalar
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hale.errors import HaleError
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.queries import QueryIndex
from hale.losses.base import require_compatible
from hale.losses.query_sampling import QuerySampling
from hale.models.base import QueryModel
from hale.models.bilinear import RESCAL, ComplEx, DistMultDot, QuatE, multiply_grouped
from hale.models.euclidean import DistMult, Rot2L, RotL, TransE
from hale.models.hyperbolic import AttH, MuRP, RefH, RotH
from hale.models.low_rank import LowRankE, multiply_tiled
from hale.models.neural import ConvE, TuckER
from hale.scoring.activations import Hanon, Identity
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.training.module import LinkPrediction
from hale.training.teachers import TrainedTeacher

CONF = Path(__file__).parents[1] / "conf"
TAUGHT = ("distil_e", "mul_de")
"""Losses that take teachers."""
E, R = 5, 4  # entities, and relations with the reciprocal ones

QUERY = {
    "transe": scalar.transe,
    "distmult": scalar.distmult,
    "rotate": scalar.rotate_model,
    "rote": scalar.rote,
    "rotl": scalar.rotl,
    "rot2l": scalar.rot2l,
    "murp": scalar.murp,
    "mure": scalar.mure,
    "compounde": scalar.compounde,
    "lowranke": scalar.lowranke,
    "roth": scalar.roth,
    "refh": scalar.refh,
    "atth": scalar.atth,
    "rescal": scalar.rescal,
    "distmult_dot": scalar.distmult_dot,
    "complex": scalar.complex_,
    "quate": scalar.quate,
    "tucker": scalar.tucker,
    "conve": scalar.conve,
}
DISTANCE = {
    SquaredEuclidean: scalar.squared_euclidean,
    Poincare: scalar.poincare,
    NegativeDot: scalar.negative_dot,
}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def choose(group: str, name: str, **facts):
    return instantiate(OmegaConf.load(CONF / group / f"{name}.yaml"), **facts)


def draw(name: str, **facts) -> QueryModel:
    """A model in float64 whose every number is random, norms' statistics too."""
    dim = {"conve": 12, "quate": 8}.get(name, 6)
    torch.manual_seed(7)
    model = choose("model", name, num_entities=E, num_relations=R, dim=dim, **facts).double().eval()
    generator = torch.Generator().manual_seed(7)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value += noise.abs() if key.endswith("running_var") else 0.2 * noise
    return model


def all_queries() -> tuple[torch.Tensor, torch.Tensor]:
    entity_B, relation_B = torch.cartesian_prod(torch.arange(E), torch.arange(R)).unbind(1)
    return entity_B, relation_B


def scalar_scores(name: str, model: QueryModel) -> torch.Tensor:
    p = {key: value.tolist() for key, value in model.state_dict().items()}
    candidates = p["entity"]
    if "bias" in p:
        candidates = [e + b for e, b in zip(candidates, p["bias"], strict=True)]
    distance = DISTANCE[type(model.comparator)]
    learned = model.comparator.nonnegative

    def row(e: int, r: int) -> list[float]:
        scale = scalar.relation_scale(p, r) if learned else 1.0
        return [-distance(QUERY[name](p, e, r), candidate, scale) for candidate in candidates]

    pairs = zip(*(index.tolist() for index in all_queries()), strict=True)
    return torch.tensor([row(e, r) for e, r in pairs], dtype=torch.float64)


def test_every_model_has_a_formula() -> None:
    assert set(QUERY) == set(choices("model"))


@pytest.mark.parametrize("name", QUERY)
def test_scores_follow_the_formula(name: str) -> None:
    model = draw(name)
    expected_BE = scalar_scores(name, model)
    scores = model.scores(*all_queries(), Identity())
    every_BE = torch.arange(E).expand(E * R, E)
    torch.testing.assert_close(scores.at(every_BE), expected_BE, rtol=1e-7, atol=1e-9)
    few_B1 = torch.tensor([[3], [1]])  # fewer candidates than entities: the other way of `at`
    torch.testing.assert_close(
        scores.first(2).at(few_B1), expected_BE[:2].gather(1, few_B1), rtol=1e-7, atol=1e-9
    )
    lse_B = torch.tensor([scalar.logsumexp(row) for row in expected_BE.tolist()]).double()
    torch.testing.assert_close(scores.logsumexp(), lse_B, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["transe", "distmult_dot", "rotate", "complex", "rescal", "quate"])
def test_scores_agree_with_pykeen(name: str) -> None:
    pykeen = pytest.importorskip("pykeen.nn.modules", reason="PyKEEN is not installed")
    model = draw(name, **({"relation_scale": False} if name in ("transe", "rotate") else {}))
    entity = model.entity.detach()
    if name == "quate":
        entity = entity.view(E, -1, 4)
    if name in ("rotate", "complex"):
        entity = torch.view_as_complex(entity.view(E, -1, 2))
    match name:
        case "transe":
            interaction = pykeen.TransEInteraction(p=2, power_norm=True)
            relation = model.translation
        case "distmult_dot":
            interaction, relation = pykeen.DistMultInteraction(), model.relation
        case "rotate":
            relation = torch.polar(torch.ones_like(model.angle), model.angle)

            def interaction(h, r, t):
                return -(pykeen.RotatEInteraction()(h, r, t) ** 2)
        case "complex":
            interaction = pykeen.ComplExInteraction()
            relation = torch.view_as_complex(model.relation.detach().view(R, -1, 2))
        case "quate":
            relation = torch.nn.functional.normalize(model.relation.detach().view(R, -1, 4), dim=2)

            def interaction(h, r, t):  # PyKEEN, as the authors' code, negates the score
                return -pykeen.QuatEInteraction().double()(h, r, t)
        case "rescal":
            interaction, relation = pykeen.RESCALInteraction(), model.relation.view(R, 6, 6)
    entity_B, relation_B = all_queries()
    expected_BE = interaction(
        entity[entity_B][:, None], relation[relation_B][:, None], entity[None]
    )
    scores = model.scores(entity_B, relation_B, Identity())
    torch.testing.assert_close(scores.at(torch.arange(E).expand(E * R, E)), expected_BE)


@pytest.mark.parametrize("name", QUERY)
def test_both_ways_of_scoring_have_one_gradient(name: str) -> None:
    model = draw(name)
    scores = model.scores(*all_queries(), Hanon())
    every_BE = torch.arange(E).expand(E * R, E)
    parameters = dict(model.named_parameters())
    ways = (scores.at(every_BE).logsumexp(1), scores.logsumexp())
    sampled, swept = (
        torch.autograd.grad(way.mean(), parameters.values(), allow_unused=True, retain_graph=True)
        for way in ways
    )
    assert any(gradient.abs().max() > 1e-6 for gradient in swept if gradient is not None)
    for key, one, other in zip(parameters, sampled, swept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", choices("model"))
def test_dim_counts_real_numbers_per_entity(name: str) -> None:
    model = choose("model", name, num_entities=E, num_relations=R, dim=24)
    assert model.entity.shape == (E, 24)
    assert (model.num_entities, model.num_relations, model.dim) == (E, R, 24)


def test_relation_scale_and_curvature_are_one_by_choice() -> None:
    _, relation_B = all_queries()
    assert torch.equal(draw("rotl", relation_scale=False).scale(relation_B), torch.ones(E * R))
    assert torch.equal(draw("murp").scale(relation_B), torch.ones(E * R))
    scale_B = draw("murp", relation_scale=True).scale(relation_B)
    assert len(scale_B.unique()) == R
    assert (scale_B > 0).all()


def test_the_scale_has_its_own_learning_rate(graph) -> None:
    """With Adam the first step is the learning rate, whatever the gradient."""

    def moved(multiplier: float) -> tuple[float, ...]:
        torch.manual_seed(0)
        model = TransE(
            graph.num_entities, 2 * graph.num_relations, 6, scale_lr_multiplier=multiplier
        )
        followed = (model.raw_scale, model.translation)
        before = [p.detach().clone() for p in followed]
        adam = partial(torch.optim.Adam, lr=1e-3)
        module = LinkPrediction(model, Hanon(), QuerySampling(), adam)
        optimizer = module.configure_optimizers()
        data = QueryDataModule(graph, batch_size=64, seed=0)
        data.setup()
        module.loss_parts(next(iter(data.train_dataloader())))["loss"].backward()
        optimizer.step()
        return tuple((p - b).abs().max().item() for p, b in zip(followed, before, strict=True))

    assert moved(1.0) == pytest.approx((1e-3, 1e-3), rel=1e-3)
    assert moved(0.1) == pytest.approx((1e-4, 1e-3), rel=1e-3)


def test_parameter_groups_hold_every_parameter_once() -> None:
    for multiplier in (1.0, 0.1):
        model = TransE(E, R, 6, scale_lr_multiplier=multiplier)
        grouped = [p for group in model.parameter_groups() for p in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
        assert len(grouped) == len(list(model.parameters()))


@pytest.mark.parametrize("multiplier", [0, -0.1, math.inf, math.nan])
def test_refuses_a_multiplier_that_is_not_above_0(multiplier: float) -> None:
    with pytest.raises(ValueError, match=r"scale_lr_multiplier must be a finite number above 0"):
        TransE(E, R, 6, scale_lr_multiplier=multiplier)
    with pytest.raises(ValueError, match=r"relation_scale must be true or false, got 0\.1"):
        TransE(E, R, 6, relation_scale=0.1)


def test_dropout_is_of_the_query_s_entity_in_training_alone() -> None:
    torch.manual_seed(0)
    sizes = {"num_entities": E, "num_relations": R, "dim": 50}
    plain, dropped = (choose("model", "distmult", **sizes, dropout=p) for p in (0.0, 0.2))
    dropped.load_state_dict(plain.state_dict())
    entity_B, relation_B = torch.arange(4).repeat(500), torch.zeros(2000, dtype=torch.int64)
    expected_BD = plain.scores(entity_B, relation_B, Identity()).query_BD
    found_BD = dropped.scores(entity_B, relation_B, Identity()).query_BD
    kept_BD = found_BD != 0
    assert abs(kept_BD.double().mean().item() - 0.8) < 0.01
    torch.testing.assert_close(found_BD[kept_BD], expected_BD[kept_BD] / 0.8)
    dropped.eval()
    assert torch.equal(dropped.scores(entity_B, relation_B, Identity()).query_BD, expected_BD)
    with pytest.raises(ValueError, match=r"dropout must be .*below 1, got 1"):
        TransE(E, R, 6, dropout=1.0)


@given(
    group_B=st.lists(st.integers(0, 3), max_size=70),
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
)
def test_tiled_products_are_those_of_each_row(group_B: list[int], sizes: list[int]) -> None:
    torch.manual_seed(len(group_B))
    index_B = torch.tensor(group_B, dtype=torch.int64)
    vector_BD = torch.randn(len(group_B), sizes[0], dtype=torch.float64)
    factors = [torch.randn(4, *pair, dtype=torch.float64) for pair in pairwise(sizes)]
    expected = [
        reduce(torch.matmul, (factor_GDX[g] for factor_GDX in factors), vector_D)
        for vector_D, g in zip(vector_BD, group_B, strict=True)
    ]
    found_BX = multiply_tiled(vector_BD, tuple(factors), index_B)
    assert found_BX.shape == (len(group_B), sizes[-1])
    if expected:
        torch.testing.assert_close(found_BX, torch.stack(expected))


def test_the_matrix_of_low_rank_starts_near_0() -> None:
    torch.manual_seed(0)
    model = LowRankE(E, R, 32)
    query_BD = model.query(model.entity, torch.zeros(E, dtype=torch.int64))
    with torch.no_grad():
        model.left.zero_()
    rest_BD = model.query(model.entity, torch.zeros(E, dtype=torch.int64))
    ratio = (query_BD - rest_BD).norm() / rest_BD.norm()
    assert 0.001 < ratio < 0.1
    with pytest.raises(ValueError, match=r"rank must be .* of at most 1024, got 0"):
        LowRankE(E, R, 32, rank=0)


@pytest.mark.parametrize("name", ["transe", "rotl", "roth", "murp"])
def test_initial_squared_distances_are_about_one(name: str) -> None:
    torch.manual_seed(0)
    model = choose("model", name, num_entities=200, num_relations=R, dim=32)
    query_B = torch.arange(200)
    scores = model.scores(query_B, torch.zeros_like(query_B), Identity())
    distance_B = -scores.at(query_B.roll(1)[:, None])
    assert 0.5 < distance_B.mean().item() < 3


@pytest.mark.parametrize("name", ["murp", "roth", "refh", "atth"])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e3, 1e9])
@pytest.mark.parametrize("raw", [-50.0, 0.5, 50.0])
def test_hyperbolic_queries_stay_in_the_ball_in_float32(name: str, size: float, raw: float) -> None:
    model = draw(name, relation_scale=True).float()
    with torch.no_grad():
        model.entity.copy_(size * torch.sign(model.entity))
        model.translation.copy_(size * torch.sign(model.translation))
        model.raw_scale.fill_(raw)
    scores = model.scores(*all_queries(), Identity())
    assert (scores.scale_B * scores.query_BD.square().sum(1) < 1).all()
    score_BE = scores.at(torch.arange(E).expand(E * R, E))
    assert score_BE.isfinite().all()
    score_BE.mean().backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_distmult_starts_away_from_its_own_entities() -> None:
    torch.manual_seed(0)
    model = DistMult(num_entities=300, num_relations=40, dim=32)
    entity_B, relation_B = torch.arange(300), torch.arange(300) % 40
    scores = model.scores(entity_B, relation_B, Identity()).at(torch.arange(300).expand(300, -1))
    own_B = scores.argmax(1) == entity_B
    assert own_B.float().mean() < 0.05  # all of them, were relations near 1


def test_rot2l_has_fewer_parameters_than_rotl_twice() -> None:
    one, two = (sum(p.numel() for p in draw(name).parameters()) for name in ("rotl", "rot2l"))
    assert one < two < one + 2 * 6


def test_penalties_are_the_weighted_norms_of_a_batch() -> None:
    batch = (torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([4, 0]))
    for name, power in (("distmult_dot", 3), ("complex", 3), ("quate", 3), ("rescal", 2)):
        weight = {"f2": 0.3} if name == "rescal" else {"n3": 0.3}
        model = draw(name, **weight)
        p = {key: value.tolist() for key, value in model.state_dict().items()}
        totals = []
        for e, r, t in zip(*(index.tolist() for index in batch), strict=True):
            totals.append(0.0)
            for factor in (p["entity"][e], p["relation"][r], p["entity"][t]):
                moduli = factor
                if name in ("complex", "quate"):
                    size = {"complex": 2, "quate": 4}[name]
                    starts = range(0, len(factor), size)
                    moduli = [math.hypot(*factor[i : i + size]) for i in starts]
                if name == "quate" and factor is p["relation"][r]:
                    moduli = [1.0 for _ in moduli]  # unit quaternions
                totals[-1] += 0.3 * sum(abs(m) ** power for m in moduli)
        assert model.penalty(*batch).tolist() == pytest.approx(totals, rel=1e-10)
        assert draw(name, **dict.fromkeys(weight, 0.0)).penalty(*batch) is None


def test_penalties_are_weighted_like_the_losses_of_their_queries() -> None:
    model = draw("complex", n3=0.3)
    entity_T3 = torch.tensor([[0, 1, 4], [2, 3, 0]])
    index = QueryIndex(*entity_T3.unbind(1), model.num_entities, model.num_relations)
    module = LinkPrediction(model, Identity(), QuerySampling(alpha=1.0), torch.optim.Adam)
    first, second = model.penalty(*entity_T3.unbind(1))
    for weight_B, expected in (
        (None, (first + second) / 2),
        (torch.tensor([0.5, 1.5]), (0.5 * first + 1.5 * second) / 2),
    ):
        batch = QueryBatch(*entity_T3.unbind(1), index, torch.Generator(), weight_B)
        parts = module.loss_parts(batch)
        torch.testing.assert_close(parts["penalty"], expected)
        torch.testing.assert_close(
            parts["loss"], module.loss(module(batch), batch)["loss"] + expected
        )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_grouped_products_are_the_products_of_each_row(groups: list[int]) -> None:
    torch.manual_seed(0)
    plain = [torch.randn(s, dtype=torch.float64) for s in ((len(groups), 3), (4, 3, 2))]
    grouped = [tensor.clone() for tensor in plain]
    for tensor in (*plain, *grouped):
        tensor.requires_grad_()
    group_B = torch.tensor(groups)
    expected_BX = torch.einsum("bd,bdx->bx", plain[0], plain[1][group_B])
    product_BX = multiply_grouped(*grouped, group_B)
    torch.testing.assert_close(product_BX, expected_BX)
    for product in (product_BX, expected_BX):
        product.square().sum().backward()
    for mine, theirs in zip(grouped, plain, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", sorted(set(QUERY) - {"distmult_dot", "complex", "quate"}))
def test_no_penalty_unless_asked(name: str) -> None:
    assert draw(name).penalty(torch.tensor([0]), torch.tensor([0]), torch.tensor([0])) is None


def test_penalty_gradient_is_finite_at_zero() -> None:
    model = draw("complex")
    torch.nn.init.zeros_(model.entity)
    model.penalty(torch.tensor([0]), torch.tensor([0]), torch.tensor([1])).sum().backward()
    assert model.entity.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransE(E, R, 0), "dim must be a whole number of at least 1, got 0"),
        (lambda: TransE(E, R, 4, init_std=0.0), "init_std must be a finite number above 0"),
        *[
            (lambda model=model: model(E, R, 5), f"dim must be even for {model.__name__}")
            for model in (RotL, Rot2L, RotH, RefH, AttH, ComplEx)
        ],
        (lambda: QuatE(E, R, 6), "dim must be a multiple of 4 for QuatE"),
        (lambda: MuRP(E, R, -2), "dim must be a whole number of at least 1, got -2"),
        (lambda: ComplEx(E, R, 4, n3=-1.0), "n3 must be a finite number of at least 0"),
        (lambda: DistMultDot(E, R, 4, n3=math.nan), "n3 must be a finite number"),
        (lambda: RESCAL(E, R, 4, f2=math.inf), "f2 must be a finite number"),
        (
            lambda: TuckER(E, R, 4, relation_dim=0),
            "relation_dim must be a whole number of at least 1, got 0",
        ),
        (lambda: ConvE(E, R, 10), "dim must make an image at least 3 wide for ConvE, got 10"),
        (
            lambda: ConvE(E, R, 16, channels=0),
            "channels must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize("model", choices("model"))
def test_every_choice_composes_and_steps(model: str) -> None:
    generator = torch.Generator().manual_seed(3)
    triple_3T = torch.stack([torch.randint(n, (30,), generator=generator) for n in (9, R, 9)])
    batch = QueryBatch(*triple_3T[:, :6], QueryIndex(*triple_3T, 9, R), generator)
    ids = torch.arange(9), torch.arange(R)
    teacher = TrainedTeacher(TransE(9, R, 4).requires_grad_(False), Hanon(), *ids)
    for activation_name in choices("activation"):
        activation = choose("activation", activation_name)
        for loss_name in choices("loss"):
            taught = {"teachers": [teacher]} if loss_name in TAUGHT else {}
            loss = choose("loss", loss_name, **taught)
            built = choose("model", model, num_entities=9, num_relations=R, dim=12)
            undefined = activation.nonnegative or (loss.nonnegative and not activation.positive)
            if not built.comparator.nonnegative and undefined:
                with pytest.raises(HaleError, match="NegativeDot distances can be below 0"):
                    require_compatible(built.comparator, activation, loss)
                continue
            require_compatible(built.comparator, activation, loss)
            before = built.entity.detach().clone()
            optimizer = torch.optim.SGD(built.parameters(), lr=0.1)
            parts = loss(built.scores(batch.entity_B, batch.relation_B, activation), batch)
            parts["loss"].backward()
            optimizer.step()
            assert all(value.shape == () and value.isfinite() for value in parts.values())
            assert all(p.isfinite().all() for p in built.parameters())
            assert not torch.equal(before, built.entity), (activation_name, loss_name)


def test_incompatible_choices_are_named_with_a_way_out() -> None:
    with pytest.raises(HaleError, match=r"where XExp is not defined: choose activation=identity"):
        require_compatible(NegativeDot(), choose("activation", "xexp"), choose("loss", "all_neg"))
    with pytest.raises(HaleError, match=r"under Identity, and QuerySampling .*activation=hanon"):
        require_compatible(NegativeDot(), Identity(), QuerySampling(square=True))
    require_compatible(NegativeDot(), Hanon(), QuerySampling(square=True))
    require_compatible(NegativeDot(), Identity(), QuerySampling(square=False))


@pytest.mark.parametrize("name", ["conve", "tucker"])
def test_a_last_batch_of_one_row_trains(name: str) -> None:
    model = draw(name)
    model.train()
    rows = torch.zeros(1, dtype=torch.int64)
    scores = model.scores(rows, rows, Identity())
    (gradient,) = torch.autograd.grad(scores.at(rows[:, None]).sum(), model.entity)
    assert gradient.isfinite().all()
