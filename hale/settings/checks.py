"""Checks of settings before anything is read or trained."""

import os
import re
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError, require_type, require_whole, shown_value
from hale.settings.build import build
from hale.settings.recipe import AUTOMATIC
from hale.settings.trainer import processes, require_processes, require_trainer
from hale.settings.types import require_types

WHOLE_NUMBERS: dict[str, tuple[int, int | None]] = {
    "seed": (0, 2**32 - 1), "validations": (1, None), "threads": (1, 1024),
    "budget.steps": (1, None), "data.batch_size": (1, None), "data.ranking_batch_size": (1, None),
}  # fmt: skip
"""Settings that are whole numbers, with the least and the most of each."""
NULLABLE = ("threads", "budget.steps")
"""Those that may be null."""

MONITOR = r"valid/((head|tail)/)?(mrr|amri|hits@(1|3|10))"


def require_settings(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Raise HaleError for a setting that is missing, of another type or out of its range.

    The ranges of what depends on the graph, as the model's, are checked when that is made.

    Args:
        cfg: the settings.
        choices: the choice of each config group.
    """
    for name in sorted(OmegaConf.missing_keys(cfg)):
        raise HaleError(f"{name} has no value: set {name}=...")
    chosen = choices.get("recipe") or "auto"
    if "/" not in chosen and chosen not in AUTOMATIC:
        raise HaleError(
            f"recipe must be {' or '.join(AUTOMATIC)}, or left out for the tuned recipe of the "
            f"dataset if there is one, got {chosen}; ~recipe trains without any"
        )
    require_top_level(cfg)
    if not (isinstance(cfg.monitor, str) and re.fullmatch(MONITOR, cfg.monitor)):
        raise HaleError(
            "monitor must be valid/ and a metric of which more is better (valid/mrr, valid/amri, "
            f"valid/hits@10, valid/head/mrr, ...), got {shown_value(cfg.monitor)}"
        )
    require_types(cfg)
    trainer = {str(name): value for name, value in cfg.trainer.items()}
    require_trainer(trainer)
    require_processes(trainer, os.environ)
    if chosen == "search" and processes(trainer) > 1:
        raise HaleError(
            "recipe=search trains its trials on one device: search with trainer=cpu or trainer=gpu "
            "first, and give what it found to trainer=ddp"
        )
    for group in ("activation", "loss", "budget"):
        build(cfg, group)


def require_top_level(cfg: DictConfig) -> None:
    """Raise HaleError for a setting of ``conf/config.yaml`` itself that is not what it may be."""
    for name in ("budget", "data"):
        if not isinstance(cfg.get(name), DictConfig):
            raise HaleError(f"{name} is a group of settings: set {name}.NAME=..., not {name}=...")
    for name, bounds in WHOLE_NUMBERS.items():
        value = OmegaConf.select(cfg, name)
        if value is not None or (name not in NULLABLE and name in cfg):
            require_whole(name, value, *bounds)
    for name in ("test", "exclude_own"):
        if name in cfg:
            require_type(name, cfg[name], bool)


def require_own_machine(launcher: DictConfig, seconds: float | None) -> None:
    """Raise HaleError for a budget in seconds where jobs run concurrently on one machine.

    Args:
        launcher: Hydra's, as configured.
        seconds: ``budget.seconds``.
    """
    target = launcher["_target_"].rsplit(".", 1)[-1]
    shared = target == "LocalLauncher" or (target == "JoblibLauncher" and launcher.n_jobs != 1)
    if shared and seconds is not None:
        raise HaleError(
            f"{target} runs jobs concurrently, which makes wall-clock budgets incomparable: set "
            "budget.steps=N budget.seconds=null, or use hydra/launcher=basic"
        )
