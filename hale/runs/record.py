"""The record of a run: the ``result.json`` from which tables and figures are made."""

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from hale.errors import HaleError
from hale.runs.files import read_json, write_atomically
from hale.version import __version__

if TYPE_CHECKING:
    import torch

RESULT_FILE = "result.json"
PROTOCOL = 2
"""Of records that are written; docs/protocol.md says what changed. Records without one are of 1."""
RECIPE_KEYS = ("model", "loss", "activation", "dataset", "data", "optimizer", "schedule", "seed",
               "monitor", "exclude_own")  # fmt: skip
"""The parts of the config that a recipe sets, and those that its values are for."""
IDENTITY_KEYS = (*RECIPE_KEYS, "budget", "validations", "trainer", "callbacks")
"""The parts in which a checkpoint must agree with the run that resumes it."""
RECORD_KEYS = (*IDENTITY_KEYS, "test")
"""The parts in which a record must agree with the run that is asked for in its folder."""
NEWER = (
    ("scale_lr_multiplier", 1), ("weight_decay", 0), ("valid_queries", None),
    ("valid_queries", "auto"), ("test_queries", None), ("test_queries", "auto"),
    ("columns", None), ("weight", None), ("format", None), ("literals", "drop"), ("spent", 0),
    ("gradient_clip_val", None), ("accumulate_grad_batches", 1), ("precision", None),
    ("precision", 32), ("precision", "32"), ("precision", "32-true"), ("dropout", 0),
    ("candidates", "all"),
)  # fmt: skip
"""Settings that other records lack, with the value that does as they did."""
NOT_COMPARED = {
    "dataset": ("path",),
    "trainer": (
        "accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "profiler",
        "detect_anomaly", "enable_autolog_hparams",
    ),
}  # fmt: skip
"""Settings that do not change what is computed: where the triples lie, of which the fingerprint
tells, on what device training runs, and what it shows."""
VERSIONED = ("torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy")


def write_result(folder: Path, record: dict[str, Any]) -> None:
    """Write ``record`` as the folder's ``result.json``, atomically."""
    with write_atomically(folder / RESULT_FILE) as file:
        json.dump(record, file, indent=2, sort_keys=True, allow_nan=False)
        file.write("\n")


def defined(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics with None, which JSON has as null, where one is not defined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def read_result(folder: Path) -> dict[str, Any] | None:
    """The folder's ``result.json``; None if its run has not finished.

    Raises:
        HaleError: the file is not a record.
    """
    return read_json(folder / RESULT_FILE, _record, "remove it and rerun")


def _record(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("it is not a JSON object")
    return content


def identity(config: Mapping[str, Any], keys: Sequence[str] = IDENTITY_KEYS) -> dict[str, Any]:
    """The parts ``keys`` of a run's config, in a form that can be compared between versions.

    Classes are compared by name, because modules move.
    """
    return {key: _comparable(config.get(key), NOT_COMPARED.get(key, ())) for key in keys}


def _comparable(part: Any, left_out: Sequence[str]) -> Any:
    if not isinstance(part, Mapping):
        return part or None  # a part that older records lack is off
    named = {name: value for name, value in part.items() if name not in left_out}
    if "_target_" in named:
        named["_target_"] = named["_target_"].rsplit(".", 1)[-1]
    scale = named.get("relation_scale")
    if isinstance(scale, float):  # in older records: the learning-rate multiplier of the scale
        named |= {"relation_scale": True, "scale_lr_multiplier": scale}
    if scale is False:  # nothing is multiplied
        named.pop("scale_lr_multiplier", None)
    return {name: value for name, value in named.items() if (name, value) not in NEWER} or None


def changed(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The parts of ``config`` that differ from those of a finished run's record.

    The path of a dataset does not count.
    """
    found, wanted = identity(record["config"], RECORD_KEYS), identity(config, RECORD_KEYS)
    return [key for key in RECORD_KEYS if found[key] != wanted[key]]


def require_same_run(
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    folder: Path,
    fingerprint: Callable[[], str],
) -> None:
    """Raise HaleError unless the record in ``folder`` is of the run that ``config`` describes.

    Args:
        record: of a finished run.
        config: the resolved config of the run that is asked for.
        folder: the finished run's, for the message.
        fingerprint: reads the dataset and returns its fingerprint; called only where the config
            does not tell which dataset it is: a graph in memory, or one that lies elsewhere now.
    """
    differing = changed(record, config)
    if not differing and _may_differ(record["config"]["dataset"], config["dataset"]):
        same = fingerprint() == record["dataset_fingerprint"]
        differing = [] if same else ["dataset content"]
    if differing:
        raise HaleError(
            f"{folder} holds a finished run with another {differing[0]}: remove it, or choose "
            "another folder"
        )


def _may_differ(found: Any, wanted: Any) -> bool:
    """Whether two descriptions of a dataset that are alike may be of different triples."""
    in_memory = str(wanted.get("_target_", "")).endswith(".in_memory")
    return in_memory or found.get("path") != wanted.get("path")


def overrides_text(overrides: Sequence[str]) -> str:
    """Overrides as Hydra keeps them, in ``overrides.yaml``."""
    text: str = yaml.safe_dump(list(overrides), allow_unicode=True, width=10_000)
    return text


def overrides_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A run's command-line overrides.

    Records written before ``overrides`` was a key have them in ``name``, joined by commas, but for
    those that the experiment excludes from the name.
    """
    if "overrides" in record:
        return tuple(map(str, record["overrides"]))
    parts = re.split(r",(?=[^,=]+=)", str(record.get("name", "")))
    return tuple(part for part in parts if "=" in part)


def provenance(device: "torch.device", kernel: str | None = None) -> dict[str, Any]:
    """Where and with what a run was made: date, hardware, versions, commit.

    Args:
        device: where it trains.
        kernel: the variant that computes its scores, as
            :func:`hale.scoring.kernels.operations.kernel_variant` names it; by default that
            of hale's default comparator and activation.
    """
    import torch

    from hale.scoring.kernels.operations import kernel_variant

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "kernel": kernel_variant(device) if kernel is None else kernel,
        },
        "versions": {"hale": __version__, "python": platform.python_version()}
        | {package: version(package) for package in VERSIONED},
        "commit": _commit(),
    }


def provenance_of(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where, with what and by which protocol a run was made.

    Args:
        parts: the :func:`provenance` of each of its segments.

    Returns:
        Where the parts differ, their values are joined by "and". The date is that of its start.
        The commit is None if that of any part is, and ends in ``+`` if that of any part does.
    """
    commits = [part["commit"] for part in parts]
    return {
        "protocol": PROTOCOL,
        "date": parts[0]["date"],
        "hardware": _merged([part["hardware"] for part in parts]),
        "versions": _merged([part["versions"] for part in parts]),
        "commit": (
            None if None in commits else _joined(sorted(commits, key=lambda c: c.endswith("+")))
        ),
    }


def _merged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for each in found for name in each)
    return {name: _joined([each.get(name) for each in found]) for name in names}


def _joined(values: Sequence[Any]) -> Any:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else " and ".join(map(str, distinct))


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def _commit() -> str | None:
    """The commit of the checkout that hale is imported from; ``+`` marks uncommitted changes."""
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
