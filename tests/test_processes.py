"""Several processes compute what one does, end together, and are refused in one line."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch
from made_up import in_processes
from safetensors.torch import load_file

from hale.distributed.processes import gathered, joined, of_first, rank
from hale.distributed.tensors import mean
from hale.errors import HaleError
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.loaders import TrainLoader
from hale.losses.non_neg import NonNeg
from hale.losses.query_sampling import QuerySampling
from hale.losses.sampled import AdvNeg, Contrastive, SamNeg
from hale.models.bilinear import ComplEx
from hale.models.euclidean import MuRE
from hale.models.hyperbolic import RotH
from hale.scoring.activations import Halin, Hanon, Identity
from hale.settings.trainer import (
    is_follower,
    is_worker,
    join_tasks,
    processes,
    require_one_folder,
    require_processes,
)
from hale.training import checkpoints
from hale.training.clock import TrainingClock
from hale.training.trainer import make_trainer

DDP = {"devices": 2, "strategy": "ddp"}
SECOND = {"RANK": "1", "WORLD_SIZE": "2"}
LOSSES = {
    "hale": QuerySampling(alpha=0.1),
    "hale masked": QuerySampling(alpha=0.3, weight=2.0, mask_known=True),
    "all_neg": QuerySampling(alpha=1.0, square=False),
    "sam_neg": SamNeg(num_negatives=3),
    "adv_neg": AdvNeg(num_negatives=3),
    "contrastive": Contrastive(num_negatives=3),
    "non_neg": NonNeg(),
}


class Counted(QueryBatch):
    """Negatives that depend on the query alone, not on the process that has it."""

    def negatives(self, count: int) -> torch.Tensor:
        return (self.entity_B[:, None] * 7 + torch.arange(count)) % self.answers.num_entities


def batches(graph, rank: int = 0, world_size: int = 1, weight_T=None) -> list[Counted]:
    data = QueryDataModule(graph, batch_size=93, seed=3)
    data.setup()
    loader = TrainLoader(
        graph.train, data.train_answers, 93, 3, rank, world_size, weight_T
    )  # 280 queries: the last batch has one row
    return [Counted(**vars(batch)) for batch in loader]


def gradients(model, loss, activation, batch) -> list[torch.Tensor]:
    parts = loss(model.scores(batch.entity_B, batch.relation_B, activation), batch)
    penalty_B = model.penalty(batch.entity_B, batch.relation_B, batch.target_B)
    total = parts["loss"] if penalty_B is None else parts["loss"] + batch.mean(penalty_B)
    found = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    parameters = model.parameters()
    return [
        total.detach(),
        *(torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)),
    ]


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(
    ("make", "activation"),
    [(MuRE, Hanon()), (MuRE, Halin()), (RotH, Hanon()), (ComplEx, Identity())],
    ids=["mure hanon", "mure halin", "roth hanon", "complex identity"],
)
def test_the_mean_over_processes_is_the_loss_of_one(graph, make, activation, loss, world_size):
    """Loss and gradients, penalty and weights included, also where a process has no row."""
    if make is ComplEx and loss.nonnegative:
        pytest.skip("dot products can be below 0")
    torch.manual_seed(0)
    model = make(graph.num_entities, 2 * graph.num_relations, 8).double()
    weight_T = torch.rand(140) + 0.5
    alone = batches(graph, weight_T=weight_T)
    parts = [batches(graph, rank, world_size, weight_T) for rank in range(world_size)]
    assert any(len(part) == 0 for shard in parts for part in shard)
    for whole, *shares in zip(alone, *parts, strict=True):
        expected = gradients(model, loss, activation, whole)
        found = [gradients(model, loss, activation, share) for share in shares]
        for one, *several in zip(expected, *found, strict=True):
            torch.testing.assert_close(sum(several) / world_size, one, rtol=1e-5, atol=1e-9)


def _tell() -> tuple:
    ticks = count(step=1 + 0.3 * rank())  # clocks that run 30 % apart
    clock = TrainingClock(clock=lambda: next(ticks), cpu_clock=lambda: 0.0)
    clock._since = clock.clock()
    seconds = []
    for _ in range(5):
        clock.read(torch.device("cpu"))
        seconds.append((clock.train_seconds, clock.now()))
    average = mean(torch.tensor([rank() * 1.0])).item()
    return seconds, of_first({"rank": rank()}), gathered(rank()), average


def test_what_processes_tell_each_other(tmp_path):
    for seconds, agreed, every, average in in_processes(2, _tell, tmp_path):
        assert seconds == [(n, n) for n in (1.0, 2.0, 3.0, 4.0, 5.0)]
        assert agreed == {"rank": 0}
        assert every == [0, 1]
        assert average == 0.5


def test_one_process_tells_itself():
    with joined(worker=False):
        assert of_first("x") == "x"
        assert gathered(3) == [3]
        assert mean(torch.tensor([2.0])).item() == 2


def test_which_processes_there_are():
    assert processes({"devices": 1}) == 1
    assert processes({"devices": "auto"}) == 1
    assert processes(DDP | {"num_nodes": 3}) == 6
    assert is_worker(SECOND)
    assert is_follower(SECOND)
    assert not is_follower(SECOND | {"RANK": "0"})
    assert not is_worker({"RANK": "1"})
    require_processes(DDP, SECOND)
    require_processes({"devices": 1}, {})
    require_one_folder(["hydra.run.dir=out"], False, SECOND)


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({"devices": [0, 1]}, {}, "choose trainer=ddp"),
        (DDP | {"devices": "auto"}, {}, "trainer.devices=N"),
        (DDP | {"num_nodes": 2}, {}, "on each machine with torchrun"),
        (DDP, SECOND | {"WORLD_SIZE": "3"}, "3 processes were started, and"),
        ({"devices": 1}, SECOND, "2 processes were started, and"),
        ({"devices": 1}, {"SLURM_PROCID": "1"}, "start all with torchrun"),
    ],
)
def test_other_processes_than_were_started_are_refused(options, environment, words):
    with pytest.raises(HaleError, match=words):
        require_processes(options, environment)


@pytest.mark.parametrize(("tasks", "joined_to"), [(1, {}), (4, {"RANK": "3", "WORLD_SIZE": "4"})])
def test_tasks_of_a_job_are_processes(tasks, joined_to):
    task = SimpleNamespace(
        rank=3, world_size=tasks, local_rank=1, master_addr="node1", master_port=29500
    )
    helpers = SimpleNamespace(TorchDistributedEnvironment=lambda: task)
    environment = {"SUBMITIT_EXECUTOR": "slurm"}
    with mock.patch.dict(sys.modules, {"submitit": mock.Mock(), "submitit.helpers": helpers}):
        join_tasks(environment)
        assert joined_to.items() <= environment.items()
        assert is_worker(environment) == bool(joined_to)
        before = dict(environment) if joined_to else {"RANK": "1", "SUBMITIT_EXECUTOR": "slurm"}
        again = dict(before)
        join_tasks(again)  # of torchrun in a job
        assert again == before


def test_a_job_of_slurm_is_resumed_by_hale_alone(monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "hale"}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    trainer = make_trainer(partial(pl.Trainer, accelerator="cpu", devices=1), logger=False)
    environment = trainer._accelerator_connector.cluster_environment
    assert type(environment).__name__ == "SLURMEnvironment"
    assert not environment.auto_requeue


def test_torchrun_needs_one_folder_and_one_run():
    with pytest.raises(HaleError, match=r"hydra\.run\.dir=FOLDER"):
        require_one_folder([], False, SECOND)
    with pytest.raises(HaleError, match="leave -m out"):
        require_one_folder(["hydra.run.dir=out"], True, SECOND)


def write_ring(folder: Path) -> None:
    """61 entities, which two processes do not divide."""
    edges = [(e, k, (e + k + 1) % 61) for e in range(61) for k in range(3)]
    folder.mkdir()
    for name, kept in (("train", (0, 1, 2, 3, 4, 5, 6, 7)), ("valid", (8,)), ("test", (9,))):
        lines = [f"e{h}\tr{r}\te{t}\n" for n, (h, r, t) in enumerate(edges) if n % 10 in kept]
        (folder / f"{name}.txt").write_text("".join(lines))


RING = (
    "-m", "hale.run", "dataset=tsv", "dataset.path=ring", "model=mure", "model.dim=8",
    "logger=none", "threads=1", "data.batch_size=100", "~recipe", "budget.seconds=null",
    "budget.steps=200", "validations=4",
)  # fmt: skip


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "curve.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


@pytest.mark.parametrize("trainer", ["ddp", "sharded"])
def test_two_processes_train_what_one_does(tmp_path, trainer):
    write_ring(tmp_path / "ring")
    one = python(*RING, "hydra.run.dir=one", cwd=tmp_path)
    logged = (word.replace("logger=none", "logger=wandb") for word in RING)
    both = (*logged, "hydra.run.dir=two", f"trainer={trainer}", "callbacks=lr_monitor")
    two = python(*both, cwd=tmp_path, WANDB_MODE="offline")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert two.stderr.strip() == ""
    assert two.stdout.count("two/result.json") == 1
    assert len(list(tmp_path.glob("two/wandb/offline-run-*"))) == 1
    rows = curve(tmp_path / "two")
    assert len(rows) == 4
    for row, expected in zip(rows, curve(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-6)
    first, second = (json.loads((tmp_path / f / "result.json").read_text()) for f in ("one", "two"))
    assert (first["processes"], second["processes"]) == (1, 2)
    assert second["test/mrr"] == pytest.approx(first["test/mrr"], rel=1e-3)
    assert second["config"]["trainer"]["strategy"] == trainer
    for name in ("untrained/mrr", "popularity/mrr"):
        assert second[name] == pytest.approx(first[name], rel=1e-6)
    weights = [load_file(tmp_path / f / "model/model.safetensors") for f in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-2, atol=1e-3)
    again = python(*both, cwd=tmp_path)
    assert "is finished" in again.stdout
    if trainer == "sharded":
        last = tmp_path / "two/checkpoints/last.ckpt"
        assert checkpoints.read_checkpoint(last)["global_step"] == 200
        next(last.glob("__1_*")).unlink()
        with pytest.raises(HaleError, match="is missing or cut short: copy it again"):
            checkpoints.read_checkpoint(last)


def test_a_checkpoint_of_another_strategy_is_refused(tmp_path):
    groups = ("loss", "dataset", "data", "optimizer", "schedule", "model", "activation")
    config = {group: {} for group in groups} | {"seed": 0, "monitor": "", "validations": 1}
    file, folder = tmp_path / "file.ckpt", tmp_path / "folder.ckpt"
    file.touch()
    folder.mkdir()
    with pytest.raises(HaleError, match="not of a run with trainer=sharded: resume it without"):
        checkpoints.Identity("f", config | {"trainer": {"strategy": "sharded"}}).require(file)
    with pytest.raises(HaleError, match="is of a run with trainer=sharded: resume it with it"):
        checkpoints.Identity("f", config | {"trainer": {"strategy": "ddp"}}).require(folder)


def workers(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found by ps of Linux")
@pytest.mark.parametrize(
    ("trainer", "sent", "then"),
    [
        ("ddp", signal.SIGKILL, 2), ("ddp", signal.SIGTERM, 2),
        ("sharded", signal.SIGKILL, 1), ("sharded", signal.SIGTERM, 4),
    ],
)  # fmt: skip
def test_when_one_process_ends_all_do_and_the_run_is_resumed(tmp_path, trainer, sent, then):
    """Also in another number of processes."""
    write_ring(tmp_path / "ring")
    last = tmp_path / "out/checkpoints/last.ckpt"
    with subprocess.Popen(
        [sys.executable, *RING, "budget.steps=800", "validations=40", f"trainer={trainer}",
         "hydra.run.dir=out"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        deadline = time.monotonic() + 120
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        started = workers(run.pid)
        assert len(started) == 2
        os.kill(started[1], sent)
        _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    changed = (f"trainer.devices={then}", "trainer.log_every_n_steps=9")
    resumed = python("-m", "hale", "resume", "out", *changed, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert (record["steps"], record["processes"]) == (800, then)
    assert len(record["segments"]) == 2
    assert math.isfinite(record["test/mrr"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model=conve", "model.dim=12"), "ConvE normalises over the batch"),
        (("recipe=search",), "recipe=search trains its trials on one device"),
        (("optimizer.lr=1e30",), "training diverged"),
    ],
)
def test_what_several_processes_cannot_do_is_one_line(tmp_path, arguments, words):
    write_ring(tmp_path / "ring")
    kept = [word for word in RING if not (word == "~recipe" and "recipe=search" in arguments)]
    done = python(*kept, "trainer=ddp", "hydra.run.dir=out", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    hydras = ("Error executing job", "Set the environment variable")  # first line and last
    (line,) = [x for x in done.stderr.splitlines() if x and not x.startswith(hydras)]
    assert words in line
