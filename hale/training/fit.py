"""Training from Python: a graph in, a trained model out."""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback

from hale.distributed import processes
from hale.errors import DatasetError, HaleError, checked
from hale.graphs.kg import KnowledgeGraph
from hale.runs.files import remove_unfinished
from hale.runs.folders import ERROR_FILE
from hale.runs.lock import LockedError, locked
from hale.runs.record import read_result, require_same_run
from hale.runs.trained import TrainedModel, load
from hale.settings.build import build, build_all
from hale.settings.checks import require_settings
from hale.settings.compose import quoted
from hale.settings.trainer import is_sharded, is_worker
from hale.training.checkpoints import Identity
from hale.training.job import Job, job_of, make_run, quiet_lightning
from hale.training.plan import EvaluationPlan, kept_plan
from hale.training.settle import as_started, decided, settled
from hale.training.trainer import make_trainer

DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM,
)  # fmt: skip
"""Errors of writing for which the run is not to blame."""


@checked
def fit(
    graph: KnowledgeGraph,
    model: str | None = None,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    dim: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Train a model on a graph, by the automatic recipe where nothing else is asked for.

    The same settings give the same model as ``python -m hale.run`` does.

    Args:
        graph: to train on.
        model: a choice of the config group ``model``, as ``"rotl"``.
        seconds: of training; 60 if neither these nor ``steps`` are given.
        steps: of the optimizer, in place of seconds.
        dim: the embedding dimension.
        seed: of the initial vectors and of the order of queries.
        folder: the run's; an interrupted run is resumed there, and a finished one loaded. Without
            it nothing is kept on disk.
        settings: any other, by the names of the command line, as ``{"loss.weight": 2.0}``.

    Raises:
        HaleError: a setting is unknown or out of range, or the folder holds another run.
    """
    given = {"model": model, "model.dim": dim, "budget.seconds": seconds, "budget.steps": steps}
    typed = {name: value for name, value in given.items() if value is not None}
    overrides = overrides_of(typed | {"seed": seed} | dict(settings or {}))
    with tempfile.TemporaryDirectory() as temporary:
        job = job_of(overrides, Path(folder or temporary))
        require_settings(job.cfg, job.choices)
        train(as_started(job), lambda: graph)
        return load(job.folder)


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as overrides of the command line, for a graph in memory and without loggers.

    Raises:
        HaleError: the settings name a dataset, or Hydra's own.
    """
    if fixed := {"dataset", "hydra"} & {name.split(".")[0] for name in settings}:
        raise HaleError(f"settings cannot have {fixed.pop()}: the graph is given")
    given = {"dataset": "memory", "logger": "none"} | dict(settings)
    return [f"{name}={_text(value)}" for name, value in given.items()]


def train(
    job: Job,
    read_graph: Callable[[], KnowledgeGraph],
    callbacks: Sequence[pl.Callback] = (),
    remember: Callable[[Job], None] = lambda job: None,
) -> dict[str, Any]:
    """Settle what a job leaves open, train it on a graph, and return its record.

    A run that is finished is not trained again. Of several processes the first settles what is
    open, and the others train with it. Nothing is written before everything that can be refused
    has been.

    Args:
        job: with the choices that its folder keeps, if there are any.
        read_graph: gives the graph to train on.
        callbacks: beside those of the settings.
        remember: keeps the settings that the job is trained with in its folder.

    Raises:
        HaleError: a user's mistake, the folder holds another run, or something writes it.
    """
    record = read_result(job.folder)
    if record is not None:
        require_same_run(record, job.config, job.folder, lambda: read_graph().fingerprint)
        return record
    with _threads(job.cfg.threads), processes.joined(is_worker(os.environ)):
        graph = read_graph()
        _require_trainable(job, graph)
        if not processes.is_first():
            if is_sharded(job.cfg.trainer):
                decided(job, graph)  # the pace is measured by all
            return make_run(processes.of_first(job), graph, ExitStack(), callbacks).train()
        before = kept_plan(job.folder)
        ready = decided(job, graph)
        with _writing(job.folder, before), ExitStack() as loggers:
            ready = processes.of_first(settled(ready, graph, remember))
            began = LambdaCallback(on_fit_start=lambda *_: remember(ready))
            return make_run(ready, graph, loggers, [*callbacks, began]).train()


@contextmanager
def _writing(folder: Path, before: EvaluationPlan | None) -> Iterator[None]:
    """Hold the lock of a folder while a run writes it, and keep why it failed.

    Raises:
        LockedError: another run writes the folder, or has written it since ``before`` was read.
    """
    with locked(folder):
        if read_result(folder) is not None or kept_plan(folder) != before:
            raise LockedError(f"another run has just written {folder}: start this one again")
        with _failure_kept(folder):
            remove_unfinished(folder)
            yield


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Train with a number of threads, or one that is measured; the process gets its own back."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


def _require_trainable(job: Job, graph: KnowledgeGraph) -> None:
    """Raise HaleError for what the trainer, the callbacks or the folder's checkpoint refuse."""
    quiet_lightning()
    build_all(job.cfg, "callbacks")
    make_trainer(build(job.cfg, "trainer"), logger=False, default_root_dir=job.folder)
    last = job.folder / "checkpoints" / "last.ckpt"
    if last.exists():
        Identity(graph.fingerprint, job.config).require(last)


@contextmanager
def _failure_kept(folder: Path) -> Iterator[None]:
    """Keep why a run failed in its folder, as ``error.txt``, until it succeeds.

    Raises:
        HaleError: the disk is full or fails.
    """
    kept = folder / ERROR_FILE
    try:
        yield
    except Exception as error:
        told = _told(error, folder)
        line = str(told) if isinstance(told, HaleError) else f"{type(told).__name__}: {told}"
        with suppress(OSError):
            kept.write_text(f"{line.splitlines()[0]}\n", encoding="utf-8")
        if told is error:
            raise
        raise told from error
    kept.unlink(missing_ok=True)


def _told(error: Exception, folder: Path) -> Exception:
    """The error as the user is told of it: a full disk in one line, any other as it is."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return HaleError(
            f"{folder} cannot be written ({error.strerror}): free some space, and start the run "
            "again to continue from its last checkpoint"
        )
    return error


def in_memory() -> NoReturn:
    """Stand for the graph of a run that :func:`fit` trained.

    Raises:
        DatasetError: always; only Python has the graph.
    """
    raise DatasetError(
        "dataset=memory is a graph that was given to hale.fit: call it again with the same graph "
        "and folder to resume"
    )


def _text(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"(?!(true|false|null|nan|inf)$)[a-z_]+", value):
        return quoted(value)
    return str(value)
