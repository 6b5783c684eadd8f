"""Settings become objects."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hale.errors import ArgumentError, HaleError


def build(cfg: DictConfig, group: str, /, **facts: Any) -> Any:
    """Instantiate a config group; ``facts`` are arguments known only at run time.

    Raises:
        HaleError: the arguments are refused, in the words of what refused them; an argument's name
            is preceded by its group's, as on the command line.
    """
    try:
        return instantiate(OmegaConf.select(cfg, group), _convert_="all", **facts)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ArgumentError):
            raise HaleError(f"{group}.{cause}") from None
        if isinstance(cause, HaleError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError | OSError):
            raise HaleError(f"{group}: {cause}") from error
        raise


def build_all(cfg: DictConfig, group: str) -> list[Any]:
    """The objects of a config group of which several may be chosen, each under its own name."""
    return [build(cfg, f"{group}.{name}") for name in cfg.get(group) or {}]
