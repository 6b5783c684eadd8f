"""W&B runs: opened with one line where that fails, summed up by the best, closed with artifacts."""

import json
import logging
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from wandb.errors import AuthenticationError, CommError, UsageError

from hale.errors import HaleError, first_line, require
from hale.runs.folders import RunFolder
from hale.runs.model_folder import NAMES, TRIPLES
from hale.runs.record import defined

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
OLDER = {None: "offline", "": "offline", "dryrun": "offline", "run": "online"}
"""What W&B's older names of modes stand for, and none at all."""
LONGEST_TAG = 64
"""Characters, W&B's limit."""


class RunLogger(WandbLogger):
    """Logs to a W&B run whose summary has the ``valid/*`` of the best validation, not of the last.

    A metric that is not defined (NaN) is logged as null.

    Args:
        run: the open W&B run.
        folder: the run's; a resumed run's best validation is found in its ``curve.csv``.
        monitor: the metric that the best validation maximises.
    """

    def __init__(self, run: wandb.Run, folder: Path, monitor: str) -> None:
        super().__init__(experiment=run)
        self._monitor = monitor
        self._best = -math.inf
        self._seen: set[str] = set()
        with suppress(HaleError):  # a damaged curve is written anew
            for row in RunFolder(folder, (), None, None).curve:
                self._sum_up(row)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row, and sum it up if it is the best validation so far."""
        run = self.experiment
        for name in set(metrics) - self._seen:
            if name.startswith("valid/"):  # by exact name: a pattern's summary is not heeded
                run.define_metric(name, step_metric="train_seconds", summary="none")
        self._seen |= set(metrics)
        super().log_metrics(defined(metrics), step)  # type: ignore[arg-type]  # None is null
        self._sum_up(metrics)

    def _sum_up(self, row: Mapping[str, float]) -> None:
        if row.get(self._monitor, math.nan) > self._best:
            self._best = row[self._monitor]
            best = {name: value for name, value in row.items() if name.startswith("valid/")}
            self.experiment.summary.update(defined(best))


def begin(timeout: float, stats: bool, **arguments: Any) -> wandb.Run:
    """Begin a W&B run, or continue the one of the given ``id``.

    Args:
        timeout: seconds to wait for the server.
        stats: whether to log the use of CPU, memory and GPU.
        **arguments: of ``wandb.init``.

    Raises:
        HaleError: a value that W&B does not take, no login, or no answer from the server.
    """
    require("logger.wandb.timeout", timeout, above=0)
    if not arguments["project"]:
        raise HaleError("logger.wandb.project must be the name of a project, got nothing")
    for name in [n for n, value in os.environ.items() if n.startswith("WANDB_") and not value]:
        del os.environ[name]  # empty is unset, as in a compose file; W&B refuses it
    try:
        settings = wandb.Settings(
            console="off", silent=True, init_timeout=timeout, x_disable_stats=not stats
        )
        run = wandb.init(resume="allow", settings=settings, **arguments)
    except (wandb.errors.Error, ValueError) as error:
        raise HaleError(f"W&B: {_reason(error, timeout)}") from error
    run.define_metric("train_seconds")
    run.define_metric("*", step_metric="train_seconds")
    return run


def mode_of(mode: str | None) -> str:
    """W&B's name of a mode that may be given by an older name, or not at all.

    Raises:
        HaleError: there is no such mode.
    """
    chosen = OLDER.get(mode, mode)
    if chosen not in MODES:
        raise HaleError(f"logger.wandb.mode must be offline, online or disabled, got {mode}")
    return chosen


def checked_tags(tags: Sequence[str] | None) -> list[str]:
    """The tags, each once.

    Raises:
        HaleError: W&B does not take one.
    """
    for tag in tags or ():
        if not (isinstance(tag, str) and 1 <= len(tag) <= LONGEST_TAG):
            raise HaleError(
                f"each of logger.wandb.tags must be text of 1 to {LONGEST_TAG} characters, "
                f"got {tag!r}"
            )
    return list(dict.fromkeys(tags or ()))


def new_id(group: str | None) -> str:
    """An id of its own: that of ``WANDB_RUN_ID`` would be the same for every job of a sweep."""
    asked = os.environ.get("WANDB_RUN_ID")
    if asked and group is not None:
        log.warning("WANDB_RUN_ID is ignored in a sweep: each of its runs has its own id")
    return asked if asked and group is None else secrets.token_hex(6)


def _reason(error: Exception, timeout: float) -> str:
    """What went wrong, and what to do about it, in one line."""
    offline = "logger.wandb.mode=offline"
    if isinstance(error, UsageError) and "API key" not in str(error):
        return first_line(error)
    if isinstance(error, AuthenticationError | UsageError):
        return f"{first_line(error)} (wandb login, or {offline})"
    if isinstance(error, CommError):
        return (
            f"no answer from the server within {timeout:g} s, {first_line(error)} (check the "
            f"network and WANDB_BASE_URL, or choose {offline} and wandb sync later)"
        )
    lines = [line.strip() for line in str(error).splitlines()]
    refused = lines and re.match(r"\d+ validation errors? for", lines[0])  # by pydantic
    return ": ".join(lines[1:3]) if refused else first_line(error)


def close(
    run: wandb.Run, folder: Path, facts: Mapping[str, Any], log_model: bool, log_dataset: bool
) -> None:
    """Complete the summary with what was measured, and log artifacts.

    Args:
        run: the open W&B run.
        folder: the run's, with ``model/`` if it has finished.
        facts: to sum up; none of a run that has not finished.
        log_model: whether to log the model folder, with the facts as metadata but for those of one
            direction: W&B takes 100.
        log_dataset: whether to log the names and triples of the model folder.
    """
    run.summary.update(dict(facts))
    model = folder / "model"
    if not facts or not model.is_dir():
        return
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if log_dataset:
        about = {"fingerprint": config["dataset_fingerprint"]}
        name = f"dataset-{config['dataset']}"
        _log(run, name, "dataset", about, [model / NAMES, model / TRIPLES])
    if log_model:
        about = {name: value for name, value in facts.items() if name.count("/") < 2}
        _log(run, f"model-{run.id}", "model", about, sorted(model.iterdir()))


def _log(
    run: wandb.Run, name: str, kind: str, about: Mapping[str, Any], files: Sequence[Path]
) -> None:
    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "_", name)[:128], kind, metadata=dict(about))
    for file in files:
        artifact.add_file(str(file), name=file.name)
    run.log_artifact(artifact)
