"""``hale recipe``: every setting of a run, and the file, rule or fact that its value comes from."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hale.cli.output import add_table_arguments, write_rows
from hale.runs.tables import Row

if TYPE_CHECKING:
    from omegaconf import DictConfig

SUMMARY = "every setting of a run before it trains, and where each value comes from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The choices of a run."""
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*",
        help="as for training: model=rotl loss=hale dataset=wn18rr model.dim=64",
    )  # fmt: skip
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row for each setting.

    Raises:
        HaleError: a choice or a value that training would refuse, too.
    """
    write_rows(list(setting_rows(args.overrides)), args.format, args.out, "settings")


def setting_rows(overrides: Sequence[str]) -> Iterator[Row]:
    """``setting``, ``value`` and ``from`` of every value that a run would have.

    The graph is read where the recipe is automatic, to choose as the run would.
    """
    from hale.settings import recipe
    from hale.settings.compose import compose

    cfg = compose(overrides)
    choices = {k: v for k, v in cfg.hydra.runtime.choices.items() if v}
    if recipe.kind(choices.get("recipe")) in recipe.AUTOMATIC:
        cfg, choices, reasons = _automatic(overrides)
    else:
        reasons = _rules(cfg, choices)
    typed = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    chosen = {k: v for k, v in choices.items() if not k.startswith(("hydra/", "recipe"))}
    overlays = {group: chosen.pop(group, None) for group in ("strategy", "experiment", "debug")}
    plain = _settings(compose([*(f"{g}={choice}" for g, choice in chosen.items()), "~recipe"]))
    for group in recipe.GROUPS[1:]:
        why = (
            "command line" if group in typed else reasons.get(group, (None, "conf/config.yaml"))[1]
        )
        yield {"setting": group, "value": json.dumps(chosen[group]), "from": why}
    for name, value in _settings(cfg).items():
        group = name.split(".", 1)[0]
        if any(f"{name}.".startswith(f"{key}.") for key in typed - set(chosen)):
            source = "command line"
        elif name in reasons and reasons[name][0] == value:
            source = reasons[name][1]
        elif name in plain and plain[name] == value:
            source = f"conf/{group}/{chosen[group]}.yaml" if group in chosen else "conf/config.yaml"
        else:
            source = ", ".join(f"{kind} {name}" for kind, name in overlays.items() if name)
        yield {"setting": name, "value": json.dumps(value), "from": source}


def _rules(cfg: "DictConfig", choices: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Values that rules of the dataset set, and which rule; and what few epochs would change."""
    from hale.settings.recipe import deciding_rules, epoch_rules, read_rules, recipe_file

    file = recipe_file(choices["dataset"])
    if "recipe" not in choices:
        return {}
    rules = read_rules(file)
    few: dict[str, str] = {}
    if not choices.get("experiment"):
        for rule in epoch_rules(rules, choices, cfg.model.dim):
            for name, value in rule.values.items():
                few[name] = f"{few.get(name, '')}; {value} in up to {rule.max_epochs:g} epochs"
    deciding = deciding_rules(rules, choices, cfg.model.dim)
    return {
        name: (rule.values[name], f"conf/recipe/{file.name}: {rule}{few.get(name, '')}")
        for name, rule in deciding.items()
    }


def _automatic(
    overrides: Sequence[str],
) -> tuple["DictConfig", dict[str, str], dict[str, tuple[Any, str]]]:
    """The settled settings, choices, and what was chosen why."""
    from hale.settings.automatic import facts
    from hale.settings.build import build
    from hale.settings.checks import require_settings
    from hale.training.job import job_of, with_choices
    from hale.training.settle import automatic_choices

    job = job_of(overrides, Path())
    require_settings(job.cfg, job.choices)
    known = facts(build(job.cfg, "dataset"))
    job = with_choices(job, automatic_choices(job, known))
    choices = {k: v for k, v in job.choices.items() if v}
    return job.cfg, choices, {c.name: (c.value, f"automatic: {c.why}") for c in job.chosen}


def _settings(cfg: Any) -> dict[str, Any]:
    """Resolved values by dotted name, without Hydra's own and without classes' names."""
    from omegaconf import OmegaConf

    keys = [key for key in cfg if key != "hydra"]
    resolved: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)
    return dict(_leaves(resolved))


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}", value
