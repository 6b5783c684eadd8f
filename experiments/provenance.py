"""Whether a recorded run can be repeated: its commit, and its settings beside today's recipe."""

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from experiments.records import Record
from hale.runs.record import RECIPE_KEYS, identity
from hale.settings.compose import compose

MODIFIED = "†"
"""Marks a run on a modified checkout, or with no commit recorded."""
STALE = "‡"
"""Marks a run with settings that differ from today's recipe."""


def is_stale(record: Record, experiment: str) -> bool:
    """Whether its settings, the budget aside, differ from those that it would have today.

    Args:
        record: of a run with a strategy.
        experiment: a file of ``conf/experiment``, whose table or figure shows the run.
    """
    chosen = tuple(str(record.choice(group)) for group in ("dataset", "strategy", "model"))
    today = _todays_config(experiment, *chosen, record.dim) | {"seed": record.seed}
    found, wanted = (identity(config, RECIPE_KEYS) for config in (record.result["config"], today))
    return found != wanted


@cache
def _todays_config(
    experiment: str, dataset: str, strategy: str, model: str, dim: int
) -> dict[str, Any]:
    """The parts of the config that identify a run, for seed 0."""
    cfg = compose(
        [f"experiment={experiment}", f"dataset={dataset}", f"strategy={strategy}",
         f"model={model}", f"model.dim={dim}"]
    )  # fmt: skip
    config: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(cfg, list(RECIPE_KEYS)), resolve=True
    )
    return dict(config)
