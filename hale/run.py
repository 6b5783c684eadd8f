"""The composition root: Hydra's choices become objects, in the order in which data passes them.

``python -m hale.run model=rotl loss=hale dataset=wn18rr`` trains, tests and records one run;
``-m`` with comma-separated choices sweeps. A run folder that holds a checkpoint but no result is
resumed; one that holds a result is not run again.

Nothing heavy is imported until the settings have been checked, so that ``--help``, completion and
mistakes are answered at once.
"""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hale.errors import EndedError, HaleError, first_line
from hale.runs.interrupts import stoppable
from hale.runs.record import RESULT_FILE, read_result
from hale.runs.sweep_jobs import noted
from hale.runs.terminal import escape_unencodable, outlive_stdout
from hale.settings import conf_dir, recipe, trainer
from hale.settings.build import build
from hale.settings.checks import require_own_machine, require_settings
from hale.settings.compose import choice_as_text, one_budget, quoted, typed_names
from hale.settings.kept import raw, read_settings, write_settings

if TYPE_CHECKING:
    from hale.graphs.kg import KnowledgeGraph

recipe.register()


class UserError(CompactHydraException):
    """A user's mistake in a job of a sweep, which Hydra prints as its message alone."""


def run(cfg: DictConfig, folder: Path, again: Sequence[str] = (), resumed: bool = False) -> float:
    """Train, test and record one run in a folder.

    Hydra's own files in it are written when training starts, so a refused run changes nothing.

    Args:
        cfg: the settings.
        folder: the run's.
        again: arguments of Python that start this command again, if it takes several processes.
        resumed: whether they are those that the folder keeps, with all that was chosen.

    Returns:
        The best value of ``cfg.monitor``, for sweepers.

    Raises:
        HaleError: a user's mistake.
    """
    hydra_job = HydraConfig.get()
    overrides = list(raw(hydra_job.overrides, "task"))
    one_budget(cfg, typed_names(overrides))
    require_settings(cfg, hydra_job.runtime.choices)
    require_own_machine(hydra_job.launcher, cfg.budget.seconds)
    finished = (folder / RESULT_FILE).exists()
    if trainer.processes(cfg.trainer) > 1 and not finished and not trainer.is_worker(os.environ):
        return _in_processes(cfg, folder, again, resumed)
    return _train(cfg, folder, overrides, resumed)


def _train(cfg: DictConfig, folder: Path, overrides: Sequence[str], resumed: bool) -> float:
    """Train, test and record a run whose settings have been checked, in this process."""
    hydra_job = HydraConfig.get()
    hydra_text = OmegaConf.to_yaml(HydraConfig.instance().cfg)
    from hale.training.fit import train
    from hale.training.job import Job
    from hale.training.settle import as_started

    name = raw(hydra_job.job, "override_dirname") or folder.name
    choices, where = dict(hydra_job.runtime.choices), (_sweep(hydra_job), _search_path(hydra_job))
    job = as_started(Job(cfg, choices, overrides, folder, name, *where), resumed)
    finished = (folder / RESULT_FILE).exists()
    with _log(folder / f"{hydra_job.job.name}.log") as begin_log:

        def remember(job: Job) -> None:
            write_settings(folder, job.cfg, hydra_text, job.overrides)
            begin_log()

        record = train(job, lambda: _read_graph(cfg, resumed), remember=remember)
    if finished:
        print(f"{folder} is finished: {cfg.monitor} {record[cfg.monitor]:.4f}")
    return float(record[cfg.monitor])


def _in_processes(cfg: DictConfig, folder: Path, again: Sequence[str], resumed: bool) -> float:
    """Train in a process for each device, started with the arguments ``again``."""
    from hale.distributed.launch import start

    with _where_typed(resumed):
        start(again, trainer.processes(cfg.trainer), cfg.threads)
    record = cast("dict[str, float]", read_result(folder))  # or they would have failed
    return record[cfg.monitor]


def _read_graph(cfg: DictConfig, resumed: bool) -> "KnowledgeGraph":
    """The dataset, its path as it was typed."""
    with _where_typed(resumed):
        return cast("KnowledgeGraph", build(cfg, "dataset"))


def _where_typed(resumed: bool) -> AbstractContextManager[None]:
    """The directory in which the command was typed: with ``hydra.job.chdir`` a job is elsewhere."""
    job = HydraConfig.get()
    return chdir(job.runtime.cwd) if job.job.chdir and not resumed else nullcontext()


def resume(folder: Path, overrides: Sequence[str] = ()) -> float:
    """Continue an interrupted run with the settings that it was started with.

    Args:
        folder: the run's.
        overrides: ``key=value`` of values, not of config groups, that differ from then.

    Raises:
        HaleError: not a run's folder, or what :func:`run` raises.
    """
    from hydra.core.utils import configure_log

    cfg, job = read_settings(folder, overrides)
    with reported(folder):
        typed = OmegaConf.structured(HydraConf)  # as HydraConfig wants it
        with open_dict(typed):
            typed.merge_with(job)
        HydraConfig.instance().set_config(OmegaConf.create({**cfg, "hydra": typed}))
        configure_log(job.job_logging)
        again = ["-m", "hale", "resume", str(folder.resolve()), *overrides]
        return run(cfg, folder.resolve(), again, resumed=True)
    raise AssertionError  # ``reported`` passes on every error


@contextmanager
def _log(path: Path) -> Iterator[Callable[[], None]]:
    """Collect what is logged; the function that is yielded has it written to a file."""
    root, early = logging.getLogger(), MemoryHandler(10_000, logging.CRITICAL + 1)
    handlers: list[logging.Handler] = [early]
    root.addHandler(early)

    def begin() -> None:
        if len(handlers) == 1:
            handlers.append(logging.FileHandler(path, encoding="utf-8", delay=True))
            early.setTarget(handlers[1])
            early.flush()
            root.removeHandler(early)
            root.addHandler(handlers[1])

    try:
        yield begin
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _search_path(job: HydraConf) -> list[str]:
    """The override that finds a job's choices again, those of ``--config-dir`` included."""
    found = [
        quoted(f"{source.schema}://{source.path}")
        for source in job.runtime.config_sources
        if source.provider not in ("hydra", "main", "schema")
    ]
    return [f"hydra.searchpath=[{','.join(found)}]"]


def _sweep(job: HydraConf) -> str | None:
    """The name of the sweep that a job belongs to, if any."""
    return Path(job.sweep.dir).name if job.mode is RunMode.MULTIRUN else None


@contextmanager
def reported(folder: Path, sweep: bool = False) -> Iterator[None]:
    """End a job that fails or is interrupted with one line.

    Args:
        folder: the job's.
        sweep: whether other jobs come after it, so that an exception ends this one alone.
    """
    try:
        with stoppable():
            yield
    except (HaleError, OmegaConfBaseException) as error:
        if trainer.is_follower(os.environ):  # the first process says it
            sys.exit(1)
        line = first_line(error)
        if sweep:
            raise UserError(line) from None
        sys.exit(line)
    except EndedError as error:
        if sweep:
            raise UserError(str(error)) from None
        sys.exit(error.code)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and isinstance(error.code, str):
            raise
        if trainer.is_follower(os.environ):
            raise
        if any((folder / kept).exists() for kept in (".hydra/config.yaml", "start/result.json")):
            sys.exit(f"interrupted; resume with: hale resume {shlex.quote(str(folder))}")
        sys.exit("interrupted before training began: start it again")


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _app(cfg: DictConfig) -> float:
    job = HydraConfig.get()
    folder, sweep = Path(job.runtime.output_dir), job.mode is RunMode.MULTIRUN
    with reported(folder, sweep):
        typed = raw(job.overrides, "task")
        trainer.require_one_folder(raw(job.overrides, "hydra"), sweep, os.environ)
        trainer.join_tasks(os.environ)
        there = f"hydra.run.dir={quoted(str(folder))}"
        again = ["-m", "hale.run", *_search_path(job), *typed, there]
        if not sweep:
            return run(cfg, folder, again)
        below = len(Path(job.sweep.subdir).parts)
        with noted(folder.parents[below - 1], folder, job.job.num, typed):
            return run(cfg, folder, again)
    raise AssertionError  # ``reported`` passes on every error


def main() -> None:
    """Run the command line; ``--cfg`` shows values, not interpolations."""
    escape_unencodable()
    outlive_stdout()
    if any(a == "-c" or a.startswith("--cfg") for a in sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")
    sys.argv[1:] = map(choice_as_text, sys.argv[1:])
    try:
        _app()
    except KeyboardInterrupt:  # outside any run
        sys.exit("interrupted")


if __name__ == "__main__":
    main()
