"""Recipes: tuned values for a dataset, as rules that depend on what is combined with it.

``conf/recipe/<dataset>.yaml`` is a list of rules, the most general first; of the rules that apply,
a later one wins::

    - set: {budget.seconds: 300}
    - when: {loss: hale, optimizer: adam}
      set: {optimizer.lr: 0.03}
    - when: {loss: hale, optimizer: adam, min_dim: 128}
      set: {optimizer.lr: 0.012}

``when`` names choices of the config groups (one, or a list of which one must hold), the least
dimension, and the most epochs that the budget may hold. The last is known only when the run
starts, and :mod:`hale.training.settle` applies such rules then. Rules rank below a strategy, an
experiment and the command line: conf/config.yaml lists them before those, under a name made of all
choices, which :class:`RecipeSource` resolves.

A dataset without a file has an automatic recipe (``recipe=auto`` asks for one elsewhere). Its
values are chosen from the graph when the run starts (:mod:`hale.settings.automatic`), and composed
in the same place by :func:`offered`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from hale.errors import HaleError
from hale.settings import conf_dir

GROUPS = ("dataset", "loss", "activation", "optimizer", "model")
"""Config groups in the name of a composed recipe, in this order."""
AUTOMATIC = ("auto", "search")
"""Recipes that are chosen when the run starts."""
AUTOMATIC_FOLDER = "outputs/auto_${hydra:runtime.choices.dataset}/${now:%Y-%m-%d_%H-%M-%S-%f}"
"""Where a run with an automatic recipe is kept: its model is chosen later."""

_folders: set[Path] = set()  # of recipe files, beside hale's own: those on Hydra's search path
_offered: ContextVar[Mapping[str, Any] | None] = ContextVar("offered", default=None)


def kind(choice: str | None) -> str | None:
    """``tuned``, ``auto``, ``search``, or None without a recipe, by the group's choice."""
    if choice is None or choice in AUTOMATIC:
        return choice
    return "tuned" if recipe_file(choice.split("/")[0]).is_file() else "auto"


def recipe_file(dataset: str) -> Path:
    """Where the rules of a dataset are, if it has any."""
    own = conf_dir() / "recipe" / f"{dataset}.yaml"
    others = (folder / f"{dataset}.yaml" for folder in _folders)
    return own if own.is_file() else next((file for file in others if file.is_file()), own)


@contextmanager
def offered(values: Mapping[str, Any]) -> Iterator[None]:
    """Compose recipes with these values, by dotted name, above their own, in the block."""
    token = _offered.set(values)
    try:
        yield
    finally:
        _offered.reset(token)


@dataclass(frozen=True)
class Rule:
    """Values to set where all conditions hold.

    Args:
        choices: for some config groups, the choices that the rule is for.
        min_dim: the least dimension that it is for; 0 is any.
        max_epochs: the most epochs that it is for; infinity is any.
        values: by dotted name.
    """

    choices: Mapping[str, tuple[str, ...]]
    min_dim: int
    max_epochs: float
    values: Mapping[str, Any]

    def applies(self, chosen: Mapping[str, str]) -> bool:
        """Whether the rule is for these choices, at some dimension and number of epochs."""
        return all(chosen.get(group) in wanted for group, wanted in self.choices.items())

    def __str__(self) -> str:
        """The conditions."""
        words = [f"{group} {' or '.join(wanted)}" for group, wanted in self.choices.items()]
        words += [f"dim >= {self.min_dim}"] if self.min_dim else []
        words += [f"epochs <= {self.max_epochs:g}"] if self.max_epochs < inf else []
        return ", ".join(words) or "always"


def read_rules(path: Path) -> list[Rule]:
    """The rules of a recipe file.

    Raises:
        HaleError: something that is not a rule; the message names its place.
    """
    listed: Any = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(listed, list):
        raise HaleError(f"{path} must be a list of rules")
    return [_rule(entry, f"{path}, rule {number}") for number, entry in enumerate(listed, 1)]


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict) or not {"set"} <= entry.keys() <= {"set", "when"}:
        raise HaleError(f"{where}: a rule has `set` and, where it depends on something, `when`")
    when = dict(entry.get("when", {}))
    min_dim, max_epochs = when.pop("min_dim", 0), when.pop("max_epochs", inf)
    if unknown := set(when) - set(GROUPS[1:]):
        raise HaleError(
            f"{where}: `when` may name {', '.join(GROUPS[1:])}, min_dim and max_epochs, "
            f"not {unknown.pop()}"
        )
    choices = {
        group: tuple(wanted) if isinstance(wanted, list) else (wanted,)
        for group, wanted in when.items()
    }
    return Rule(choices, min_dim, max_epochs, entry["set"])


def recipe(rules: list[Rule], chosen: Mapping[str, str]) -> dict[str, Any]:
    """The values that rules set for some choices, by dotted name.

    A value that depends on the dimension is an interpolation, resolved with the rest of the
    settings: the dimension may come from the command line.

    Raises:
        HaleError: a rule for large dimensions sets what no rule sets for small ones.
    """
    values: dict[str, Any] = {}
    for rule in rules:
        if not rule.applies(chosen) or rule.max_epochs < inf:
            continue
        for name, value in rule.values.items():
            if rule.min_dim and name not in values:
                raise HaleError(f"{name} has a value for dim >= {rule.min_dim} and none below")
            values[name] = (
                f"${{from_dim:${{model.dim}},{rule.min_dim},{value},{values[name]}}}"
                if rule.min_dim
                else value
            )
    return values


def deciding_rules(
    rules: list[Rule], chosen: Mapping[str, str], dim: int, epochs: float = inf
) -> dict[str, Rule]:
    """The rule that decides each value, by dotted name, for choices, a dimension and epochs."""
    applying = [rule for rule in _applying(rules, chosen, dim) if epochs <= rule.max_epochs]
    return {name: rule for rule in applying for name in rule.values}


def epoch_rules(rules: list[Rule], chosen: Mapping[str, str], dim: int) -> list[Rule]:
    """The rules for choices and a dimension that apply where the budget holds few epochs."""
    return [rule for rule in _applying(rules, chosen, dim) if rule.max_epochs < inf]


def _applying(rules: list[Rule], chosen: Mapping[str, str], dim: int) -> list[Rule]:
    return [rule for rule in rules if rule.applies(chosen) and dim >= rule.min_dim]


def from_dim(dim: int, least: int, value: Any, otherwise: Any) -> Any:
    """``value`` from a dimension of ``least``, ``otherwise`` below it."""
    chosen = value if dim >= least else otherwise
    return OmegaConf.create(chosen) if isinstance(chosen, list) else chosen


class RecipeSource(ConfigSource):
    """Serves ``recipe/<dataset>/<loss>/<activation>/<optimizer>/<model>`` to Hydra.

    Its path is the folder of recipe files; an empty one stands for hale's own.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        if self.path:
            _folders.add(Path(self.path))

    @staticmethod
    def scheme() -> str:
        return "recipe"

    def load_config(self, config_path: str) -> ConfigResult:
        chosen = self._chosen(config_path)
        tuned = len(chosen) == len(GROUPS) and self._file(chosen).is_file()
        config = OmegaConf.create({})
        for name, value in self._values(chosen if tuned else None).items():
            OmegaConf.update(config, name, value, force_add=True)
        header: dict[str, str | None] = {"package": "_global_"}
        return ConfigResult(self.provider, self.full_path(), config, header)

    def _values(self, chosen: Mapping[str, str] | None) -> Mapping[str, Any]:
        """What the rules set for these choices, if there are any; and what is offered."""
        values: dict[str, Any] = {"hydra.run.dir": AUTOMATIC_FOLDER}
        if chosen is not None:
            values = recipe(read_rules(self._file(chosen)), chosen)
        return values | dict(_offered.get() or {})

    def is_config(self, config_path: str) -> bool:
        chosen = self._chosen(config_path)
        if len(chosen) < len(GROUPS):
            return config_path.removeprefix("recipe/") in AUTOMATIC
        automatic = not self.path and not recipe_file(chosen["dataset"]).is_file()
        return automatic or self._file(chosen).is_file()

    def is_group(self, config_path: str) -> bool:
        return False

    def available(self) -> bool:
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []

    def _chosen(self, config_path: str) -> dict[str, str]:
        group, *choices = config_path.split("/")
        return dict(zip(GROUPS, choices, strict=False)) if group == "recipe" else {}

    def _file(self, chosen: Mapping[str, str]) -> Path:
        folder = Path(self.path) if self.path else conf_dir() / "recipe"
        return folder / f"{chosen['dataset']}.yaml"


def register() -> None:
    """Make recipes known to Hydra and their interpolations to OmegaConf."""
    Plugins.instance().register(RecipeSource)
    OmegaConf.register_new_resolver("from_dim", from_dim, replace=True)
