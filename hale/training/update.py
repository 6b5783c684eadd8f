"""Updates of a trained model: triples are added to its graph or removed, and training goes on.

An update is a run of its own, whose folder keeps what it starts from in ``start/``: the grown
graph, the model with the vectors of its parent and with places for what is new, and the settings.
So it can be resumed whatever happens to its parent and to the files of the new triples.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError, checked
from hale.graphs.growth import Growth, grow, sources
from hale.graphs.kg import reciprocal
from hale.graphs.named_triples import NamedTriples
from hale.models.growth import grow_model, row_kinds
from hale.runs.lock import locked
from hale.runs.model_folder import read_model, write_model
from hale.runs.record import RESULT_FILE, changed
from hale.runs.trained import TrainedModel, load
from hale.settings.build import build
from hale.settings.checks import require_settings
from hale.training.fit import train
from hale.training.job import make_parts, with_plan
from hale.training.plan import kept_plan
from hale.training.settle import kept_choices
from hale.training.update_settings import (
    Update,
    chosen_by,
    reading,
    set_values,
    update_job,
    with_values,
)
from hale.training.warm_start import WarmStart

START = "start"
"""The folder in a run's folder that an update starts from."""


@checked
def update(
    model: TrainedModel | str | Path,
    add: object = None,
    remove: object = None,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Train a model further on a graph with more triples, fewer, or both.

    ::

        model = hale.update(model, [("Ada Berg", "works_at", "Observatory")], seconds=10)

    Args:
        model: to start from, which is not changed; or its folder, or its run's.
        add: triples to add: rows or a frame, as for :meth:`KnowledgeGraph.from_triples`; a file; or
            a folder. They are added to train, but those of a folder with train, valid and test each
            to their own split. Triples that the graph has already, in any split, are skipped.
        remove: triples to remove from whichever split has them, in the same forms.
        seconds: of training; as many as the run before if these and ``steps`` are not given.
        steps: of the optimizer, in place of seconds.
        folder: the update's, as that of any run; without it nothing is kept on disk.
        settings: others, by the names of the command line, as ``{"optimizer.lr": 0.01}``.

    Raises:
        HaleError: nothing changes, triples that cannot be read, a setting that an update does not
            have, or a folder that holds another run.
    """
    budget = {"budget.seconds": seconds, "budget.steps": steps}
    given = dict(settings or {}) | {name: v for name, v in budget.items() if v is not None}
    if not isinstance(model, TrainedModel):
        model = load(model)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(folder or temporary)
        prepare(model, _all(add), _all(remove), target, given)
        finish(target)
        return load(target)


def prepare(
    model: TrainedModel, add: Iterable[object], remove: Iterable[object], folder: Path,
    settings: Mapping[str, Any],
) -> Growth:  # fmt: skip
    """Write what an update starts from into its folder, unless the same is there already.

    Args:
        model: to start from.
        add: of :func:`update`, each.
        remove: of :func:`update`, each.
        folder: of the update.
        settings: of :func:`update`.

    Raises:
        HaleError: as :func:`update`.
    """
    job = update_job(model, settings, folder)
    require_settings(job.cfg, job.choices)
    build(job.cfg, "budget")
    form, unseen = reading(model, settings)
    added: dict[str, Iterable[NamedTriples]] = {}
    for source in add:
        for split, blocks in sources(source, form).items():
            added[split] = chain(added.get(split, ()), blocks)
    removed = chain.from_iterable(
        chain.from_iterable(sources(source, form).values()) for source in remove
    )
    growth = grow(model.graph, added, removed, unseen)
    if _is_prepared(folder, job, growth):
        return growth
    module, _ = make_parts(job.cfg, growth.graph)
    module.configure_optimizers()  # which refuses its arguments before anything is written
    query_T3 = reciprocal(growth.graph.train, growth.graph.num_relations)
    grow_model(module.model, model.model.state_dict(), _kinds(job.cfg), query_T3)
    with locked(folder):
        if not _is_prepared(folder, job, growth):  # by another process meanwhile
            write_model(folder / START, module.model, growth.graph, job.record())
    return growth


def finish(folder: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Train a prepared update, or the rest of one that was interrupted, and return its record.

    Args:
        folder: of the update.
        settings: that differ from those it was prepared with.

    Raises:
        HaleError: the folder holds no update, or what training raises.
    """
    model, _, graph, started = read_model(folder / START)
    given = settings or {}
    chosen = [c for c in chosen_by(started) if c.name not in given]
    cfg = OmegaConf.create(started["config"])
    job = Update(
        cfg, started["choices"], started["overrides"], folder, started["name"], chosen=chosen,
        parent=started["parent"],
    )  # fmt: skip
    plan = kept_plan(folder)
    if plan is not None:
        job = with_values(job, kept_choices(folder) or [])
        job = replace(job, cfg=with_plan(job, plan).cfg, plan=plan)
    set_values(job.cfg, given)
    require_settings(job.cfg, job.choices)
    return train(job, lambda: graph, [WarmStart(model.state_dict())])


def is_update(folder: Path) -> bool:
    """Whether an update was prepared in a folder."""
    return (folder / START / RESULT_FILE).is_file()


def _all(given: object) -> list[object]:
    return [] if given is None else [given]


def _kinds(cfg: DictConfig) -> dict[str, str]:
    make = partial(build, cfg, "model")
    return row_kinds(lambda entities, relations: make(
        num_entities=entities, num_relations=relations
    ))  # fmt: skip


def _is_prepared(folder: Path, job: Update, growth: Growth) -> bool:
    """Whether a folder holds this update.

    Raises:
        HaleError: it holds something else.
    """
    if not is_update(folder):
        if any((folder / name).exists() for name in (RESULT_FILE, "checkpoints", ".hydra")):
            raise HaleError(f"{folder} holds another run: choose another folder")
        return False
    _, _, graph, started = read_model(folder / START)
    if (
        graph != growth.graph
        or started["parent"]["fingerprint"] != job.parent["fingerprint"]
        or changed(started, job.config)
    ):
        raise HaleError(f"{folder} holds another update: remove it, or choose another folder")
    return True
