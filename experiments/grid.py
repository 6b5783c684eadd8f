"""The runs of an experiment: Hydra's own sweep of ``conf/experiment``, expanded without running."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError
from hale.run import config_dir
from hale.runs.record import read_result
from hale.training.checkpoints import IDENTITY_KEYS

State = Literal["finished", "stale", "begun", "missing"]

_BUDGET = r"(0|[1-9]\d*)(steps|(\.\d*[1-9])?s?)"


@dataclass(frozen=True)
class Budget:
    """A share of the paper's training seconds (0.25), seconds (60s) or steps (500steps).

    Args:
        text: as the user wrote it, and as the folder of its runs is called.

    Raises:
        HaleError: it is none of them, 0, or not in its shortest form, so that a budget has one
            folder.
    """

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(_BUDGET, self.text) or not self._number:
            raise HaleError(
                "the budget must be a share of the paper's seconds as 0.25, seconds as 60s, or "
                f"steps as 500steps, got {self.text!r}"
            )

    @property
    def in_steps(self) -> bool:
        """Whether it is counted in steps."""
        return self.text.endswith("steps")

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the paper's seconds."""
        return not self.text.endswith("s")

    @property
    def _number(self) -> float:
        return float(self.text.removesuffix("steps").removesuffix("s"))

    def settings(self, paper_seconds: float) -> dict[str, float | int | None]:
        """The settings of ``budget`` for a run that has ``paper_seconds`` in the paper."""
        if self.in_steps:
            return {"seconds": None, "steps": int(self._number)}
        return {"seconds": self._number * (paper_seconds if self.is_share else 1)}


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Args:
        folder: where its record is, or will be.
        overrides: what ``hale.run`` is called with, but for the folder.
        config: the resolved config.
    """

    folder: Path
    overrides: tuple[str, ...]
    config: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """Its training seconds, unless its budget is in steps."""
        seconds: float | None = self.config["budget"]["seconds"]
        return seconds

    def state(self) -> State:
        """How far it is; ``stale`` is finished with other settings than the config's of today."""
        record = read_result(self.folder)
        if record is None:
            begun = (self.folder / "checkpoints" / "last.ckpt").exists()
            return "begun" if begun else "missing"
        return "stale" if self.changed(record) else "finished"

    def changed(self, record: dict[str, Any]) -> list[str]:
        """The parts of the config in which a record of this run differs from it."""
        parts = (*IDENTITY_KEYS, "budget")
        return [part for part in parts if record["config"].get(part) != self.config[part]]


def expand(
    experiment: str, budget: Budget, folder: Path, overrides: tuple[str, ...] = ()
) -> list[PlannedRun]:
    """All runs of an experiment, in the order of its sweep.

    Args:
        experiment: a file of ``conf/experiment``.
        budget: of each run.
        folder: the records lie in the experiment's ``hydra.sweep.subdir`` of it.
        overrides: in Hydra's grammar; one of a swept setting replaces its values.

    Raises:
        HaleError: what Hydra refuses, or a share of seconds that the paper does not have.
    """
    with _hydra(experiment):
        return [_plan(job, budget, folder) for job in _sweep(experiment, overrides)]


def sweep(experiment: str, overrides: tuple[str, ...] = ()) -> list[list[str]]:
    """The overrides of each run of an experiment, not yet composed; see :func:`expand`."""
    with _hydra(experiment):
        return _sweep(experiment, overrides)


@contextmanager
def _hydra(experiment: str) -> Iterator[None]:
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="hale"):
            yield
    except (HydraException, OmegaConfBaseException) as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        raise HaleError(f"experiment {experiment}: {lines}") from None


def _sweep(experiment: str, overrides: tuple[str, ...]) -> list[list[str]]:
    cfg = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    params = cfg.hydra.sweeper.params or {}
    grid = [f"{key}={values}" for key, values in params.items()]
    parsed = OverridesParser.create().parse_overrides([*grid, *overrides])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [[f"experiment={experiment}", *job] for job in jobs]


def _plan(overrides: list[str], budget: Budget, folder: Path) -> PlannedRun:
    cfg = compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    settings = budget.settings(cfg.budget.seconds if budget.is_share else 0.0)
    for key, value in settings.items():
        cfg.budget[key] = value
        overrides.append(f"budget.{key}={'null' if value is None else value}")
    keys = [str(key) for key in cfg if key != "hydra"]
    config: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)
    return PlannedRun(folder / cfg.hydra.sweep.subdir, tuple(overrides), config)
