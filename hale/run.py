"""The composition root: Hydra's choices become objects, in the order of the data's way.

``python -m hale.run model=rotl loss=hale dataset=wn18rr`` trains, tests and records one run;
``-m`` with comma-separated choices sweeps. A run folder that holds a checkpoint but no result is
gone on with (``hale resume=FOLDER``); one that holds a result is not run again.

Nothing heavy is imported until a run begins, so that ``--help`` and completion answer at once.
"""

import logging
import math
import os
import re
import sys
import warnings
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hale.sweeps import require_own_machine


class UserError(CompactHydraException):
    """A mistake of the user's, which Hydra prints as its message alone."""


class WritableOutput(Callback):
    """Ends the command with one line where its output folder cannot be written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the run's folder."""
        HydraConfig.instance().set_config(config)  # the folder's name may hold the choices
        _require_writable(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the sweep's folder."""
        HydraConfig.instance().set_config(config)
        _require_writable(Path(config.hydra.sweep.dir))


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        sys.exit(f"cannot write to the output folder {folder}: choose another, hydra.run.dir=...")


def config_dir() -> Path:
    """The ``conf`` folder: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def build(leaf: DictConfig, /, **facts: Any) -> Any:
    """Instantiate a leaf of the config; ``facts`` are arguments known only at run time.

    Raises:
        HaleError: the leaf's arguments are refused, in the words of what refused them.
    """
    from hale.errors import HaleError

    try:
        return instantiate(leaf, _convert_="all", **facts)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, HaleError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError | OSError):
            raise HaleError(str(cause)) from error
        raise


def run(cfg: DictConfig) -> float:
    """Train, test and record one run in Hydra's output folder.

    Returns:
        The best value of ``cfg.monitor``, for sweepers.

    Raises:
        HaleError: a mistake of the user's.
    """
    job = HydraConfig.get()
    require_own_machine(job.launcher, cfg.budget.seconds)

    import pytorch_lightning as pl
    import torch

    from hale.checkpoints import IDENTITY_KEYS
    from hale.data import QueryDataModule
    from hale.errors import HaleError
    from hale.losses.base import require_compatible
    from hale.module import LinkPrediction
    from hale.records.results import read_result
    from hale.training import Run, train

    _require_settings(cfg)
    _quieten()
    folder = Path(job.runtime.output_dir)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    finished = read_result(folder)
    if finished is not None:
        for key in (*IDENTITY_KEYS, "budget"):
            if finished["config"].get(key) != config[key]:
                raise HaleError(f"{folder} holds a finished run of another {key}: choose another")
        print(f"{folder} is finished: {cfg.monitor} {finished[cfg.monitor]:.4f}")
        return float(finished[cfg.monitor])

    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    pl.seed_everything(cfg.seed, workers=False, verbose=False)
    budget = build(cfg.budget, schedule=build(cfg.schedule))
    activation = build(cfg.activation)
    loss = build(cfg.loss)
    graph = build(cfg.dataset)
    model = build(cfg.model, num_entities=graph.num_entities, num_relations=2 * graph.num_relations)
    require_compatible(model.comparator, activation, loss)
    module = LinkPrediction(model, activation, loss, build(cfg.optimizer))
    data = QueryDataModule(graph, seed=cfg.seed, **cfg.data)
    choices = {
        group: choice
        for group, choice in job.runtime.choices.items()
        if not group.startswith("hydra/")
    }
    name = job.job.override_dirname or folder.name
    sweep = Path(job.sweep.dir).name if job.mode is RunMode.MULTIRUN else None
    interval: int | timedelta = (
        math.ceil(budget.steps / cfg.validations)
        if budget.steps  # in seconds a little more, or one would come just before the end's
        else timedelta(seconds=budget.seconds / (cfg.validations - 0.25))
    )

    facts = Run(folder, name, config, choices, cfg.monitor, cfg.test)
    make_trainer = partial(build(cfg.trainer), val_check_interval=interval)
    tracked = config | {"choices": choices}  # what a dashboard groups by
    tracking = (
        build(cfg.logger)(output_dir=folder, name=name, group=sweep, config=tracked)
        if cfg.logger
        else nullcontext()
    )
    with tracking as logger:
        return train(facts, module, data, budget, make_trainer, logger)


WHOLE_NUMBERS = {
    "seed": 0, "validations": 1, "threads": 1, "budget.steps": 1, "data.batch_size": 1,
    "data.ranking_batch_size": 1,
}  # fmt: skip
"""Settings that are whole numbers or null, and the least of each."""


def _require_settings(cfg: DictConfig) -> None:
    """Raise HaleError for a setting that no class of its own checks."""
    from hale.errors import HaleError

    for name, least in WHOLE_NUMBERS.items():
        value = OmegaConf.select(cfg, name)
        if value is not None and (type(value) is not int or value < least):
            raise HaleError(f"{name} must be a whole number of at least {least}, got {value}")
    if not re.fullmatch(r"valid/((head|tail)/)?(mrr|amri|hits@(1|3|10))", str(cfg.monitor)):
        raise HaleError(
            "monitor must be valid/ and a metric of which more is better (valid/mrr, valid/amri, "
            f"valid/hits@10, valid/head/mrr, ...), got {cfg.monitor}"
        )


def _quieten() -> None:
    """Leave out what Lightning tells of itself: adverts, unused devices, restored files."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
def _app(cfg: DictConfig) -> float:
    from hale.errors import HaleError

    try:
        return run(cfg)
    except (HaleError, OmegaConfBaseException) as error:
        raise UserError(str(error).splitlines()[0]) from None
    except (KeyboardInterrupt, SystemExit):
        sys.exit(f"interrupted; go on with: hale resume={HydraConfig.get().runtime.output_dir}")


def resumed(arguments: list[str]) -> list[str]:
    """``resume=FOLDER`` replaced by the overrides that the folder's run was started with."""
    folders = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if not folders:
        return arguments
    overrides = Path(folders[0]) / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        sys.exit(f"resume={folders[0]} is not a run folder: it has no {overrides.name} in .hydra")
    saved = [str(override) for override in OmegaConf.load(overrides)]
    rest = [a for a in arguments if not a.startswith("resume=")]
    return [*saved, f"hydra.run.dir='{folders[0]}'", *rest]


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = resumed(sys.argv[1:])
    _app()


if __name__ == "__main__":
    main()
