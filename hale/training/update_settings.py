"""The settings of an update: those of the run that it updates, but for what is given."""

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError
from hale.graphs.columns import Columns
from hale.graphs.reading import Unseen
from hale.graphs.triple_file import Form
from hale.runs.model_path import find_model
from hale.runs.trained import TrainedModel
from hale.settings import conf_dir
from hale.settings.automatic import Choice, Facts, loss_weight, values
from hale.settings.compose import one_budget
from hale.training.job import Job

READING = ("columns", "weight", "format", "literals", "unseen")
"""Settings of the dataset that say how the new triples are read."""
FIXED = ("model", "activation", "dataset", "recipe", "strategy", "experiment", "debug", "hydra")
"""Parts of the settings that an update cannot change."""
SMALLER, SMALLEST = 2, 512
"""So many times smaller is an update's batch, but for batches of no more than the second number: a
short budget holds few steps."""
FOLLOWING = ("loss.weight", "loss.mask_known", "activation.beta", "activation.gamma")
"""Chosen again, for the grown graph and the epochs of the update, if the automatic recipe chose
them: neither a search nor a tuned recipe, which know more than the rules."""
PLANNED = ("validations", "threads", "data.valid_queries", "data.test_queries")
"""Settings that the plan of a run replaces: an update has those that were asked for, and plans
anew."""
FASTER = 1.5
"""So many times larger is an update's learning rate at the start."""


@dataclass(frozen=True)
class Update(Job):
    """A run that starts from another one's model.

    Args:
        parent: ``folder`` (None if it was not kept) and ``fingerprint`` (of the graph) of the run
            that it updates, and
            ``batch_size`` and ``lr``, those of the run at the beginning of a chain of updates.
    """

    parent: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As of every run, and the parent."""
        return super().record() | {"parent": dict(self.parent)}


def update_job(model: TrainedModel, settings: Mapping[str, Any], folder: Path) -> Update:
    """The run of an update, with its batch size and learning rate.

    Args:
        model: that is updated.
        settings: that differ from those of its run, by dotted name.
        folder: of the update.

    Raises:
        HaleError: a setting that an update does not have, or a class that is not hale's.
    """
    record = model.record
    require_own_classes(record["config"], settings)
    settings = _asked_before(record["overrides"]) | dict(settings)
    cfg = _settings(record["config"], settings)
    before = record.get("parent") or {
        "batch_size": record["config"]["data"]["batch_size"],
        "lr": record["config"]["optimizer"]["lr"],
    }
    batch, lr = before["batch_size"], before["lr"]
    rules = [
        ("data.batch_size", max(batch // SMALLER, min(batch, SMALLEST)), batch),
        ("optimizer.lr", FASTER * lr, lr),
    ]
    tuned = (record.get("recipe") or {}).get("kind") in ("tuned", "search")
    open_names = set() if tuned else set(FOLLOWING) - set(settings)
    chosen = [c for c in chosen_by(record) if c.name in open_names]
    for name, value, old in rules:
        if name not in settings:
            OmegaConf.update(cfg, name, value)
            chosen.append(Choice(name, value, f"an update takes more, smaller steps than {old:g}"))
    overrides = [f"{name}={value}" for name, value in settings.items()]
    choices: Mapping[str, Any] = record["choices"]
    parent = _parent(model) | {"batch_size": batch, "lr": lr}
    return Update(cfg, choices, overrides, folder, folder.name, chosen=chosen, parent=parent)


def _parent(model: TrainedModel) -> dict[str, Any]:
    """The folder and the fingerprint of the run that is updated."""
    home = _run_folder(model.folder) if model.folder and model.folder.is_dir() else None
    return {"folder": home and str(home.resolve()), "fingerprint": model.graph.fingerprint}


def following(job: Update, known: Facts, epochs: float) -> Update:
    """The update with what its graph and its epochs decide, where that is open.

    Args:
        job: of the update.
        known: of the grown graph.
        epochs: that the update's budget holds.
    """
    by_rule = {c.name: c for c in values(known, job.choices, job.cfg.model.dim, None)}
    by_rule["loss.weight"] = loss_weight(known, epochs)
    chosen = [by_rule.get(c.name, c) if c.name in FOLLOWING else c for c in job.chosen]
    return with_values(job, chosen)


def with_values(job: Update, chosen: Sequence[Choice]) -> Update:
    """The update with these values chosen."""
    cfg = copy.deepcopy(job.cfg)
    for choice in chosen:
        OmegaConf.update(cfg, choice.name, choice.value)
    return replace(job, cfg=cfg, chosen=chosen)


def chosen_by(record: Mapping[str, Any]) -> list[Choice]:
    """What the recipe of a run chose, from the run's record."""
    return [Choice(**choice) for choice in (record.get("recipe") or {}).get("chosen", ())]


def _settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> DictConfig:
    """The settings of the run that is updated, without what was planned for it, and the changes."""
    cfg = OmegaConf.create(dict(config))
    defaults = OmegaConf.load(conf_dir() / "config.yaml")
    planned = {name: OmegaConf.select(defaults, name) for name in PLANNED}
    for name, value in (planned | {"budget.spent": 0}).items():
        OmegaConf.update(cfg, name, value, force_add=True)
    of_files = {f"dataset.{name}" for name in READING}
    set_values(cfg, {name: value for name, value in settings.items() if name not in of_files})
    return cfg


def _asked_before(overrides: Iterable[str]) -> dict[str, Any]:
    """What the overrides of a run say of settings that a plan replaces."""
    words = {word.split("=", 1)[0]: word for word in overrides}
    asked = OmegaConf.from_dotlist([words[name] for name in PLANNED if name in words])
    return {name: OmegaConf.select(asked, name) for name in PLANNED if name in words}


def require_own_classes(config: Mapping[str, Any], trusted: Collection[str] = ()) -> None:
    """Raise HaleError if settings of a model folder name a class that hale's do not.

    A model folder may come from anyone, and what its settings name would be executed.

    Args:
        config: of the folder's record.
        trusted: names of settings that the user has typed.
    """
    known = set()
    for path in conf_dir().rglob("*.yaml"):
        known |= set(re.findall(r"_target_: *(\S+)", path.read_text(encoding="utf-8")))
    for name, target in _classes(config):
        if target not in known and name not in trusted:
            raise HaleError(
                f"the model's settings name {name}={str(target)[:100]!r}, which is not hale's: if "
                f"you trust it, add {name}={str(target)[:100]} to the command"
            )


def _classes(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The classes that settings name, each with the dotted name of the setting."""
    entries: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list):
        entries = ((str(i), entry) for i, entry in enumerate(node))
    for key, value in entries:
        if key == "_target_":
            yield f"{prefix}{key}", value
        yield from _classes(value, f"{prefix}{key}.")


def set_values(cfg: DictConfig, settings: Mapping[str, Any]) -> None:
    """Change values of an update's settings.

    Raises:
        HaleError: a setting that there is not, or that an update cannot change.
    """
    for name, value in settings.items():
        if name.split(".")[0] in FIXED:
            raise HaleError(
                f"{name} is that of the run that is updated: leave it out, or train anew to change "
                "it"
            )
        if "." not in name and isinstance(cfg.get(name), DictConfig):
            raise HaleError(
                f"{name}={value}: an update changes values, not choices: {name}.KEY=..."
            )
        parent, _, key = name.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not isinstance(node, DictConfig) or key not in node:
            raise HaleError(f"no setting of the run that is updated is called {name}")
        OmegaConf.update(cfg, name, value)
    one_budget(cfg, {name for name, value in settings.items() if value is not None})


def reading(model: TrainedModel, settings: Mapping[str, Any]) -> tuple[Form, Unseen]:
    """How the new triples are read: as the old ones were, but for what is given.

    Raises:
        ArgumentError: a value out of range.
    """
    dataset = model.record["config"].get("dataset") or {}
    like = {name: dataset.get(name) for name in READING if name != "format"}
    given = {n: settings[f"dataset.{n}"] for n in READING if f"dataset.{n}" in settings}
    use = {k: v for k, v in (like | given).items() if v is not None}
    columns = use.get("columns")
    chosen = Columns(None if columns is None else tuple(columns), use.get("weight"))
    form = Form(chosen, use.get("format"), use.get("literals", "drop"))
    return form, use.get("unseen", "error")


def _run_folder(folder: Path) -> Path:
    """The run's folder, from it or from the model folder in it."""
    found = find_model(folder)
    return found.parent if found.name == "model" else found
