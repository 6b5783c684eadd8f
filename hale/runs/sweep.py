"""Sweeps: a folder for each run, the summary at the end, and a check of the output folder."""

import atexit
import math
import os
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError
from hale.runs.sweep_jobs import forget_jobs, noted_jobs

if TYPE_CHECKING:
    from hale.runs.folders import RunFolder
    from hale.runs.tables import FittedTable

METRICS = ("test/mrr", "test/hits@10", "train_seconds")
"""Columns of the summary beside the monitored metric; a narrow table drops the last first."""
LONGEST_PATH = 24
"""Of a run below its sweep; longer ones consist of values, which have columns of their own."""


class SweepSummary(Callback):
    """Prints a table of the sweep's runs, the best first, and the jobs that have no result.

    Also if a job failed or the sweep was interrupted: Hydra tells its callbacks of neither, so the
    table is printed when the process ends. Runs of earlier sweeps in the same folder count if a
    study is continued, and not in Hydra's basic sweep, whose folder may hold other experiments.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have the summary printed at the end."""
        folder = Path(config.hydra.sweep.dir)
        forget_jobs(folder)
        atexit.register(_summarize, folder, str(config.monitor), _is_basic(config))


class WritableOutput(Callback):
    """Ends the command with one line if its output folder cannot be written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the run's folder; it is removed at the end if nothing was written to it."""
        HydraConfig.instance().set_config(config)  # the folder's name may hold the choices
        folder = Path(config.hydra.run.dir).absolute()
        atexit.register(_remove_empty, [f for f in (folder, *folder.parents) if not f.exists()])
        _require_writable(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the runs' folders, then try the sweep's."""
        HydraConfig.instance().set_config(config)
        if _is_basic(config):
            sweep = config.hydra.sweep
            try:
                values = grid(config.hydra.sweeper.params or {}, config.hydra.overrides.task)
                require_own_folders(sweep, values, Path(sweep.dir))
            except HydraException:
                return  # an override that the sweeper itself refuses, in its own words
            except HaleError as error:
                sys.exit(str(error))
        _require_writable(Path(config.hydra.sweep.dir))


def _is_basic(config: DictConfig) -> bool:
    return str(config.hydra.sweeper["_target_"]).endswith(".BasicSweeper")


def grid(params: Mapping[Any, Any], overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of a sweep by setting, in order, as Hydra's basic sweeper combines them.

    Args:
        params: the config's ``hydra.sweeper.params``.
        overrides: of the command line; one replaces a parameter of the same setting.

    Raises:
        HydraException: something that is not an override.
    """
    texts = [*(f"{key}={value}" for key, value in params.items()), *overrides]
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(texts):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
    return values


def require_own_folders(
    sweep: DictConfig, values: Mapping[str, Sequence[str]], folder: Path
) -> None:
    """Raise HaleError for a swept setting that the runs' folders are not named by.

    Args:
        sweep: ``hydra.sweep`` of the config.
        values: of each setting (:func:`grid`).
        folder: the sweep's.
    """
    node: Any = OmegaConf.to_container(sweep, resolve=False)
    names = set(re.findall(r"\$\{(?:hydra:runtime\.choices\.)?([^${}]+)\}", str(node["subdir"])))
    if any(name.startswith("hydra:job.") for name in names):
        return  # a number or all overrides
    for key, swept in values.items():
        inside = any(name == key or name.startswith(f"{key}.") for name in names)
        if len(set(swept)) > 1 and not inside:
            raise HaleError(
                f"runs that differ in {key} would share a folder of {folder}: give one value at a "
                "time, each with a folder of its own (RESULTS=... of make, or hydra.sweep.dir=...)"
            )


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        sys.exit(f"cannot write to the output folder {folder}: choose another, hydra.run.dir=...")


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that are empty, the inner first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _summarize(folder: Path, monitor: str, of_jobs: bool) -> None:
    """Print the summary of a sweep's jobs alone, or of all runs of its folder."""
    jobs = noted_jobs(folder)
    forget_jobs(folder)
    refused = {path: why for path, why in jobs.items() if why is not None}
    print_summary(folder, monitor, refused, set(jobs) if of_jobs else None)


def print_summary(
    folder: Path,
    monitor: str,
    refused: Mapping[Path, str] | None = None,
    among: Collection[Path] | None = None,
) -> None:
    """Print the table of a sweep's runs, and which have no result and why.

    Args:
        folder: the sweep's.
        monitor: the metric that ranks them.
        refused: folders of jobs that were refused, which hold another run, and why.
        among: the folders of the runs; None takes all below that of the sweep.
    """
    from rich.console import Console
    from rich.text import Text

    from hale.runs.folders import find_runs

    console = Console()
    try:
        runs = [run for run in find_runs(folder) if among is None or run.path in among]
    except HaleError as error:
        console.print(Text(f"no summary: {error}"), soft_wrap=True)
        return
    refused = refused or {}
    finished = [run for run in runs if run.record is not None and run.path not in refused]
    finished.sort(key=lambda run: run.metric(monitor) or -math.inf, reverse=True)
    lines = list(_failure_lines(runs, folder, refused))
    if finished:
        console.print(summary_table(finished, folder, monitor))
        best = finished[0]
        lines = [f"best: {best.path}", f"      hale {shlex.join(best.overrides)}", *lines]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _failure_lines(
    runs: "Sequence[RunFolder]", folder: Path, refused: Mapping[Path, str]
) -> Iterator[str]:
    """A line for each reason why runs have no result, or keep one of other settings."""
    groups: dict[tuple[str, str], list[RunFolder]] = defaultdict(list)
    for run in runs:
        if run.record is None or run.path in refused:
            what = "not run again" if run.path in refused else "no result"
            why = refused.get(run.path) or run.error or "interrupted"
            why = why.replace(str(run.path.resolve()), "the folder")
            groups[what, why.replace(str(run.path), "the folder")].append(run)
    for (what, why), group in groups.items():
        paths = ", ".join(str(run.path.relative_to(folder)) for run in group)
        if len(group) == 1:
            yield f"{what}: {paths} ({shlex.join(group[0].overrides)}): {why}"
        else:
            yield f"{what}: {len(group)} runs: {why}: {paths}"
    if any(what == "no result" for what, _ in groups):
        yield f"resume with: the same command and hydra.sweep.dir={shlex.quote(str(folder))}"


def summary_table(finished: "Sequence[RunFolder]", folder: Path, monitor: str) -> "FittedTable":
    """A row for each finished run: what varies, and its metrics, of which ``monitor`` ranks."""
    from hale.runs.folders import varying
    from hale.runs.tables import FittedTable

    names = varying(finished)
    last = [name.rsplit(".", 1)[-1] for name in names]
    heads = [
        short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)
    ]
    shown = [m for m in METRICS if m != monitor and any(m in (r.record or {}) for r in finished)]
    paths = [str(run.path.relative_to(folder)) for run in finished]
    named = max(map(len, paths)) <= LONGEST_PATH
    rows = [
        {
            **({"run": path} if named else {}),
            **{h: run.settings.get(name) for h, name in zip(heads, names, strict=True)},
            **{metric: run.metric(metric) for metric in (monitor, *shown)},
        }
        for run, path in zip(finished, paths, strict=True)
    ]
    complete = f"hale results {shlex.quote(str(folder))} --format tsv"
    return FittedTable(rows, f"{folder}, by {monitor}", drop=shown[::-1], complete=complete)
