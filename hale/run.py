"""The composition root: Hydra's choices become objects, in the order in which data passes them.

``python -m hale.run model=rotl loss=hale dataset=wn18rr`` trains, tests and records one run;
``-m`` with comma-separated choices sweeps. A run folder that holds a checkpoint but no result is
resumed; one that holds a result is not run again.

Nothing heavy is imported until the settings have been checked, so that ``--help``, completion and
mistakes are answered at once.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError
from hale.runs.folders import ERROR_FILE
from hale.runs.record import RESULT_FILE
from hale.settings import conf_dir, recipe
from hale.settings.checks import require_own_machine, require_settings
from hale.settings.compose import one_budget, quoted, typed_names

recipe.register()


class UserError(CompactHydraException):
    """A user's mistake in a job of a sweep, which Hydra prints as its message alone."""


def run(cfg: DictConfig, resumed: bool = False) -> float:
    """Train, test and record one run in Hydra's output folder.

    Args:
        cfg: the settings.
        resumed: whether they are those that the folder keeps, with all that was chosen.

    Returns:
        The best value of ``cfg.monitor``, for sweepers.

    Raises:
        HaleError: a user's mistake.
    """
    hydra_job = HydraConfig.get()
    one_budget(cfg, typed_names(hydra_job.overrides.task))
    folder = Path(hydra_job.runtime.output_dir)
    require_own_machine(hydra_job.launcher, cfg.budget.seconds)
    require_settings(cfg, hydra_job.runtime.choices)
    from hale.settings.build import build
    from hale.training.fit import train
    from hale.training.job import Job
    from hale.training.settle import as_started

    name = hydra_job.job.override_dirname or folder.name
    choices, overrides = dict(hydra_job.runtime.choices), list(hydra_job.overrides.task)
    job = Job(cfg, choices, overrides, folder, name, _sweep(hydra_job), _search_path(hydra_job))
    job = as_started(job, resumed)
    finished = (folder / RESULT_FILE).exists()
    record = train(job, lambda: build(cfg, "dataset"))
    if finished:
        print(f"{folder} is finished: {cfg.monitor} {record[cfg.monitor]:.4f}")
    return float(record[cfg.monitor])


def resume(folder: Path, overrides: Sequence[str] = ()) -> float:
    """Continue an interrupted run with the settings that it was started with.

    Args:
        folder: the run's.
        overrides: ``key=value`` of values, not of config groups, that differ from then.

    Raises:
        HaleError: not a run's folder, or what :func:`run` raises.
    """
    from hydra.core.utils import configure_log

    kept = [folder / ".hydra" / f"{name}.yaml" for name in ("config", "hydra")]
    if not all(path.is_file() for path in kept):
        raise HaleError(f"{folder} is not a run folder: it has no .hydra/config.yaml")
    started, hydra_cfg = map(OmegaConf.load, kept)
    cfg, job = OmegaConf.merge(started, OmegaConf.from_dotlist(list(overrides))), hydra_cfg.hydra
    assert isinstance(cfg, DictConfig)
    job.runtime.output_dir = str(folder.resolve())
    job.overrides.task = [*job.overrides.task, *overrides]
    typed = OmegaConf.structured(HydraConf)  # as HydraConfig wants it
    with open_dict(typed):
        typed.merge_with(job)
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": typed}))
    configure_log(job.job_logging)
    with reported(folder, sweep=False):
        return run(cfg, resumed=True)
    raise AssertionError  # ``reported`` passes on every error


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
def reported(folder: Path, sweep: bool) -> Iterator[None]:
    """End a job that fails with one line, kept in its folder as ``error.txt``.

    Args:
        folder: the job's.
        sweep: whether other jobs come after it, so that an exception ends this one alone.
    """
    kept = folder / ERROR_FILE
    try:
        yield
    except (HaleError, OmegaConfBaseException) as error:
        line = str(error).splitlines()[0]
        kept.write_text(f"{line}\n", encoding="utf-8")
        if sweep:
            raise UserError(line) from None
        sys.exit(line)
    except (KeyboardInterrupt, SystemExit):
        sys.exit(f"interrupted; resume with: hale resume {shlex.quote(str(folder))}")
    except Exception as error:
        kept.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
        raise
    kept.unlink(missing_ok=True)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _app(cfg: DictConfig) -> float:
    job = HydraConfig.get()
    with reported(Path(job.runtime.output_dir), sweep=job.mode is RunMode.MULTIRUN):
        return run(cfg)
    raise AssertionError  # ``reported`` passes on every error


def main() -> None:
    """Run the command line; ``--cfg`` shows values, not interpolations."""
    if any(a == "-c" or a.startswith("--cfg") for a in sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")
    _app()


if __name__ == "__main__":
    main()
