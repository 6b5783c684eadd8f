"""One run from its objects to its record: fit to the budget, test the best, write the result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import ceil, inf
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from rich.console import Console, RenderableType

from hale.distributed import processes
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.evaluation.popularity import popularity_metrics
from hale.graphs.data_module import QueryDataModule
from hale.runs.model_folder import write_model
from hale.runs.record import RESULT_FILE, defined, provenance, provenance_of, write_result
from hale.runs.tables import FittedTable
from hale.runs.terminal import escape_unencodable
from hale.scoring.kernels.operations import kernel_variant
from hale.settings.trainer import FIXED
from hale.training.budget import NEVER, Cadence, WallClockBudget
from hale.training.checkpoints import CheckpointFiles, Checkpoints, Identity, ShardedCheckpoints
from hale.training.csv_log import CSVLog, finalized
from hale.training.curve import Curve
from hale.training.module import LinkPrediction
from hale.training.plan import EvaluationPlan
from hale.training.progress import BudgetBar
from hale.training.schedules import BudgetSchedule
from hale.training.segments import Segments, moved
from hale.training.summary import headline, plan_lines, result_rows
from hale.training.teachers import teacher_seconds
from hale.training.trainer import OwnSigterm, make_trainer
from hale.training.verdict import Outcome, verdict
from hale.training.warm_up import WarmUp


@dataclass(frozen=True)
class Run:
    """A run's objects, ready to train.

    Args:
        module: what is trained.
        data: what it is trained on.
        budget: when training stops.
        schedule: factor on the learning rate at a spent share of the budget.
        make_trainer: makes the trainer, given the arguments that every run has in common.
        folder: where everything is written.
        choices: what the record says of the run beside what is measured: ``name``, ``choices`` of
            the config groups, ``overrides`` and the resolved ``config``, whose ``monitor`` the best
            checkpoint maximises and whose ``test`` asks for the test split.
        loggers: beside the CSV files that every run writes.
        callbacks: beside hale's own.
        plan: whose numbers of validations and of queries the trainer and the data have; it is
            printed before training.
        console: where everything is printed.
    """

    module: LinkPrediction
    data: QueryDataModule
    budget: WallClockBudget
    schedule: Callable[[float], float]
    make_trainer: partial[pl.Trainer]
    folder: Path
    choices: Mapping[str, Any]
    loggers: Sequence[Logger] = ()
    callbacks: Sequence[pl.Callback] = ()
    plan: EvaluationPlan | None = None
    console: Console = field(default_factory=Console)

    def train(self) -> dict[str, Any]:
        """Train to the budget, test the best checkpoint and write ``model/`` and ``result.json``.

        The folder's last checkpoint is resumed where there is one. Beside these the folder gets
        ``curve.csv`` (one row per validation), ``csv/`` (everything logged) and ``checkpoints/``.

        Returns:
            The record, as written to ``result.json``.

        Raises:
            HaleError: the run diverged, the folder's checkpoint is of another run, or the trainer
                refuses its arguments.
        """
        escape_unencodable()
        segments, console, trainer = self._segments, self.console, self._trainer
        device, model = trainer.strategy.root_device, self.module.model
        dtype = torch.float64 if trainer.precision == "64-true" else torch.float32
        variant = kernel_variant(device, model.comparator, self.module.activation, model.dim, dtype)
        segments.provenance = provenance(device, variant)  # the code is that of the start
        last = self._checkpoints.last if self._before else None
        before = self._before[segments.state_key]["segments"] if self._before else []
        with finalized(trainer.loggers):
            for line in self._opening(before):
                console.print(line, soft_wrap=True, highlight=False)
            baselines = self._baselines()
            trainer.fit(self.module, datamodule=self.data, ckpt_path=last, weights_only=True)
            metrics = self._metrics_of_best()
        record = defined(metrics | baselines) | dict(self.choices) | self._spent()
        record["verdict"] = verdict(self._outcome(record))
        write_model(self.folder / "model", self.module.model, self.data.graph, record)
        if processes.is_first():
            write_result(self.folder, record)
        for part in self._report(record):
            console.print(part, soft_wrap=isinstance(part, str), highlight=False)
        return record

    @cached_property
    def _identity(self) -> Identity:
        return Identity(self.data.graph.fingerprint, self.choices["config"])

    @cached_property
    def _before(self) -> dict[str, Any] | None:
        """The state of the callbacks in the checkpoint that is resumed; None if there is none."""
        last = self._checkpoints.last
        return self._identity.require(last) if last.exists() else None

    @cached_property
    def _warm_up(self) -> WarmUp:
        return WarmUp()

    @cached_property
    def _curve(self) -> Curve:
        return Curve(self.folder / "curve.csv", self.budget.clock)

    @cached_property
    def _segments(self) -> Segments:
        return Segments(self.budget.clock)

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        monitor = str(self.choices["config"]["monitor"])
        kind = Checkpoints if self.data.shard is None else ShardedCheckpoints
        return kind(self.folder / "checkpoints", self._curve, monitor)

    @cached_property
    def _trainer(self) -> pl.Trainer:
        """The trainer, with hale's callbacks in the order in which they depend on each other."""
        ours = [
            self._identity, self.budget.clock, self.budget,
            Cadence(self.budget, self.choices["config"]["validations"]), self._segments,
            BudgetSchedule(self.budget, self.schedule), self._warm_up, self._curve,
            BudgetBar(self.budget, self.console), OwnSigterm(),
        ]  # fmt: skip
        before, clock = self._before, self.budget.clock
        steps = before[clock.state_key]["steps_done"] if before else 0
        first = processes.is_first()
        loggers = [CSVLog(self.folder, steps), *self.loggers] if first else [DummyLogger()]
        return make_trainer(
            self.make_trainer, callbacks=[*ours, *self.callbacks, self._checkpoints],
            logger=loggers, default_root_dir=self.folder,
            val_check_interval=NEVER, plugins=[CheckpointFiles()], **FIXED,
        )  # fmt: skip

    def _metrics_of_best(self) -> dict[str, float]:
        """``valid/*`` of the best validation, and ``test/*`` of its weights if they are wanted."""
        # weights only: a test by ckpt_path would set the budget back to the checkpoint's
        row = self._checkpoints.load_best(self.module)
        metrics = {name: value for name, value in row.items() if name.startswith("valid/")}
        if self.choices["config"]["test"]:
            (tested,) = self._trainer.test(self.module, datamodule=self.data, verbose=False)
            metrics |= {name: float(value) for name, value in tested.items()}
        return metrics | {"best_step": int(row["step"])}

    def _spent(self) -> dict[str, Any]:
        """What the record says of the run's data, size, cost and provenance."""
        graph, segments = self.data.graph, self._segments()
        return (
            teacher_seconds(self.module.loss)
            | provenance_of(segments)
            | {
                "segments": segments,
                "seed": self.choices["config"]["seed"],
                "dataset_fingerprint": graph.fingerprint,
                "parameters": sum(p.numel() for p in self.module.parameters()),
                "total_seconds": sum(each["seconds"] for each in segments),
                "train_seconds": self.budget.clock.train_seconds,
                "cpu_seconds": self.budget.clock.cpu_seconds,
                "warm_up_seconds": self._warm_up.seconds,
                "steps": self.budget.clock.steps_done,
                "processes": processes.process_count(),
                "valid_queries": min(self.data.valid_queries or inf, 2 * len(graph.valid)),
                "test_queries": min(self.data.test_queries or inf, 2 * len(graph.test)),
            }
        )

    def _baselines(self) -> dict[str, float]:
        """Test metrics of the untrained model, and of the most popular answers per relation."""
        if not self.choices["config"]["test"]:
            return {}
        self.data.setup("test")
        self.module.eval()
        metrics = RankingMetrics(self.data.num_relations)
        untrained = evaluate(self.module, self.data.test_dataloader(), metrics)
        self.module.train()
        baselines = {"untrained": untrained, "popularity": self._popularity("test")}
        return {f"{name}/{key}": m[key] for name, m in baselines.items() for key in m}

    def _popularity(self, split: str) -> dict[str, float]:
        batches = getattr(self.data, {"test": "test", "valid": "val"}[split] + "_dataloader")()
        sizes = self.data.num_entities, self.data.num_relations, self.data.shard
        return popularity_metrics(self.data.train_triple_T3, batches, *sizes)

    def _outcome(self, record: Mapping[str, Any]) -> Outcome:
        """What the verdict is made of, on the test split if there was a test."""
        split = "test" if "test/mrr" in record else "valid"
        batches = len(self.data.train_dataloader())
        popularity = record.get("popularity/mrr") or self._popularity(split)["mrr"]
        return Outcome(
            split=split,
            mrr=record[f"{split}/mrr"],
            ranked=record[f"{split}_queries"],
            total=2 * len(self.data.graph.splits[split]),
            popularity=popularity,
            untrained=record.get("untrained/mrr"),
            steps=record["steps"],
            steps_per_epoch=ceil(batches / self._trainer.accumulate_grad_batches),
            train_seconds=record["train_seconds"]
            - (self.budget.spent if self.budget.steps is None else 0),  # by a search
            cpu_seconds=record["cpu_seconds"] if self.module.device.type == "cpu" else None,
            threads=torch.get_num_threads(),
            setting="budget.seconds" if self.budget.steps is None else "budget.steps",
            planned_step_seconds=self.plan.pace.step_seconds if self.plan else None,
        )

    def _opening(self, before: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What is printed before training, of a run with such segments ``before`` this one."""
        yield headline(self.data.graph, self.choices["choices"], self.folder, bool(before))
        if line := moved(before, self._segments.provenance):
            yield line
        if self.plan is not None and not before:
            yield from plan_lines(self.plan)

    def _report(self, record: Mapping[str, Any]) -> Iterator[RenderableType]:
        """What is printed at the end: a row per split, the baselines, and the verdict."""
        graph, chosen = self.data.graph, self.choices["choices"]
        rows = result_rows(record, 2 * len(graph.valid), 2 * len(graph.test))
        title = f"{chosen.get('model')} with {chosen.get('loss')} on {graph.name}"
        spent = f"{record['steps']:,} steps, {record['train_seconds']:.1f} s of training"
        drop = ("amri", "mr", "hits@3", "hits@1")
        yield FittedTable(rows, f"{title}: {spent}", drop=drop, complete=RESULT_FILE)
        yield str(record["verdict"])
        yield f"{self.folder / RESULT_FILE}"
