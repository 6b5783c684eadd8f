"""Loggers that a config may name, beside the CSV files that every run writes.

Each is a context that yields a Lightning logger and closes it however the run ends, so that the
next job of a sweep begins its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from hale.errors import HaleError


@contextmanager
def wandb_logger(
    output_dir: Path,
    name: str,
    group: str | None,
    config: dict[str, Any],
    project: str,
    mode: str,
    tags: list[str] | None = None,
) -> Iterator[WandbLogger]:
    """A W&B run of its own, with ``train_seconds`` as the x-axis of every curve.

    Args:
        output_dir: the run folder; W&B writes below ``wandb/`` in it.
        name: shown name of the run.
        group: the sweep it belongs to.
        config: the resolved config.
        project: W&B project.
        mode: ``offline`` (``wandb sync`` sends it later), ``online`` or ``disabled``.
        tags: W&B tags.

    Raises:
        HaleError: W&B has no such mode, or there is no login for ``online``.
    """
    if mode not in ("offline", "online", "disabled"):
        raise HaleError(f"logger.mode must be offline, online or disabled, got {mode}")
    try:
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
    except wandb.errors.Error as error:
        raise HaleError(
            f"W&B: {str(error).splitlines()[0]} (wandb login, or logger.mode=offline)"
        ) from error
    run.define_metric("train_seconds")
    run.define_metric("*", step_metric="train_seconds")
    try:
        yield WandbLogger(experiment=run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


@contextmanager
def tensorboard_logger(
    output_dir: Path, name: str, group: str | None, config: dict[str, Any]
) -> Iterator[TensorBoardLogger]:
    """TensorBoard event files below ``tensorboard/`` of the run folder.

    Raises:
        HaleError: the tensorboard package is missing.
    """
    try:
        logger = TensorBoardLogger(save_dir=output_dir, name="tensorboard")
    except ModuleNotFoundError as error:
        raise HaleError(
            "logger=tensorboard needs another package: pip install tensorboard"
        ) from error
    yield logger
