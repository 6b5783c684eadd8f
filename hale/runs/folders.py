"""Run folders as they are found on disk: finished, failed and cut short."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hale.errors import HaleError
from hale.runs.record import RESULT_FILE, read_result

ERROR_FILE = "error.txt"
"""The line that a failed job ended with."""


@dataclass(frozen=True)
class RunFolder:
    """What a run left.

    Args:
        path: its folder.
        overrides: what was typed or swept for it.
        record: its ``result.json``; None where it has not finished.
        error: why it has no result, if that is known.
    """

    path: Path
    overrides: tuple[str, ...]
    record: dict[str, Any] | None
    error: str | None

    def metric(self, name: str) -> float | None:
        """A number of the record; None where it has none of this name, or no finite one."""
        value = (self.record or {}).get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Its validations on the training clock; none where they were not kept.

        Raises:
            HaleError: the file holds something else.
        """
        path = self.path / "curve.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        try:
            return [{name: float(value) for name, value in row.items()} for row in rows]
        except (TypeError, ValueError) as error:
            raise HaleError(f"{path} is not a curve ({error}): remove it") from error

    @cached_property
    def settings(self) -> dict[str, str]:
        """Choices of groups, then every leaf of the config by its dotted name, as text."""
        if self.record is None:
            return {}
        chosen = {
            group: str(choice)
            for group, choice in self.record["choices"].items()
            if choice is not None and not group.startswith("recipe")
        }
        return chosen | dict(_leaves(self.record["config"]))


def find_runs(top: Path) -> list[RunFolder]:
    """All run folders at or below ``top``, by path.

    Raises:
        HaleError: no such folder.
    """
    if not top.is_dir():
        raise HaleError(f"{top} is not a folder: give one that holds runs")
    found = {path.parent for path in top.rglob(RESULT_FILE)}
    found -= {path for path in found if path.name == "model" and path.parent in found}
    started = {path.parent.parent for path in top.rglob(".hydra/overrides.yaml")}
    return [_read(path) for path in sorted(found | started)]


def varying(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the settings that tell finished runs apart.

    Groups whose choices differ come first; of the values, those that differ between runs of the
    same choices, so that a recipe's values do not count.
    """
    settings = [run.settings for run in runs if run.record is not None]
    groups = sorted({name for run in runs for name in (run.record or {}).get("choices", {})})
    chosen = [g for g in groups if len({each.get(g) for each in settings}) > 1]
    chosen = [g for g in chosen if not g.startswith("recipe")]
    alike: dict[tuple[str | None, ...], list[dict[str, str]]] = defaultdict(list)
    for each in settings:
        alike[tuple(each.get(group) for group in chosen)].append(each)
    values = {
        name
        for same in alike.values()
        for name in {name for each in same for name in each}
        if len({each.get(name) for each in same}) > 1
    }
    return chosen + sorted(values)


def _read(path: Path) -> RunFolder:
    overrides = path / ".hydra" / "overrides.yaml"
    known = tuple(map(str, OmegaConf.load(overrides))) if overrides.is_file() else ()
    failure = path / ERROR_FILE
    error = failure.read_text(encoding="utf-8").strip() if failure.is_file() else None
    try:
        record = read_result(path)
    except HaleError as damage:
        return RunFolder(path, known, None, str(damage))
    parts = [(record or {}).get(name) for name in ("choices", "config")]
    if record is not None and not all(isinstance(part, dict) for part in parts):
        return RunFolder(path, known, None, f"{path / RESULT_FILE} is not a result record")
    return RunFolder(path, known, record, error)


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)
