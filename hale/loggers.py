"""Loggers that a config may name, beside the CSV files that every run writes."""

from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


def wandb_logger(
    output_dir: Path,
    name: str,
    group: str | None,
    config: dict[str, Any],
    project: str,
    mode: str,
    tags: list[str] | None = None,
) -> WandbLogger:
    """A W&B run of its own, with ``train_seconds`` as the x-axis of every curve.

    Args:
        output_dir: the run folder; W&B writes below ``wandb/`` in it.
        name: shown name of the run.
        group: the sweep it belongs to.
        config: the resolved config.
        project: W&B project.
        mode: ``offline`` (``wandb sync`` sends it later), ``online`` or ``disabled``.
        tags: W&B tags.
    """
    run = wandb.init(
        dir=output_dir,
        name=name,
        group=group,
        config=config,
        project=project,
        mode=mode,  # type: ignore[arg-type]
        tags=tags,
        settings=wandb.Settings(
            console="off", x_disable_stats=True, x_save_requirements=False, silent=True
        ),
    )
    run.define_metric("train_seconds")
    run.define_metric("*", step_metric="train_seconds")
    return WandbLogger(experiment=run)


def tensorboard_logger(
    output_dir: Path, name: str, group: str | None, config: dict[str, Any]
) -> TensorBoardLogger:
    """TensorBoard event files below ``tensorboard/`` of the run folder."""
    return TensorBoardLogger(save_dir=output_dir, name="tensorboard")
