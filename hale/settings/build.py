"""Settings become objects."""

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hale.errors import ArgumentError, HaleError

_MEMORY = re.compile(r"allocat|out of memory|overflow|storage size", re.IGNORECASE)
"""In what PyTorch says of a tensor that is too large."""


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
        if cause is not None and is_out_of_memory(cause):
            raise HaleError(
                f"{group} does not fit in memory with {_numbers(cfg, group)}"
            ) from error
        if isinstance(cause, ValueError | TypeError | OSError):
            raise HaleError(f"{group}: {cause}") from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a tensor was too large to be allocated."""
    message = str(error)
    return isinstance(error, MemoryError | RuntimeError) and bool(_MEMORY.search(message))


def _numbers(cfg: DictConfig, group: str) -> str:
    """The whole numbers among a group's settings, on which the sizes of its objects depend."""
    numbers = {key: value for key, value in cfg[group].items() if type(value) is int}
    return ", ".join(f"{group}.{key}={value}" for key, value in numbers.items())


def build_all(cfg: DictConfig, group: str) -> list[Any]:
    """The objects of a config group of which several may be chosen, each under its own name."""
    return [build(cfg, f"{group}.{name}") for name in cfg.get(group) or {}]
