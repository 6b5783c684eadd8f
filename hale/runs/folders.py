"""Runs as they are found on disk: finished, failed and interrupted.

A run is a folder with a ``result.json``, or a line of a file of trials: a ``*.jsonl`` file whose
lines are records with the key ``trial``, the run's name. Validations are in the folder's
``curve.csv``, or in the record as ``curve``, a list for each column.
"""

import csv
import json
import math
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from hale.errors import HaleError, first_line
from hale.runs.record import RESULT_FILE, overrides_of, read_result

ERROR_FILE = "error.txt"
"""Holds the error message of a failed job."""
TRIALS = ".jsonl"
"""How the name of a file of trials ends."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Args:
        path: its folder; for a trial, its file and its name (``wn18rr.jsonl/adv_neg_m3``).
        overrides: its command-line overrides.
        record: its ``result.json`` or line; None if it has not finished.
        error: why it has no result, if known.
    """

    path: Path
    overrides: tuple[str, ...]
    record: dict[str, Any] | None
    error: str | None

    def metric(self, name: str) -> float | None:
        """The value of a metric; None if the record has none, or no finite one."""
        value = (self.record or {}).get(name)
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:
            return None
        return number if math.isfinite(number) else None

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Its validations, in order; empty if they were not recorded. NaN is not defined.

        Raises:
            HaleError: the curve is damaged.
        """
        columns = (self.record or {}).get("curve")
        path = self.path if columns is not None else self.path / "curve.csv"
        try:
            raw = _csv_rows(path) if columns is None else _rows(columns)
            curve = [{n: float("nan" if v in (None, "") else v) for n, v in r.items()} for r in raw]
            if not all("train_seconds" in row and "step" in row for row in curve):
                raise ValueError("its columns are not step, train_seconds and metrics")
        except (AttributeError, TypeError, ValueError, csv.Error, OSError) as error:
            raise HaleError(f"{path} is not a curve ({error}): remove it") from error
        return curve

    @cached_property
    def settings(self) -> dict[str, str]:
        """The chosen config groups, then every value of the config by its dotted name, as text."""
        if self.record is None:
            return {}
        chosen = {
            group: str(choice)
            for group, choice in self.record["choices"].items()
            if choice is not None and not group.startswith("recipe")
        }
        return chosen | dict(_leaves(self.record["config"]))


def find_runs(top: Path) -> list[RunFolder]:
    """All runs at or below ``top``, by path; ``top`` may be a file of trials.

    Symbolic links to folders are followed; a run that is reached twice is listed once.

    Raises:
        HaleError: there is no such folder or file.
    """
    if top.suffix == TRIALS and top.is_file():
        return list(_read_trials(top))
    if not top.is_dir():
        raise HaleError(f"{top} is not a folder: give one that holds runs")
    found, started, trials = set(), set(), []
    for folder, names in _folders(top):
        if RESULT_FILE in names:
            found.add(folder)
        if "overrides.yaml" in names and folder.name == ".hydra":
            started.add(folder.parent)
        trials += [folder / name for name in names if name.endswith(TRIALS)]
    found -= {path for path in found if path.name == "model" and path.parent in found}
    found -= {path for path in found if path.name == "start"}  # what an update starts from
    lines = [run for path in trials for run in _read_trials(path)]
    return sorted([*map(_read, found | started), *lines], key=lambda run: run.path)


def _folders(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below ``top`` once, those behind links last, and the names in it."""
    seen: set[tuple[int, int]] = set()
    folders, links = [top], deque[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # removed meanwhile, or not to be read
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.is_symlink() and Path(entry.path).is_dir():
                links.append(folder / entry.name)
            elif entry.is_dir():
                folders.append(folder / entry.name)
        yield folder, [entry.name for entry in entries]


def varying(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the settings in which finished runs differ.

    Config groups come first. Values count only if they differ between runs of the same choices, so
    values that a recipe sets for a choice are left out.
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


def damage(run: RunFolder) -> str | None:
    """What is wrong with the curve of a finished run; None if it can be drawn."""
    try:
        _ = run.curve
    except HaleError as error:
        return str(error)
    return None


def _read(path: Path) -> RunFolder:
    overrides: tuple[str, ...] = ()
    try:
        error = _error(path / ERROR_FILE)
        overrides = _overrides(path / ".hydra" / "overrides.yaml")
        record = read_result(path)
    except HaleError as damage:
        return RunFolder(path, overrides, None, str(damage))
    if record is not None and not _is_record(record):
        return RunFolder(path, overrides, None, f"{path / RESULT_FILE} is not a result record")
    return RunFolder(path, overrides, record, error if record is None else None)


def _error(path: Path) -> str | None:
    """The first line of an error message that a failed job left; None if there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HaleError(f"{path} cannot be read ({error.strerror}): remove it") from error
    return lines[0] if lines else None


def _overrides(path: Path) -> tuple[str, ...]:
    """What is written in a list of overrides; interpolations stay as they are typed."""
    if not path.is_file():
        return ()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise ValueError(f"it holds {type(content).__name__}")
        return tuple(map(str, content))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise HaleError(f"{path} is not a list of overrides ({reason}): remove it") from error


def _read_trials(path: Path) -> Iterator[RunFolder]:
    """The lines of a file of trials; none of another JSONL file."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if not re.search(r'^\{"trial":', text, re.MULTILINE):
        return
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and "trial" in record and _is_record(record):
            yield RunFolder(path / str(record["trial"]), overrides_of(record), record, None)
        else:
            error = f"{path}, line {number}, is not a result record"
            yield RunFolder(path / f"line {number}", (), None, error)


def _is_record(record: dict[str, Any]) -> bool:
    if not all(isinstance(record.get(part), dict) for part in ("choices", "config")):
        return False
    try:
        _ = dict(_leaves(record["config"]))
    except RecursionError:
        return False
    return True


def _csv_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _rows(columns: dict[str, list[float]]) -> list[dict[str, float]]:
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)
