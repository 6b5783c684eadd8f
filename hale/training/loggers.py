"""Loggers that a config may name, beside the CSV files that every run writes.

Each is a context that yields a Lightning logger and closes it however the run ends, so that the
next job of a sweep begins its own. ``record`` is what is known of a run before it trains: its
``name``, the ``choices`` of the config groups, and the resolved ``config``.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from hale.errors import HaleError

SILENT = wandb.Settings(console="off", silent=True)


@contextmanager
def wandb_logger(
    output_dir: Path,
    group: str | None,
    record: Mapping[str, Any],
    project: str,
    mode: str,
    tags: list[str] | None = None,
) -> Iterator[WandbLogger]:
    """A W&B run of its own, with ``train_seconds`` as the x-axis of every curve.

    Args:
        output_dir: the run folder; W&B writes below ``wandb/`` in it.
        group: the sweep it belongs to.
        record: name, choices and config.
        project: W&B project.
        mode: ``offline`` (``wandb sync`` sends it later), ``online`` or ``disabled``.
        tags: W&B tags.

    Raises:
        HaleError: W&B has no such mode, or there is no login for ``online``.
    """
    if mode not in ("offline", "online", "disabled"):
        raise HaleError(f"logger.wandb.mode must be offline, online or disabled, got {mode}")
    config = dict(record["config"]) | {"choices": dict(record["choices"])}
    try:
        run = wandb.init(
            dir=output_dir, name=record["name"], group=group, config=config, project=project,
            mode=mode, tags=tags, settings=SILENT,  # type: ignore[arg-type]
        )  # fmt: skip
    except wandb.errors.Error as error:
        line = str(error).splitlines()[0]
        raise HaleError(f"W&B: {line} (wandb login, or logger.wandb.mode=offline)") from error
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
    output_dir: Path, group: str | None, record: Mapping[str, Any]
) -> Iterator[TensorBoardLogger]:
    """TensorBoard event files below ``tensorboard/`` of the run folder.

    Raises:
        HaleError: the tensorboard package is missing.
    """
    try:
        logger = TensorBoardLogger(save_dir=output_dir, name="tensorboard")
    except ModuleNotFoundError as error:
        raise HaleError("logger=tensorboard needs a package: pip install tensorboard") from error
    yield logger


@contextmanager
def mlflow_logger(
    output_dir: Path,
    group: str | None,
    record: Mapping[str, Any],
    experiment: str,
    tracking_uri: str,
) -> Iterator[MLFlowLogger]:
    """An MLflow run, tagged with its choices and the sweep it belongs to.

    Args:
        output_dir: the run folder, kept as a tag.
        group: the sweep it belongs to.
        record: name, choices and config.
        experiment: MLflow experiment.
        tracking_uri: of a server or a folder.

    Raises:
        HaleError: the mlflow package is missing.
    """
    tags = {"folder": str(output_dir), **({"sweep": group} if group else {})}
    if tracking_uri.startswith("file:"):  # refused by MLflow 3 otherwise
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        logger = MLFlowLogger(experiment, record["name"], tracking_uri, tags=tags)
    except ModuleNotFoundError as error:
        raise HaleError("logger=mlflow needs a package: pip install -e '.[mlflow]'") from error
    logger.log_hyperparams(dict(record["choices"]) | {"config": record["config"]})
    yield logger
