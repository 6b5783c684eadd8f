"""Checks of the settings that no class of its own receives."""

import re
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError, require_whole
from hale.settings.recipe import AUTOMATIC

WHOLE_NUMBERS = {
    "seed": 0, "validations": 1, "threads": 1, "budget.steps": 1, "data.batch_size": 1,
    "data.ranking_batch_size": 1,
}  # fmt: skip
"""Settings that are whole numbers or null, and the least of each."""

MONITOR = r"valid/((head|tail)/)?(mrr|amri|hits@(1|3|10))"


def require_settings(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Raise HaleError for a setting that is missing or out of its range.

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
    for name, least in WHOLE_NUMBERS.items():
        value = OmegaConf.select(cfg, name)
        if value is not None:
            require_whole(name, value, least)
    if not re.fullmatch(MONITOR, str(cfg.monitor)):
        raise HaleError(
            "monitor must be valid/ and a metric of which more is better (valid/mrr, valid/amri, "
            f"valid/hits@10, valid/head/mrr, ...), got {cfg.monitor}"
        )


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
