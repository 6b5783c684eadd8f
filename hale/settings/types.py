"""The type of every setting, taken from the annotations of what receives it.

A setting of a config group is an argument of the class or function that the group's ``_target_``
names; those of ``conf/config.yaml`` alone are checked in :mod:`hale.settings.checks`. Hydra reads
``no``, ``off`` and ``1e3`` as text, text and a float, so that a mistaken value is of another type.
"""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pydoc import ErrorDuringImport, locate
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from hale.errors import (
    HaleError,
    expected,
    fits,
    hints_of,
    parameters_of,
    require,
    require_type,
    shown_value,
)

DATA: Mapping[str, Any] = {
    "batch_size": int, "ranking_batch_size": int,
    "valid_queries": int | Literal["auto", "all"] | None,
    "test_queries": int | Literal["auto", "all"] | None,
}  # fmt: skip
"""Settings of ``data``."""
ONE = ("dataset", "model", "loss", "activation", "optimizer", "schedule", "trainer", "budget")
"""Groups of which one is chosen, and ``budget``."""
SEVERAL = ("logger", "callbacks")
"""Groups of which several may be chosen."""
NUMBERS_TOO = ("dataset.path",)
"""Texts that may look like numbers: a folder may be named 2024."""
BOUNDS: Mapping[str, Mapping[str, float]] = {
    "budget.seconds": {"above": 0, "at_most": 1e9},
    "budget.spent": {"at_least": 0},
    "data.valid_queries": {"at_least": 1},
    "data.test_queries": {"at_least": 1},
    "optimizer.lr": {"above": 0},
    "optimizer.betas": {"at_least": 0, "below": 1},
    "optimizer.eps": {"at_least": 0},
    "optimizer.weight_decay": {"at_least": 0},
    "schedule.floor": {"at_least": 0, "at_most": 1},
    "trainer.log_every_n_steps": {"at_least": 0},
    "trainer.gradient_clip_val": {"above": 0},
    "callbacks.early_stopping.patience": {"at_least": 0},
    "callbacks.weight_averaging.decay": {"at_least": 0, "at_most": 1},
}
"""Of numbers whose receiver, a function or a class of PyTorch's, does not check them by name."""


def require_types(cfg: DictConfig) -> None:
    """Raise HaleError for a setting that is of another type than what receives it takes.

    The message begins with the setting's name, as on the command line.
    """
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    _require_data(plain.get("data"))
    for name, node in _groups(plain):
        _require_group(name, node)


def _require_data(node: Any) -> None:
    require_type("data", node, dict)
    for key, value in node.items():
        if key not in DATA:
            raise HaleError(f"data.{key} is not a setting{_similar(key, DATA)}")
        _require_value(f"data.{key}", value, DATA[key])


def _groups(plain: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The groups by name; those of which several may be chosen as ``logger.wandb``."""
    for name in ONE:
        yield name, plain.get(name)
    for name in SEVERAL:
        chosen = plain.get(name) or {}
        require_type(name, chosen, dict)
        for key, node in chosen.items():
            yield f"{name}.{key}", node


def _require_group(name: str, node: Any) -> None:
    """Check a group's values against the arguments of its target.

    Raises:
        HaleError: it has none, an argument that the target does not take, or one of another type.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        group = name.split(".")[0]
        raise HaleError(
            f"{name} must be a choice of the config group {group}, got {shown_value(node)}"
        )
    target = _located(name, node["_target_"])
    parameters = parameters_of(target)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for key, value in node.items():
        setting = f"{name}.{key}"
        if str(key).startswith("_"):
            if key == "_partial_":
                require_type(setting, value, bool)
        elif key in parameters:
            if not _is_default(value, parameters[key].default):
                _require_value(setting, value, hints_of(target).get(key, Any))
        elif not takes_any:
            raise HaleError(
                f"{setting} is not a setting of {target.__name__}{_similar(key, parameters)}"
            )


def _require_value(setting: str, value: Any, hint: Any) -> None:
    if _has_target(value):
        return  # an object, which Hydra makes
    hint = str if setting in NUMBERS_TOO else hint
    if not fits(value, hint) and isinstance(value, bool | int | float) and fits("text", hint):
        if setting in NUMBERS_TOO:
            return
        got = shown_value(value)
        raise HaleError(
            f"{setting} must be {expected(hint)}, got {got}: quote it, '{setting}=\"{got}\"'"
        )
    require_type(setting, value, hint)
    bounds = BOUNDS.get(setting, {})
    for each in value if isinstance(value, list) else [value]:
        if bounds and fits(each, float):
            require(setting, each, **bounds)


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and value == default)


def _has_target(value: Any) -> bool:
    """Whether a value is an object to be made, or has one in it."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))


def _located(name: str, path: Any) -> Callable[..., Any]:
    require_type(f"{name}._target_", path, str)
    try:
        found: Any = locate(path)
    except ErrorDuringImport as error:
        raise HaleError(f"{name}._target_: {' '.join(str(error).split())}") from error
    if not callable(found):
        raise HaleError(f"{name}._target_ must be the path of a class or function, got {path}")
    return found  # type: ignore[no-any-return]


def _similar(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(str(key), [k for k in known if not k.startswith("_")], n=1)
    return f": did you mean {close[0]}?" if close else ""
