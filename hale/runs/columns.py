"""The metrics and settings that tables and charts of runs show, and how they are ordered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hale.runs.folders import RunFolder

CURVES = {"valid/mrr": "MRR on valid", "valid/hits@10": "Hits@10 on valid"}
"""Convergence charts: the metric of a validation, and the chart's title."""
CURVE_UNITS = {"valid/mrr": "MRR (0 to 1)", "valid/hits@10": "share of queries"}
"""What the y axis of a convergence chart counts."""
RANKING = ("mrr", "hits@1", "hits@3", "hits@10", "mr", "amri")
"""Ranking metrics of a split, in the order of a table (:mod:`hale.evaluation.metrics`)."""
METRICS = (
    "valid/mrr", "test/mrr", "test/hits@1", "test/hits@3", "test/hits@10", "train_seconds",
    "steps", "parameters",
)  # fmt: skip
"""Columns of a table of runs."""
LOW_IS_GOOD = ("train_seconds", "steps", "parameters")
"""Metrics of which less is better; of all others, more is."""
COUNTS = ("steps", "parameters")
"""Metrics that are integers."""
LEAST_IMPORTANT = (
    "steps", "parameters", "test/hits@3", "test/hits@1", "train_seconds", "test/hits@10",
    "valid/mrr", "test/mrr",
)  # fmt: skip
"""Metrics in the order in which a narrow table drops them."""
BOOKKEEPING = ("experiment", "logger", "debug", "jobs", "paper_seconds")
"""Settings of how runs were started and logged; a result does not depend on them."""
DATASETS = {
    "family": "family", "fb15k237": "FB15k-237", "wn18rr": "WN18RR", "codex_s": "CoDEx-S",
    "codex_m": "CoDEx-M", "codex_l": "CoDEx-L",
}  # fmt: skip
"""Published names of the datasets, by config choice."""


def metric_value(run: "RunFolder", name: str) -> float | int | None:
    """A metric of a finished run, counts as integers; None if it is not recorded."""
    value = run.metric(name)
    return int(value) if value is not None and name in COUNTS else value


def differences(runs: Sequence["RunFolder"]) -> list[str]:
    """The settings in which finished runs differ and on which a result can depend.

    As :func:`hale.runs.folders.varying`, but bookkeeping does not count, and the dimension counts
    as a choice, so that values that a recipe sets for a dimension are left out.
    """
    from hale.runs.folders import varying

    bare = []
    for run in runs:
        if run.record is not None:
            choices = _telling(run.record["choices"]) | {"model.dim": run.settings.get("model.dim")}
            bare.append(replace(run, record=run.record | {"choices": choices}))
    return list(_telling(dict.fromkeys(varying(bare))))


def _telling(settings: Mapping[str, str | None]) -> dict[str, str | None]:
    return {
        name: value
        for name, value in settings.items()
        if name.split(".", 1)[0] not in BOOKKEEPING
        and not name.rsplit(".", 1)[-1].startswith("_")  # classes count by their config choice
    }


def dataset_title(settings: Mapping[str, str]) -> str:
    """The name of the dataset that a run was trained on; that of the folder or file if its own.

    Args:
        settings: of a run (:attr:`hale.runs.folders.RunFolder.settings`).
    """
    choice = settings.get("dataset", "")
    path = settings.get("dataset.path", "").rstrip("/")
    return path.rsplit("/", 1)[-1] if path else DATASETS.get(choice, choice)
