"""Hydra callbacks: the summary of a sweep, and a check of the output folder."""

import atexit
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hale.errors import HaleError

if TYPE_CHECKING:
    from rich.table import Table

    from hale.runs.folders import RunFolder

METRICS = ("test/mrr", "test/hits@10", "train_seconds")
"""Columns of the summary beside the monitored metric."""
LONGEST_PATH = 24
"""Of a run below its sweep; longer ones are made of values, which have columns of their own."""


class SweepSummary(Callback):
    """Prints a table of the sweep's runs, the best first, and the jobs that have no result.

    Also where a job failed or the sweep was interrupted: Hydra tells its callbacks of neither, so
    the table is printed as the process ends.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have the summary printed at the end."""
        atexit.register(print_summary, Path(config.hydra.sweep.dir), str(config.monitor))


class WritableOutput(Callback):
    """Ends the command with one line where its output folder cannot be written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the run's folder."""
        HydraConfig.instance().set_config(config)  # the folder's name may hold the choices
        _require_writable(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the sweep's folder."""
        HydraConfig.instance().set_config(config)
        _require_writable(Path(config.hydra.sweep.dir))


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        sys.exit(f"cannot write to the output folder {folder}: choose another, hydra.run.dir=...")


def print_summary(folder: Path, monitor: str) -> None:
    """Print the table of the runs in ``folder``, and what has no result."""
    from rich.console import Console
    from rich.text import Text

    from hale.runs.folders import find_runs

    console = Console()
    try:
        runs = find_runs(folder)
    except HaleError as error:
        console.print(Text(f"no summary: {error}"), soft_wrap=True)
        return
    finished = [run for run in runs if run.record is not None]
    finished.sort(key=lambda run: run.metric(monitor) or -math.inf, reverse=True)
    if finished:
        console.print(summary_table(finished, folder, monitor))
        best = finished[0]
        console.print(Text(f"best: {best.path}"), soft_wrap=True)
        console.print(Text(f"      hale {' '.join(best.overrides)}"), soft_wrap=True)
    missing = [run for run in runs if run.record is None]
    for run in missing:
        why = run.error or "cut short"
        line = f"no result: {run.path.relative_to(folder)} ({' '.join(run.overrides)}): {why}"
        console.print(Text(line), soft_wrap=True)
    if missing:
        line = f"resume with: the same command and hydra.sweep.dir={folder}"
        console.print(Text(line), soft_wrap=True)


def summary_table(finished: "list[RunFolder]", folder: Path, monitor: str) -> "Table":
    """A row for each finished run: what varies, and its metrics."""
    from rich.table import Table
    from rich.text import Text

    from hale.runs.folders import varying

    names = varying(finished)
    last = [name.rsplit(".", 1)[-1] for name in names]
    heads = [
        short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)
    ]
    shown = [m for m in METRICS if m != monitor and any(m in (r.record or {}) for r in finished)]
    table = Table(title=Text(f"{folder}, by {monitor}"))
    paths = [str(run.path.relative_to(folder)) for run in finished]
    numbered = max(map(len, paths)) <= LONGEST_PATH
    for head in ("run", *heads) if numbered else heads:
        table.add_column(head, no_wrap=True)
    for metric in (monitor, *shown):
        table.add_column(metric, justify="right", no_wrap=True)
    for run, path in zip(finished, paths, strict=True):
        cells = [_short(run.settings.get(name, "")) for name in names]
        numbers = [_short(str((run.record or {}).get(m, ""))) for m in (monitor, *shown)]
        table.add_row(*map(Text, ([path] if numbered else []) + cells + numbers))
    return table


def _short(text: str) -> str:
    """A number with four digits; other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
