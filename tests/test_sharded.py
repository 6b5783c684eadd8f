"""Processes that share the entities compute what one process with all of them does."""

import functools
import os
import time
from pathlib import Path
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from made_up import in_processes
from test_processes import LOSSES, Counted
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from hale.distributed import processes, tensors
from hale.distributed.shards import Shard
from hale.errors import HaleError
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.evaluation.popularity import popularity_metrics
from hale.evaluation.ranking import rank_batch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.models import base
from hale.models.bilinear import ComplEx
from hale.models.euclidean import MuRE
from hale.models.hyperbolic import RotH
from hale.scoring.activations import Halin, Hanon, Identity, XExp
from hale.training.budget import WallClockBudget
from hale.training.job import quiet_lightning
from hale.training.module import LinkPrediction
from hale.training.schedules import linear
from hale.training.train import Run

ENTITIES = 61
"""Which neither two nor four processes divide."""
KINDS = {
    "mure hanon": (MuRE, Hanon()),
    "mure halin": (MuRE, Halin()),
    "mure identity": (functools.partial(MuRE, relation_scale=False), Identity()),
    "mure xexp": (MuRE, XExp()),
    "roth hanon": (RotH, Hanon()),
    "roth identity": (RotH, Identity()),
    "complex identity": (functools.partial(ComplEx, n3=0.1), Identity()),
}
CASES = [
    *((kind, "hale masked") for kind in KINDS if kind != "complex identity"),
    *(("mure hanon", loss) for loss in LOSSES if loss not in ("hale masked", "non_neg")),
    ("complex identity", "all_neg"),
]


def ring(entities: int = ENTITIES, queries: int = 140) -> KnowledgeGraph:
    generator = torch.Generator().manual_seed(1)
    head_T, relation_T = (
        torch.randint(n, (queries + 40,), generator=generator) for n in (entities, 3)
    )
    triple_T3 = torch.stack((head_T, relation_T, (head_T * 7 + relation_T) % entities), 1).unique(
        dim=0
    )
    order_T = torch.randperm(len(triple_T3), generator=generator)
    splits = triple_T3[order_T].split([len(triple_T3) - 40, 20, 20])
    weight_T = torch.rand(len(splits[0]), generator=generator) + 0.5
    names = tuple(map(str, range(entities))), ("a", "b", "c")
    return KnowledgeGraph("ring", *names, *splits, weight=weight_T)


def made(graph: KnowledgeGraph, kind: str, loss: str, dim: int = 8) -> tuple:
    """A module in float64 and its data, in this process's part."""
    shard = Shard(graph.num_entities, processes.rank(), processes.process_count())
    many = shard.processes > 1
    make, activation = KINDS[kind]
    torch.manual_seed(0)
    with base.sharded(shard if many else None):
        model = make(graph.num_entities, 2 * graph.num_relations, dim).double()
    model.exclude_own(torch.tensor([True, False] * graph.num_relations))
    adam = functools.partial(torch.optim.Adam, lr=0.01)
    module = LinkPrediction(model, activation, LOSSES[loss], adam)
    module.configure_model()
    data = QueryDataModule(graph, 93, seed=3, ranking_batch_size=7, shard=shard if many else None)
    data.setup()
    return module, data


def trained(case: tuple[str, str], steps: int) -> dict[str, torch.Tensor]:
    """The first step's loss and gradients, and the parameters after some, of this process."""
    module, data = made(ring(), *case)
    optimizer, found, loader = module.configure_optimizers(), {}, data.train_dataloader()
    for step in range(steps):
        batch = Counted(**vars(next(iter(loader))))
        optimizer.zero_grad()
        loss = module.share(module.loss_parts(batch)["loss"])
        loss.backward()
        module.on_before_optimizer_step(optimizer)
        if step == 0:
            found["loss"] = tensors.total(loss.detach())
            found |= {f"{n} gradient": local(p.grad) for n, p in module.named_parameters()}
        optimizer.step()
    return found | {name: local(p.detach()) for name, p in module.named_parameters()}


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensors.own_rows(tensor).clone()


def all_trained() -> list[dict]:
    return [trained(case, 20 if case == CASES[0] else 2) for case in CASES]


def _everything() -> tuple[list[dict], list[dict], list[int]]:
    """What the tests below compare, of this process."""
    return all_trained(), all_ranked(), [watched(entities) for entities in (2001, 8001)]


@pytest.fixture(scope="module", params=[2, 4])
def several(request, tmp_path_factory) -> list[tuple]:
    """What each of several real processes found."""
    return in_processes(request.param, _everything, tmp_path_factory.mktemp("processes"))


def test_loss_gradients_and_adam_steps_are_those_of_one_process(several):
    """Each loss, comparator and activation; masks, weights, penalties and a last batch of few."""
    for case, one, *shards in zip(CASES, all_trained(), *(s[0] for s in several), strict=True):
        for name, expected in one.items():
            whole = name.split()[0] == "model.entity"
            found = [torch.cat([s[name] for s in shards])] if whole else [s[name] for s in shards]
            for value in found:
                close = torch.allclose(value, expected, rtol=1e-5, atol=1e-8)
                assert close, f"{case} {name}: {(value - expected).abs().max()}"


def all_ranked(dim: int = 4) -> list[dict[str, float]]:
    """Metrics of a model of few integers, many of whose entities are equal, and of popularity."""
    graph = ring()
    found = []
    for kind in ("mure identity", "complex identity"):
        module, data = made(graph, kind, "all_neg", dim)
        generator = torch.Generator().manual_seed(2)
        value_ED = torch.randint(-1, 2, (graph.num_entities, dim), generator=generator).double()
        shard = data.shard or Shard(graph.num_entities, 0, 1)
        with torch.no_grad():
            tensors.own_rows(module.model.entity).copy_(value_ED[shard.first : shard.stop])
            for name, parameter in module.model.named_parameters():
                if name != "entity":
                    parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
        module.eval()
        metrics = RankingMetrics(data.num_relations)
        batches = data.test_dataloader()
        found.append(evaluate(module, batches, metrics))
        sizes = data.num_entities, data.num_relations
        found.append(popularity_metrics(data.train_triple_T3, batches, *sizes, data.shard))
        assert len({len(batches)} | set(processes.gathered(len(batches)))) == 1
    return found


def test_ranks_are_those_of_one_process_ties_over_shards_included(several):
    expected = all_ranked()
    assert expected[0]["tie_gap"] > 0.5  # or there would be no ties
    for _, metrics, _ in several:
        for values, whole in zip(metrics, expected, strict=True):
            assert values == pytest.approx(whole, rel=1e-12, nan_ok=True)


class Watched(TorchDispatchMode):
    """Refuses tensors with more rows or columns than a shard has rows; counts traffic."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sent = most, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        plain = (x for x in pytree.tree_leaves(result) if type(x) is torch.Tensor)
        for tensor in plain:  # those that are distributed have the shape of the whole
            fits = tensor.dim() < 2 or max(tensor.shape) <= self.most
            assert fits, f"{function}: {tuple(tensor.shape)}"
        name = function.name()
        if "c10d" in name and "wait" not in name:
            given = [x for x in pytree.tree_leaves(arguments) if isinstance(x, torch.Tensor)]
            self.sent += sum(x.numel() * x.element_size() for x in given)
        return result


def watched(entities: int) -> int:
    """Bytes of a step, an optimizer's step and the ranking of a batch."""
    graph = ring(entities)
    module, data = made(graph, "mure hanon", "hale masked")
    optimizer = module.configure_optimizers()
    batch, ranked = (next(iter(x)) for x in (data.train_dataloader(), data.test_dataloader()))
    with Watched(-(-entities // processes.process_count())) as seen:
        module.share(module.loss_parts(batch)["loss"]).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
        module.eval()
        rank_batch(module(ranked), ranked)
    return seen.sent


def test_no_process_has_the_table_and_traffic_does_not_grow_with_it(several):
    small, large = (sum(sent) for sent in zip(*(s[2] for s in several), strict=True))
    assert small > 10_000
    assert large == pytest.approx(small, rel=0.05)  # heads and answers have other owners


@given(
    entities=st.integers(1, 80), dim=st.integers(1, 40), processes=st.integers(1, 5),
    block=st.sampled_from([16, 48, 1 << 20]),
)  # fmt: skip
def test_initial_rows_do_not_depend_on_the_number_of_processes(entities, dim, processes, block):
    assume(-(-entities // processes) * (processes - 1) < entities)
    torch.manual_seed(5)
    whole_ED, after = torch.randn(entities, dim), torch.randn(3)
    for rank in range(processes):
        torch.manual_seed(5)
        shard = Shard(entities, rank, processes)
        with mock.patch.object(base, "DRAWN_AT_ONCE", block):
            row_SD = base.initial_rows(shard, dim)
        assert torch.equal(row_SD, whole_ED[shard.first : shard.stop])
        assert torch.equal(torch.randn(3), after)


def test_too_few_entities_are_refused():
    with pytest.raises(HaleError, match="9 entities cannot be sharded over 4 processes"):
        Shard(9, 0, 4)


class Noted(pl.Callback):
    """The steps and learning rates of training, and the steps of validations."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []
        self.validations: list[int] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.steps.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))

    def on_validation_end(self, trainer, *_) -> None:
        self.validations.append(trainer.global_step)


def _by_own_clock(folder: Path, strategy: str) -> tuple:
    """A run of two seconds on a clock that runs 30 % faster in each next process."""
    rank, count = processes.rank(), processes.process_count()
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    quiet_lightning()
    graph, shard = ring(), None
    if strategy == "sharded":
        shard = Shard(graph.num_entities, rank, count)
    with base.sharded(shard):
        model = MuRE(graph.num_entities, 2 * graph.num_relations, 8)
    adam = functools.partial(torch.optim.Adam, lr=0.01)
    module = LinkPrediction(model, Hanon(), LOSSES["hale"], adam)
    groups = ("loss", "dataset", "data", "optimizer", "schedule", "trainer")
    config = {group: {} for group in groups} | {
        "model": {"_target_": "hale.models.euclidean.MuRE", "dim": 8},
        "activation": {"_target_": "hale.scoring.activations.Hanon"},
        "seed": 0, "monitor": "valid/mrr", "test": False, "validations": 5,
    }  # fmt: skip
    noted = Noted()
    arguments = {"accelerator": "cpu", "devices": count, "strategy": strategy}
    Run(
        module,
        QueryDataModule(graph, 93, seed=3, shard=shard),
        WallClockBudget(seconds=2, clock=lambda: time.perf_counter() * (1 + 0.3 * rank)),
        linear,
        functools.partial(pl.Trainer, **arguments),
        folder,
        {"name": "test", "choices": {"model": "mure"}, "overrides": [], "config": config},
        callbacks=[noted],
    ).train()
    return (
        noted.steps,
        noted.validations,
        {n: local(p.detach()) for n, p in model.named_parameters()},
    )


@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_clocks_that_differ_decide_the_same(tmp_path, strategy):
    (steps, validations, weights), *others = in_processes(
        2, _by_own_clock, tmp_path, tmp_path / "run", strategy
    )
    assert len(steps) > 20
    assert len(validations) == 5
    for other_steps, other_validations, other_weights in others:
        assert other_steps == steps
        assert other_validations == validations
        for name, value in weights.items():
            if strategy == "ddp" or name != "entity":
                assert torch.equal(other_weights[name], value), name
