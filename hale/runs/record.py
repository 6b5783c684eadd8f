"""The record of a run: one ``result.json`` that tables and figures are built from."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hale
from hale.errors import HaleError
from hale.runs.files import write_atomically

if TYPE_CHECKING:
    import torch
    from rich.table import Table

RESULT_FILE = "result.json"
IDENTITY_KEYS = (
    "model", "loss", "activation", "dataset", "data", "optimizer", "schedule", "seed", "monitor",
)  # fmt: skip
"""The parts of the config that a checkpoint or a record must share with the run that meets it."""
VERSIONED = ("torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy")


def write_result(folder: Path, record: dict[str, Any]) -> None:
    """Write ``record`` as the folder's result, whole or not at all."""
    with write_atomically(folder / RESULT_FILE) as file:
        json.dump(record, file, indent=2, sort_keys=True, allow_nan=False)
        file.write("\n")


def read_result(folder: Path) -> dict[str, Any] | None:
    """The folder's result, or None where its run has not finished.

    Raises:
        HaleError: the file is not a record.
    """
    path = folder / RESULT_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HaleError(f"{path} is not a result record ({error}): remove it and rerun") from error
    if not isinstance(record, dict):
        raise HaleError(f"{path} is not a result record: remove it and rerun")
    return record


def identity(config: Mapping[str, Any], keys: Sequence[str] = IDENTITY_KEYS) -> dict[str, Any]:
    """What a run is trained with, by parts of its config, in a form that compares.

    Classes count by their names, wherever their modules have moved to since.
    """
    return {key: _comparable(config.get(key)) for key in keys}


def _comparable(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    named = dict(part)
    if "_target_" in named:
        named["_target_"] = named["_target_"].rsplit(".", 1)[-1]
    if named.get("scale_lr_multiplier") == 1:  # records from before it was a setting lack it
        del named["scale_lr_multiplier"]
    return named


def changed(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The parts of the config in which a finished run's record differs from it."""
    keys = (*IDENTITY_KEYS, "budget")
    found, wanted = identity(record["config"], keys), identity(config, keys)
    return [key for key in keys if found[key] != wanted[key]]


def require_same_run(record: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Raise HaleError unless a folder's record is of the run that ``config`` describes."""
    if differing := changed(record, config):
        raise HaleError(
            f"{folder} holds a finished run with another {differing[0]}: remove it, or choose "
            "another folder"
        )


def provenance(device: "torch.device") -> dict[str, Any]:
    """Where and with what a run was made: date, hardware, versions, commit."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        },
        "versions": {"hale": hale.__version__, "python": platform.python_version()}
        | {package: version(package) for package in VERSIONED},
        "commit": _commit(),
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def _commit() -> str | None:
    """The commit of the checkout that hale is imported from, ``+`` where it has changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")


def result_table(title: str, rows: dict[str, dict[str, float]]) -> "Table":
    """A terminal table of ranking metrics, one row per system."""
    from rich.table import Table

    columns = ("mrr", "hits@1", "hits@3", "hits@10", "mr", "amri")
    table = Table(title=title)
    table.add_column("")
    for column in columns:
        table.add_column(column.upper() if column.startswith("m") else column, justify="right")
    for name, metrics in rows.items():
        cells = (f"{metrics[c]:.1f}" if c == "mr" else f"{metrics[c]:.4f}" for c in columns)
        table.add_row(name, *cells)
    return table
