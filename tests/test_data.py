"""QueryDataModule: what the loaders yield, and exact resumption under Lightning."""

import dataclasses
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import DoublePrecision

from hale.errors import ArgumentError, HaleError
from hale.graphs import loaders
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.indexed import known_answers
from hale.graphs.kg import reciprocal
from hale.graphs.loaders import RankingLoader, TrainLoader

Rows = list[tuple[int, int, int]]


def rows(batch: QueryBatch) -> Rows:
    columns = (batch.entity_B, batch.relation_B, batch.target_B)
    return list(map(tuple, torch.stack(columns, 1).tolist()))


def epoch(loader: TrainLoader | RankingLoader) -> Rows:
    return [row for batch in loader for row in rows(batch)]


@pytest.fixture
def data(graph) -> QueryDataModule:
    data = QueryDataModule(graph, batch_size=48, seed=5, ranking_batch_size=7)
    data.setup()
    return data


def test_an_epoch_is_every_training_query_once(graph, data):
    expected = list(map(tuple, reciprocal(graph.train, 3).tolist()))
    loader = data.train_dataloader()
    sizes = [len(batch) for batch in loader]
    assert sizes == [48] * 5 + [40]
    assert len(loader) == 6
    first, second = epoch(loader), epoch(loader)
    assert sorted(first) == sorted(second) == sorted(expected)
    assert len({tuple(order) for order in (first, second, expected)}) == 3


def test_order_and_negatives_depend_on_the_seed_alone(graph, data):
    def draws(seed: int) -> tuple[list[Rows], torch.Tensor]:
        data = QueryDataModule(graph, batch_size=48, seed=seed)
        data.setup()
        torch.manual_seed(torch.seed() % 1000)  # the global stream plays no part
        batches = [batch for loader in [data.train_dataloader()] * 2 for batch in loader]
        negatives = torch.cat([batch.negatives(3) for batch in batches])
        return [rows(batch) for batch in batches], negatives

    (first, negatives), (again, again_negatives), (other, _) = draws(5), draws(5), draws(6)
    assert first == again
    assert torch.equal(negatives, again_negatives)
    assert first != other
    per_batch = negatives.split([len(batch) for batch in first])
    assert len({tuple(part[:40].flatten().tolist()) for part in per_batch}) == len(first)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 40), st.integers(1, 25), st.integers(0, 3), st.integers(0, 2), st.integers(1, 30)
)
def test_the_order_is_a_permutation_of_all_queries_at_once(triples, batch_size, seed, done, block):
    """As in the first version, which shuffled a copy of all queries: records depend on it."""
    generator = torch.Generator().manual_seed(triples)
    triple_T3 = torch.stack(
        [torch.randint(n, (triples,), generator=generator) for n in (9, 3, 9)], 1
    )
    weight_T = torch.rand(triples, generator=generator)
    answers = known_answers([triple_T3], 9, 6)
    query_T3 = torch.cat((triple_T3, triple_T3.flip(1) + torch.tensor([0, 3, 0])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "ROWS", block)  # of a block, which is one batch or several
        loader = TrainLoader(triple_T3, answers, batch_size, seed, weight_T=weight_T)
        epochs = [list(loader) for _ in range(done + 1)]
    for epoch, batches in enumerate(epochs):
        mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
        order = torch.randperm(2 * triples, generator=torch.Generator().manual_seed(int(mixed[0])))
        found_T3 = torch.tensor([row for batch in batches for row in rows(batch)])
        assert torch.equal(found_T3, query_T3[order])
        assert torch.equal(torch.cat([b.weight_B for b in batches]), weight_T.repeat(2)[order])
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_answers_are_of_train_in_training_and_of_all_splits_in_ranking(graph, data):
    known = {"train": set(epoch(data.train_dataloader()))}
    known["all"] = {
        tuple(row)
        for triple_T3 in graph.splits.values()
        for row in reciprocal(triple_T3, graph.num_relations).tolist()
    }
    for loader, split in (
        (data.train_dataloader(), "train"),
        (data.val_dataloader(), "all"),
        (data.test_dataloader(), "all"),
    ):
        for batch in loader:
            row_P, entity_P = batch.known(len(batch)).pairs()
            found = {
                (batch.entity_B[row].item(), batch.relation_B[row].item(), entity)
                for row, entity in zip(row_P.tolist(), entity_P.tolist(), strict=True)
            }
            queries = {row[:2] for row in rows(batch)}
            assert found == {fact for fact in known[split] if fact[:2] in queries}
            assert batch.is_answer(batch.target_B[:, None]).all()


def test_ranking_queries_are_both_directions_in_order(graph, data):
    for loader, triple_T3 in (
        (data.val_dataloader(), graph.valid),
        (data.test_dataloader(), graph.test),
    ):
        expected = list(map(tuple, triple_T3.tolist())) + [
            (t, r + 3, h) for h, r, t in triple_T3.tolist()
        ]
        assert epoch(loader) == epoch(loader) == expected
        assert [len(batch) for batch in loader] == [7] * 5 + [5]
        assert len(loader) == 6
        with pytest.raises(ValueError, match="no negatives"):
            next(iter(loader)).negatives(1)


def test_a_ranking_sample_is_the_same_in_every_run(graph, data):
    everything = {split: epoch(loader()) for split, loader in (
        ("valid", data.val_dataloader), ("test", data.test_dataloader)
    )}  # fmt: skip

    def ranked(seed: int, valid: int | None, test: int | None) -> tuple[Rows, Rows]:
        data = QueryDataModule(graph, 48, seed, 7, valid_queries=valid, test_queries=test)
        data.setup()
        torch.manual_seed(seed)
        trained = map(tuple, reciprocal(graph.train, graph.num_relations).tolist())
        assert set(epoch(data.train_dataloader())) == set(trained)
        assert epoch(data.val_dataloader()) == epoch(data.val_dataloader())
        return epoch(data.val_dataloader()), epoch(data.test_dataloader())

    few, many = ranked(0, 9, 25), ranked(1, 25, None)
    assert ranked(2, 9, 25) == few
    assert [len(few[0]), len(few[1]), len(many[0])] == [9, 25, 25]
    assert set(few[0]) < set(many[0]) < set(everything["valid"])
    assert [row for row in everything["valid"] if row in set(few[0])] == few[0]  # in order
    assert few[0] != everything["valid"][:9]
    assert {row[1] >= 3 for row in few[0]} == {False, True}  # both directions
    assert set(few[1]) < set(everything["test"])
    assert many[1] == everything["test"]
    for valid, test in ((None, None), (40, 41)):
        assert ranked(3, valid, test) == (everything["valid"], everything["test"])


def test_a_sample_is_filtered_by_all_answers_and_shared_by_processes(graph, data):
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    shards = []
    for rank in range(2):
        part = QueryDataModule(graph, batch_size=48, seed=5, valid_queries=11)
        part.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=2)
        part.setup("fit")
        shards += [epoch(part.val_dataloader())]
        batch = next(iter(part.val_dataloader()))
        for ours, whole in zip(
            batch.known(len(batch)).pairs(),
            data.all_answers.lookup(batch.entity_B, batch.relation_B).pairs(),
            strict=True,
        ):
            assert torch.equal(ours, whole)
    assert [len(shard) for shard in shards] == [6, 5]
    alone = QueryDataModule(graph, batch_size=48, seed=5, valid_queries=11)
    alone.setup()
    assert sorted(shards[0] + shards[1]) == sorted(epoch(alone.val_dataloader()))


def test_data_module_has_the_sizes_of_queries(graph, data):
    assert (data.num_entities, data.num_relations) == (60, 6)
    assert data.graph is graph
    batch = next(iter(data.train_dataloader()))
    assert data.transfer_batch_to_device(batch, torch.device("meta"), 0) is batch
    before = data.train_answers
    data.setup("test")
    assert data.train_answers is before  # built once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1, got 1.5"),
        (
            {"ranking_batch_size": -1},
            "ranking_batch_size must be a whole number of at least 1, got -1",
        ),
        ({"valid_queries": 0}, "valid_queries must be a whole number of at least 1, got 0"),
        ({"test_queries": 2.0}, "test_queries must be a whole number of at least 1, got 2.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_arguments_out_of_range(graph, change, message):
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        QueryDataModule(graph, **({"batch_size": 1, "seed": 0} | change))


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 60), st.integers(4, 30), st.integers(1, 4))
def test_processes_share_every_batch(size, batch_size, world_size):
    triple_T3 = torch.stack((torch.arange(size), torch.arange(size) % 2, torch.arange(size)), 1)
    answers = known_answers([triple_T3], size, 4)
    alone = list(map(rows, TrainLoader(triple_T3, answers, batch_size, 3)))
    shards = [
        [*TrainLoader(triple_T3, answers, batch_size, 3, rank, world_size)]
        for rank in range(world_size)
    ]
    for whole, *parts in zip(alone, *shards, strict=True):
        assert sorted(whole) == sorted(row for part in parts for row in rows(part))
        for count in range(len(whole) + 1):
            first = [row for part in parts for row in rows(part)[: part.rows(count)]]
            assert sorted(first) == sorted(whole[:count])
        assert {part.total for part in parts} == {len(whole)}
        value_B = torch.tensor([float(entity**2) for entity, _, _ in whole])
        means = [part.mean(part.entity_B.double() ** 2) for part in parts]
        assert sum(means) / world_size == pytest.approx(value_B.mean().item())
    if world_size > 1 and len(shards[0][0]) == len(shards[1][0]):
        assert not torch.equal(shards[0][0].negatives(9), shards[1][0].negatives(9))

    query_T3 = reciprocal(triple_T3, 2)
    ranked = [
        epoch(RankingLoader(query_T3, answers, batch_size, rank, world_size))
        for rank in range(world_size)
    ]
    every = sorted(row for shard in ranked for row in shard)
    assert every == sorted(map(tuple, query_T3.tolist()))


@pytest.mark.parametrize("stop", [1, 4, 6, 8, 12])  # in the middle and at the end of an epoch
def test_state_resumes_at_any_batch(data, stop):
    def stream(loader: TrainLoader):
        for _ in range(4):
            yield from loader

    whole = [
        (rows(batch), batch.negatives(2).tolist()) for batch in stream(data.train_dataloader())
    ]
    interrupted = data.train_dataloader()
    batches = stream(interrupted)
    for _ in range(stop):
        next(batches)
    state = interrupted.state_dict()
    resumed = data.train_dataloader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    rest = [(rows(batch), batch.negatives(2).tolist()) for batch in stream(resumed)]
    assert rest[: 24 - stop] == whole[stop:]


def test_an_abandoned_iteration_is_continued(data):
    whole = epoch(data.train_dataloader())
    loader = data.train_dataloader()
    first = rows(next(iter(loader)))
    assert first + epoch(loader) == whole


def test_module_takes_the_trainers_shard(graph, data):
    whole = list(map(rows, data.train_dataloader()))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    shards = []
    for rank in range(2):
        data = QueryDataModule(graph, batch_size=48, seed=5)
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=2)
        data.setup("fit")
        shards.append(list(map(rows, data.train_dataloader())))
        assert epoch(data.test_dataloader()) == [
            tuple(row) for row in reciprocal(graph.test, 3)[rank::2].tolist()
        ]
    for batch, even, odd in zip(whole, *shards, strict=True):
        assert (batch[::2], batch[1::2]) == (even, odd)


def weighted(graph) -> dict[tuple[int, int, int], float]:
    """The weight that each training query is expected to have: it differs for every triple."""
    weight_T = graph.weight.double() / graph.weight.double().mean()
    query_T3 = reciprocal(graph.train, graph.num_relations)
    return dict(zip(map(tuple, query_T3.tolist()), weight_T.repeat(2).tolist(), strict=True))


def test_weights_stay_with_their_rows(graph):
    graph = dataclasses.replace(graph, weight=torch.arange(len(graph.train)).float())
    expected = weighted(graph)
    data = QueryDataModule(graph, batch_size=48, seed=5)
    data.setup()
    loader, seen = data.train_dataloader(), 0
    for batch in [*loader, *loader]:  # two epochs in different orders
        assert batch.weight_B.tolist() == pytest.approx([expected[row] for row in rows(batch)])
        seen += len(batch)
    assert seen == 2 * len(expected)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    for rank in range(2):
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=2)
        for batch in data.train_dataloader():
            assert batch.weight_B.tolist() == pytest.approx([expected[row] for row in rows(batch)])
    assert all(batch.weight_B is None for batch in data.val_dataloader())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 17))
def test_a_resumed_run_has_the_weights_of_its_rows(graph, stop):
    graph = dataclasses.replace(graph, weight=1 + torch.arange(len(graph.train)).float())
    data = QueryDataModule(graph, batch_size=48, seed=5)
    data.setup()

    def stream(loader: TrainLoader):
        for _ in range(4):
            yield from loader

    whole = [(rows(batch), batch.weight_B.tolist()) for batch in stream(data.train_dataloader())]
    interrupted, resumed = data.train_dataloader(), data.train_dataloader()
    batches = stream(interrupted)
    for _ in range(stop):
        next(batches)
    resumed.load_state_dict(interrupted.state_dict())
    rest = [(rows(batch), batch.weight_B.tolist()) for batch in stream(resumed)]
    assert rest[: 24 - stop] == whole[stop:]


def test_weights_change_neither_the_order_nor_the_negatives(graph, data):
    graph = dataclasses.replace(graph, weight=1 + torch.arange(len(graph.train)).float())
    other = QueryDataModule(graph, batch_size=48, seed=5)
    other.setup()
    for ours, plain in zip(other.train_dataloader(), data.train_dataloader(), strict=True):
        assert plain.weight_B is None
        assert rows(ours) == rows(plain)
        assert torch.equal(ours.negatives(3), plain.negatives(3))


def test_a_batch_in_double_precision_keeps_its_ids_and_its_index(graph):
    graph = dataclasses.replace(graph, weight=1 + torch.arange(len(graph.train)).float())
    data = QueryDataModule(graph, batch_size=48, seed=5)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    double = DoublePrecision().convert_input(batch)
    assert (double.weight_B.dtype, batch.weight_B.dtype) == (torch.float64, torch.float32)
    assert torch.equal(double.weight_B, batch.weight_B.double())
    assert rows(double) == rows(batch)
    assert double.answers is batch.answers
    assert double.generator is batch.generator


def test_state_of_other_data_is_refused(graph, data):
    state = data.train_dataloader().state_dict()
    other = QueryDataModule(graph, batch_size=32, seed=5)
    other.setup()
    with pytest.raises(HaleError, match="have 6 batches, this run's have 9: resume with the same"):
        other.train_dataloader().load_state_dict(state)


class Recorder(pl.LightningModule):
    """One weight that is trained on the ids it sees; keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[Rows, list[int]]] = []

    def training_step(self, batch: QueryBatch, batch_idx: int) -> torch.Tensor:
        negative_B = batch.negatives(1).squeeze(1)
        self.seen.append((rows(batch), negative_B.tolist()))
        aim = (batch.target_B - negative_B).float().mean()
        return (self.weight - aim).square()

    def validation_step(self, batch: QueryBatch, batch_idx: int) -> None:
        assert batch.generator is None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


STEPS = 20  # 6 batches an epoch


def fit(graph, folder: Path, steps: int, resume: Path | None = None, **arguments) -> Recorder:
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory")
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
        data = QueryDataModule(graph, batch_size=48, seed=5)
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    assert trainer.global_step == steps
    return module


@pytest.fixture(scope="module")
def uninterrupted(graph, tmp_path_factory) -> Recorder:
    return fit(graph, tmp_path_factory.mktemp("whole"), STEPS, enable_checkpointing=False)


@pytest.mark.parametrize("stop", [1, 4, 6, 9, 12])
@pytest.mark.parametrize("validation", [1.0, 3])
def test_resumed_run_sees_and_learns_the_same(graph, uninterrupted, tmp_path, stop, validation):
    every = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=stop, save_top_k=-1)
    fit(graph, tmp_path, stop + 1, callbacks=[every], val_check_interval=validation)
    resume = tmp_path / f"step={stop}.ckpt"
    resumed = fit(
        graph, tmp_path, STEPS, resume, enable_checkpointing=False, val_check_interval=validation
    )
    assert resumed.seen == uninterrupted.seen[stop:]
    assert torch.equal(resumed.weight, uninterrupted.weight)


@pytest.mark.parametrize(
    ("interval", "epoch_end"), [(1.0, False), (3, False), (4, False), (4, True)]
)
def test_checkpoint_after_validation_or_epoch_resumes_too(
    graph, uninterrupted, tmp_path, interval, epoch_end
):
    after = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=epoch_end)
    fit(graph, tmp_path, STEPS, callbacks=[after], val_check_interval=interval)
    resumes = sorted(tmp_path.glob("step=*.ckpt"))
    assert len(resumes) >= 3
    for resume in resumes:
        step = int(resume.stem.removeprefix("step="))
        resumed = fit(
            graph, tmp_path, STEPS, resume, enable_checkpointing=False, val_check_interval=interval
        )
        assert resumed.seen == uninterrupted.seen[step:], step
        assert torch.equal(resumed.weight, uninterrupted.weight)


def test_data_modules_of_a_graph_share_its_indices(graph):
    """A run makes several: to measure its pace, to search, and to train."""
    first, second = (QueryDataModule(graph, batch_size=size, seed=0) for size in (8, 16))
    first.setup()
    second.setup()
    assert first.all_answers is second.all_answers
    other = dataclasses.replace(graph, train=graph.train[1:])
    third = QueryDataModule(other, batch_size=8, seed=0)
    third.setup()
    assert third.train_answers is not first.train_answers
    assert len(epoch(third.train_dataloader())) == len(epoch(first.train_dataloader())) - 2
