"""``hale recipe``: every setting of a run, and the file or rule that its value comes from."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hale.cli.output import add_table_arguments, write_rows
from hale.runs.tables import Row

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
    """``setting``, ``value`` and ``from`` of every value that a run would have."""
    from hale.settings import conf_dir
    from hale.settings.compose import compose
    from hale.settings.recipe import deciding_rules, read_rules

    cfg = compose(overrides)
    choices = {
        k: v
        for k, v in cfg.hydra.runtime.choices.items()
        if v and not k.startswith(("hydra/", "recipe"))
    }
    typed = {override.split("=", 1)[0].lstrip("+~") for override in cfg.hydra.overrides.task}
    file = conf_dir() / "recipe" / f"{choices['dataset']}.yaml"
    rules = deciding_rules(read_rules(file), choices, cfg.model.dim) if file.is_file() else {}
    overlays = {group: choices.pop(group, None) for group in ("strategy", "experiment", "debug")}
    plain = _settings(compose([f"{g}={choice}" for g, choice in choices.items()] + ["~recipe"]))
    for name, value in _settings(cfg).items():
        group = name.split(".", 1)[0]
        rule = rules.get(name)
        if any(f"{name}.".startswith(f"{key}.") for key in typed - set(choices)):
            source = "command line"
        elif rule is not None and rule.values[name] == value:
            source = f"conf/recipe/{file.name}: {rule}"
        elif name in plain and plain[name] == value:
            source = (
                f"conf/{group}/{choices[group]}.yaml" if group in choices else "conf/config.yaml"
            )
        else:
            source = ", ".join(f"{kind} {name}" for kind, name in overlays.items() if name)
        yield {"setting": name, "value": json.dumps(value), "from": source}


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
