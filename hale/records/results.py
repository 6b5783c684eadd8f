"""The record of a run: one ``result.json`` that tables and figures are built from."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

import hale
from hale.errors import HaleError
from hale.files import write_atomically

if TYPE_CHECKING:
    import torch

RESULT_FILE = "result.json"
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


def result_table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """A terminal table of ranking metrics, one row per system."""
    columns = ("mrr", "hits@1", "hits@3", "hits@10", "mr", "amri")
    table = Table(title=title)
    table.add_column("")
    for column in columns:
        table.add_column(column.upper() if column.startswith("m") else column, justify="right")
    for name, metrics in rows.items():
        cells = (f"{metrics[c]:.1f}" if c == "mr" else f"{metrics[c]:.4f}" for c in columns)
        table.add_row(name, *cells)
    return table
