"""One run from its objects to its record: fit to the budget, test the best, write the result."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.console import Console

from hale.budget import WallClockBudget
from hale.checkpoints import Identity, MovableCheckpoint
from hale.data import QueryDataModule
from hale.errors import HaleError
from hale.evaluation.baselines import popularity_scores, popularity_table
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.module import LinkPrediction
from hale.progress import BudgetBar
from hale.queries import QueryBatch
from hale.recording import Curve
from hale.records.model_folder import write_model
from hale.records.results import provenance, result_table, write_result
from hale.scores import ScoreMatrix


@dataclass(frozen=True)
class Run:
    """The facts of a run that its objects do not know.

    Args:
        folder: where everything is written.
        name: shown name.
        config: the resolved config.
        choices: the choice of each config group.
        monitor: the metric that the best checkpoint maximises.
        test: rank the test split at the end.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    choices: dict[str, str]
    monitor: str
    test: bool


def train(
    run: Run,
    module: LinkPrediction,
    data: QueryDataModule,
    budget: WallClockBudget,
    make_trainer: Callable[..., pl.Trainer],
    logger: Logger | None = None,
) -> float:
    """Train to the budget, test the best checkpoint and write ``model/`` and ``result.json``.

    Goes on from the folder's last checkpoint where there is one. Beside these the folder gets
    ``curve.csv`` (one row per validation), ``csv/`` (everything logged) and ``checkpoints/``.

    Returns:
        The best value of ``run.monitor``.

    Raises:
        HaleError: the run diverged, the folder's checkpoint is of another run, the trainer refuses
            its arguments, or it has more than one process.
    """
    started = time.perf_counter()
    console = Console()
    checkpoint = partial(
        MovableCheckpoint, dirpath=run.folder / "checkpoints", enable_version_counter=False
    )
    best = checkpoint(filename="best", monitor=run.monitor, mode="max")
    latest = checkpoint(filename="last")
    curve = Curve(run.folder / "curve.csv", budget)
    identity = Identity(data.graph.fingerprint, run.config)
    callbacks = [identity, budget, curve, BudgetBar(budget, console), best, latest]
    loggers = [CSVLogger(run.folder, name="csv"), *([logger] if logger else [])]
    try:
        trainer = make_trainer(
            callbacks=callbacks, logger=loggers, default_root_dir=run.folder, max_epochs=-1,
            check_val_every_n_epoch=None, num_sanity_val_steps=0, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise HaleError(f"trainer: {error}") from error
    if trainer.world_size > 1:
        raise HaleError(
            f"trainer.devices asks for {trainer.world_size} processes, whose clocks would differ: "
            "a run has one device, trainer.devices=1"
        )
    made = provenance(trainer.strategy.root_device)  # the code that runs is that of the start
    last = run.folder / "checkpoints" / "last.ckpt"
    if last.exists():
        identity.require(last)
    status = "failed"
    try:
        baselines = _baselines(module, data) if run.test else {}
        _say(console, run, module, data, resumed=last.exists())
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None)
        valid = max(curve.rows, key=lambda row: row[run.monitor])
        metrics = {name: value for name, value in valid.items() if name.startswith("valid/")}
        # weights only: a test by ckpt_path would set the budget back to the checkpoint's
        weights = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(weights["state_dict"])
        if run.test:
            trainer.test(module, datamodule=data, verbose=False)
            metrics |= {
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("test/")
            }
        status = "success"
    finally:
        for each in loggers:
            each.finalize(status)
    record = metrics | made | _facts(run, module, data, budget) | {
        "total_seconds": time.perf_counter() - started,
        "best_step": int(valid["step"]),
        **{f"{name}/{key}": value for name, m in baselines.items() for key, value in m.items()},
    }  # fmt: skip
    write_model(run.folder / "model", module.model, data.graph, record)
    write_result(run.folder, record)
    _report(console, run, record, baselines)
    return float(metrics[run.monitor])


def _facts(
    run: Run, module: LinkPrediction, data: QueryDataModule, budget: WallClockBudget
) -> dict[str, Any]:
    """What a record says beside metrics and provenance: the choices, what was spent."""
    return {
        "name": run.name,
        "choices": run.choices,
        "config": run.config,
        "seed": run.config["seed"],
        "dataset_fingerprint": data.graph.fingerprint,
        "parameters": sum(p.numel() for p in module.parameters()),
        "train_seconds": budget.train_seconds,
        "warm_up_seconds": budget.warm_up_seconds,
        "steps": budget.steps_done,
    }


def _baselines(module: LinkPrediction, data: QueryDataModule) -> dict[str, dict[str, float]]:
    """Test metrics of the untrained model and of answering with a relation's commonest answers."""
    data.setup("test")
    batches = data.test_dataloader()
    _, relation_T, answer_T = data.train_query_T3.unbind(1)
    count_ER = popularity_table(relation_T, answer_T, data.num_entities, data.num_relations)
    scorers: dict[str, Callable[[QueryBatch], ScoreMatrix]] = {
        "untrained": module,
        "popularity": lambda batch: popularity_scores(count_ER, batch.relation_B),
    }
    module.eval()
    metrics = {
        name: evaluate(score, batches, RankingMetrics(data.num_relations))
        for name, score in scorers.items()
    }
    module.train()
    return metrics


def _say(
    console: Console, run: Run, module: LinkPrediction, data: QueryDataModule, resumed: bool
) -> None:
    graph = data.graph
    console.print(
        f"{'Going on with' if resumed else 'Training'} {run.choices.get('model')} by "
        f"{run.choices.get('loss')} ({run.choices.get('activation')}) on {graph.name}: "
        f"{graph.num_entities} entities, {graph.num_relations} relations, "
        f"{len(graph.train)} training triples; {torch.get_num_threads()} threads; {run.folder}",
        soft_wrap=True,
    )


def _report(
    console: Console,
    run: Run,
    record: dict[str, Any],
    baselines: dict[str, dict[str, float]],
) -> None:
    rows = {
        split: {
            name.removeprefix(f"{split}/"): value
            for name, value in record.items()
            if name.startswith(f"{split}/")
        }
        for split in ("valid", "test")
        if f"{split}/mrr" in record
    }
    rows |= {f"test, {name}": metrics for name, metrics in baselines.items()}
    title = " · ".join(run.choices.get(group, "") for group in ("model", "loss", "dataset"))
    console.print(result_table(f"{title} · {record['train_seconds']:.1f} s of training", rows))
    console.print(f"{run.folder / 'result.json'}", soft_wrap=True)
