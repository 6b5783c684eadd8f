"""Loggers that a config may name, beside the CSV files that every run writes.

Each is a context that yields a Lightning logger and closes it however the run ends, so that the
next job of a sweep begins its own. ``record`` is what is known of a run before it trains: its
``name``, the ``choices`` of the config groups, the ``overrides`` and the resolved ``config``. A run
that ends well has written its ``result.json`` when its context is closed: W&B and MLflow then take
what was measured from there. The id that W&B or MLflow gave a run is kept in the run's folder, so
that a resumed run continues the same one.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from hale.errors import HaleError, first_line
from hale.runs.files import write_atomically
from hale.runs.record import read_result
from hale.training.wandb_runs import RunLogger, begin, checked_tags, close, mode_of, new_id

SOURCES = ("choices", "overrides", "recipe")
"""What a record says of where its settings come from."""
KNOWN_BEFORE = ("name", "config", *SOURCES)
"""What a record has in common with what is known before training."""
UNREACHED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""MLflow's own settings while a run is opened: it would try for minutes to reach a server."""


@contextmanager
def wandb_logger(
    output_dir: Path, group: str | None, record: Mapping[str, Any], project: str, mode: str | None,
    tags: list[str] | None = None, timeout: float = 15, stats: bool = False,
    log_model: bool = False, log_dataset: bool = False,
) -> Iterator[RunLogger]:  # fmt: skip
    """A W&B run of its own, with ``train_seconds`` as the x-axis of every curve.

    Its summary has the best validation, and at the end what ``result.json`` has beside settings.

    Args:
        output_dir: the run folder; W&B writes below ``wandb/`` in it.
        group: the sweep it belongs to.
        record: name, choices, overrides and config.
        project: W&B project.
        mode: ``offline`` or nothing (``wandb sync`` sends it later), ``online`` or ``disabled``.
        tags: W&B tags.
        timeout: seconds to wait for the server when the run begins.
        stats: whether to log the use of CPU, memory and GPU.
        log_model: whether to log the model folder as an artifact of type ``model``.
        log_dataset: whether to log names and triples as an artifact of type ``dataset``.

    Raises:
        HaleError: a value that W&B does not take, no login, or no answer from the server.
    """
    kept = output_dir / ".wandb-run"
    run = begin(
        timeout, stats, dir=output_dir, id=_kept_id(kept) or new_id(group), name=record["name"],
        group=group, config=_settings(record), project=project, mode=mode_of(mode),
        tags=checked_tags(tags),
    )  # fmt: skip
    if not run.disabled:
        _keep_id(kept, run.id)
    try:
        yield RunLogger(run, output_dir, record["config"]["monitor"])
        close(run, output_dir, measured(output_dir), log_model, log_dataset)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B keeps as the config of a run: its settings, and where they come from."""
    return dict(record["config"]) | {name: record[name] for name in SOURCES if name in record}


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


class RenamingLogger(MLFlowLogger):
    """Leaves out the ``@`` of ``hits@10``, which MLflow does not take in a metric's name."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row."""
        super().log_metrics({name.replace("@", ""): v for name, v in metrics.items()}, step)


@contextmanager
def mlflow_logger(
    output_dir: Path,
    group: str | None,
    record: Mapping[str, Any],
    experiment: str,
    tracking_uri: str | None,
) -> Iterator[MLFlowLogger]:
    """An MLflow run, tagged with its choices and the sweep it belongs to.

    At the end the numbers of ``result.json`` become metrics, its texts and best validation tags.

    Args:
        output_dir: the run folder, kept as a tag.
        group: the sweep it belongs to.
        record: name, choices and config.
        experiment: MLflow experiment.
        tracking_uri: of a server or a folder; ``mlruns/`` in the working directory if empty.

    Raises:
        HaleError: the mlflow package is missing, or the server does not answer.
    """
    tags = {"folder": str(output_dir), **({"sweep": group} if group else {})}
    uri = tracking_uri or "file:./mlruns"
    if uri.startswith("file:"):  # refused by MLflow 3 otherwise
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    kept = output_dir / ".mlflow-run"
    begun = _kept_id(kept)
    try:
        logger = RenamingLogger(experiment, record["name"], uri, tags=tags, run_id=begun)
    except ModuleNotFoundError as error:
        raise HaleError("logger=mlflow needs a package: pip install -e '.[mlflow]'") from error
    with _mlflow_opened(uri):
        _keep_id(kept, str(logger.run_id))
        if begun is None:  # MLflow refuses to change what a run's parameters were
            logger.log_hyperparams(dict(record["choices"]) | {"config": record["config"]})
    yield logger
    _log_measured(logger, measured(output_dir))


def measured(folder: Path) -> dict[str, Any]:
    """What a finished run's ``result.json`` has beside what was known before it trained."""
    record = read_result(folder) or {}
    return {name: value for name, value in record.items() if name not in KNOWN_BEFORE}


def _log_measured(logger: MLFlowLogger, facts: Mapping[str, Any]) -> None:
    numbers = {
        name: float(value)
        for name, value in facts.items()
        if type(value) in (int, float) and not name.startswith("valid/")  # which have a curve
    }
    if numbers:
        logger.log_metrics(numbers, step=int(facts["steps"]))
    for name in sorted(set(facts) - set(numbers)):
        logger.experiment.set_tag(logger.run_id, name.replace("@", ""), str(facts[name]))


@contextmanager
def _mlflow_opened(uri: str) -> Iterator[None]:
    """Say soon, and in one line, that an MLflow server does not answer or refuses."""
    from mlflow.exceptions import MlflowException

    before = {name: os.environ.get(name) for name in UNREACHED}
    os.environ.update({name: v for name, v in UNREACHED.items() if before[name] is None})
    try:
        yield
    except (MlflowException, OSError) as error:
        line = first_line(error)
        raise HaleError(
            f"MLflow at {uri}: {line} (check logger.mlflow.tracking_uri, or MLFLOW_TRACKING_URI)"
        ) from error
    finally:
        for name in UNREACHED:
            if before[name] is None:
                del os.environ[name]


def _kept_id(path: Path) -> str | None:
    """The id that W&B or MLflow knows the folder's run by; None for a run that begins."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def _keep_id(path: Path, run_id: str) -> None:
    with write_atomically(path) as file:
        file.write(f"{run_id}\n")
