"""The settings that a run was trained with, kept in its folder in Hydra's form.

Hydra itself would write them before anything is checked, so that a refused command would change
what is remembered of a run; hale writes them when training starts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError, first_line
from hale.runs.files import write_atomically
from hale.runs.record import overrides_text
from hale.settings import recipe
from hale.settings.compose import keep_path

KEPT = ".hydra"
BAD_CONTENT = (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What is raised where the content of a file is not what it is expected to be."""


def write_settings(
    folder: Path, cfg: DictConfig, hydra_text: str, overrides: Sequence[str]
) -> None:
    """Write the files that Hydra would have written when the job was asked for.

    Args:
        folder: the run's.
        cfg: the settings, without Hydra's own.
        hydra_text: Hydra's own, as YAML.
        overrides: that were typed.
    """
    texts = {
        "hydra": hydra_text,
        "overrides": overrides_text(overrides),
        "config": OmegaConf.to_yaml(cfg),  # last: a folder that has it can be resumed
    }
    (folder / KEPT).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with write_atomically(folder / KEPT / f"{name}.yaml") as file:
            file.write(text)


def read_settings(folder: Path, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """The settings that a run's folder keeps, with overrides, and Hydra's own.

    Args:
        folder: the run's, which may have been moved.
        overrides: ``key=value`` of values that differ now.

    Raises:
        HaleError: not a run's folder, or its settings are damaged.
    """
    kept = [folder / KEPT / f"{name}.yaml" for name in ("config", "hydra")]
    if not all(path.is_file() for path in kept):
        raise HaleError(f"{folder} is not a run folder: it has no {KEPT}/config.yaml")
    try:
        started, hydra_cfg = map(OmegaConf.load, kept)
        assert isinstance(started, DictConfig)
        job = hydra_cfg.hydra
        keep_path(started, str(job.runtime.cwd))
        values = [word for word in overrides if _is_value(word, started)]
        cfg = OmegaConf.merge(started, OmegaConf.from_dotlist(values))
        with open_dict(job):
            _adapt(job, folder, overrides)
        assert isinstance(cfg, DictConfig)
        for group in (*recipe.GROUPS, "budget", "data", "trainer"):
            assert isinstance(cfg.get(group), DictConfig), f"{group} is missing"
    except (yaml.YAMLError, OmegaConfBaseException, OSError, *BAD_CONTENT) as error:
        reason = first_line(error)
        raise HaleError(
            f"{folder / KEPT} is damaged ({reason}): start the run in a new folder"
        ) from error
    if len(values) < len(overrides):
        unknown = next(word for word in overrides if word not in values)
        raise HaleError(
            f"{unknown}: the run has no such setting; a resumed run changes values, KEY=VALUE"
        )
    return cfg, job


def _is_value(word: str, started: DictConfig) -> bool:
    """Whether a word gives a value to a setting that a run has, or adds one to a part of it."""
    name, equals, _ = word.partition("=")
    top, dot, _ = name.partition(".")
    return bool(equals) and top in started and isinstance(started[top], DictConfig) == bool(dot)


def raw(node: Any, key: str) -> Any:
    """A value of Hydra's own settings, in which overrides keep the interpolations of the run's."""
    plain: Any = OmegaConf.to_container(node, resolve=False)
    return plain[key]


def _adapt(job: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Set where the folder lies now and what is typed now; the log file is hale's own."""
    logging = job.job_logging
    logging.handlers.pop("file", None)
    logging.root.handlers = [name for name in logging.root.handlers if name != "file"]
    job.runtime.output_dir = str(folder.resolve()).replace("${", r"\${")
    job.overrides.task = [*raw(job.overrides, "task"), *overrides]
