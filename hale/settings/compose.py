"""Hydra's composition of a run's settings, with hale's recipes on the search path."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError
from hale.settings import conf_dir, recipe

recipe.register()


def compose(overrides: Sequence[str], values: Mapping[str, Any] | None = None) -> DictConfig:
    """The settings of a run, its ``hydra`` node included, as ``hale.run`` would have them.

    Args:
        overrides: of the command line.
        values: that the recipe sets beside its own, by dotted name; they rank below a strategy,
            an experiment and the overrides.

    Raises:
        HaleError: Hydra refuses an override.
    """
    try:
        with _initialized(), recipe.offered(values or {}):
            typed = list(map(choice_as_text, overrides))
            cfg = hydra_compose("config", typed, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise HaleError(" ".join(line.strip() for line in str(error).splitlines())) from None
    one_budget(cfg, typed_names(overrides))
    if not GlobalHydra.instance().is_initialized():  # a running job keeps its own
        HydraConfig.instance().set_config(cfg)  # what interpolations of ${hydra:...} look at
    return cfg


def quoted(text: str) -> str:
    """A text in the grammar of Hydra's overrides."""
    # a backslash is itself, unless a quote follows
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), text)
    return f'"{escaped}"'


def choice_as_text(override: str) -> str:
    """The override, its value quoted where Hydra does not read it as it is meant.

    That is a config group's choice that reads as another value, as in ``loss=5``, on which Hydra
    fails without naming the choices that there are; and a value outside Hydra's grammar, as a path
    with ``=``, an apostrophe or a letter of another alphabet.
    """
    name, sign, value = override.partition("=")
    plain = re.fullmatch(r"[+-]?[\d.][\w.+-]*|true|false|nan|inf", value, re.IGNORECASE)
    is_group = name.isidentifier() and (conf_dir() / name).is_dir()
    is_setting = sign and re.fullmatch(r"\+{0,2}\w[\w./@-]*", name)
    foreign = is_setting and not _is_grammatical(override)
    return f"{name}={quoted(value)}" if (plain and is_group) or foreign else override


def _is_grammatical(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def typed_names(overrides: Sequence[str]) -> set[str]:
    """Names of the settings that overrides give a value, which null is not."""
    return {override.split("=", 1)[0] for override in overrides if not override.endswith("=null")}


def one_budget(cfg: DictConfig, typed: Collection[str]) -> None:
    """Set the budget's other unit to null where one of the two is ``typed`` alone."""
    if not isinstance(cfg.get("budget"), DictConfig):
        return  # which :mod:`hale.settings.checks` refuses
    for unit, other in (("seconds", "steps"), ("steps", "seconds")):
        if f"budget.{unit}" in typed and f"budget.{other}" not in typed:
            cfg.budget[other] = None


@contextmanager
def _initialized() -> Iterator[None]:
    """Hydra, initialized with hale's conf; within a job, as the job has it, with its folders."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="hale"):
            yield


def keep_path(cfg: Any, start: str) -> None:
    """Have a relative path of the dataset mean what it meant where the run was started.

    Where nothing lies there any more, it is relative to the working folder.

    Args:
        cfg: the settings that the run was started with.
        start: the working folder of that time.
    """
    path = OmegaConf.select(cfg, "dataset.path")
    if path is not None and (before := Path(start, str(path))).exists():
        cfg.dataset.path = str(before).replace("${", r"\${")
