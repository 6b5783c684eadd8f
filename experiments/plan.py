"""Runs what is missing of experiments: ``python -m experiments.plan table2 --budget 0.25``.

Each run is a process of ``hale.run`` in a folder of its own, named by what it is, so experiments
share the runs they have in common. A finished run is not repeated, an interrupted one is gone on
with, a failing one does not stop the others.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType

from experiments.grid import Budget, PlannedRun, State, expand
from hale.errors import HaleError
from hale.graphs.published import BENCHMARKS, fetch
from hale.graphs.reading import SPLITS
from hale.runs.record import read_result

INTERRUPTED = "interrupted: the same command goes on from here"
CHATTER = ("Error executing job", "Set the environment variable")
"""What Hydra prints around the line that says what is wrong."""


def plan(
    experiments: Iterable[str],
    budget: Budget,
    device: str,
    results: Path,
    overrides: Iterable[str],
    jobs: int = 1,
) -> list[PlannedRun]:
    """The runs of some experiments, each once.

    Raises:
        HaleError: a choice that Hydra refuses, or runs side by side under budgets in seconds.
    """
    if jobs < 1:
        raise HaleError(f"JOBS must be at least 1, got {jobs}")
    if jobs > 1 and not budget.in_steps:
        raise HaleError(
            f"{jobs} runs side by side share the machine, so a budget in seconds would not be "
            "comparable: give steps (BUDGET=2000steps), or JOBS=1"
        )
    folder = results / device / budget.text
    common = [f"trainer={device}"]
    if jobs > 1:
        common += [f"jobs={jobs}", f"threads={max(1, (os.cpu_count() or 1) // jobs)}"]
    runs: dict[Path, PlannedRun] = {}
    for name in experiments:
        for run in expand(name, budget, folder, (*common, *overrides)):
            runs.setdefault(run.folder, run)
    return list(runs.values())


def show(runs: list[PlannedRun]) -> dict[Path, State]:
    """Print each run with its state, and what all of them cost."""
    states = {run.folder: run.state() for run in runs}
    for run in runs:
        length = (
            f"{run.config['budget']['steps']} steps" if not run.seconds else f"{run.seconds:g} s"
        )
        line = f"{states[run.folder]:9} {length:>11}  {run.folder}"
        if states[run.folder] == "stale":
            record = read_result(run.folder)
            assert record is not None
            line += (
                f"  (made with another {', '.join(run.changed(record))}; remove it to run again)"
            )
        print(line)
    ahead = [run for run in runs if states[run.folder] in ("begun", "missing")]
    count = ", ".join(f"{n} {state}" for state, n in sorted(Counter(states.values()).items()))
    hours = sum(run.seconds or 0 for run in ahead) / 3600
    print(
        f"{len(runs)} runs: {count or 'none'}; at most {hours:.2f} h of training ahead, and start, "
        "validation and test beside it",
        flush=True,
    )
    return states


def execute(run: PlannedRun, running: set[subprocess.Popen[bytes]]) -> str | None:
    """Run to the end; None, or the line that says what went wrong.

    Args:
        run: what to run; what it prints goes to ``console.log`` of its folder.
        running: holds the process while it lives.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hale.run", *run.overrides, f"hydra.run.dir='{run.folder}'"]
    log = run.folder / "console.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        running.add(process)
        code = process.wait()
        running.discard(process)
    if code == 0 and read_result(run.folder) is not None:
        return None
    lines = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip() and not line.startswith(CHATTER)
    ]
    return lines[-1].strip() if lines else f"ended with exit status {code}"


def execute_all(runs: list[PlannedRun], jobs: int) -> dict[Path, str]:
    """Run all, ``jobs`` at a time; what went wrong, by folder."""
    failures: dict[Path, str] = {}
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(execute, run, running): run for run in runs}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                run, problem = futures[future], future.result()
                if problem is None:
                    record = read_result(run.folder) or {}
                    shown = f"{run.config['monitor']} {record[run.config['monitor']]:.4f}"
                else:
                    failures[run.folder] = problem
                    shown = f"failed: {problem}"
                print(f"[{number}/{len(runs)}] {run.folder}: {shown}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return failures


def unavailable(runs: list[PlannedRun]) -> dict[str, str]:
    """Fetch the benchmarks of the runs; the datasets that cannot be had, and why."""
    problems: dict[str, str] = {}
    for name in sorted({run.config["dataset"].get("name", "") for run in runs} & set(BENCHMARKS)):
        try:
            for split in SPLITS:
                fetch(BENCHMARKS[name], split)
        except HaleError as error:
            problems[name] = str(error)
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 if a run failed, 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plan", description=__doc__)
    parser.add_argument("words", nargs="+", metavar="EXPERIMENT | key=value")
    parser.add_argument("--budget", default="0.25", help="0.25 of the paper's, 60s, or 500steps")
    parser.add_argument("--device", default="cpu", help="a choice of conf/trainer: cpu or gpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--dry", action="store_true", help="only list the runs")
    given = parser.parse_intermixed_args(arguments)
    try:
        runs = plan(
            [word for word in given.words if "=" not in word], Budget(given.budget),
            given.device, given.results, [word for word in given.words if "=" in word], given.jobs,
        )  # fmt: skip
        states = show(runs)
        if given.dry:
            return 0
        ahead = [run for run in runs if states[run.folder] in ("begun", "missing")]
        absent = unavailable(ahead)
        for name, problem in absent.items():
            print(f"no runs on {name}: {problem}", flush=True)
        possible = [run for run in ahead if run.config["dataset"].get("name") not in absent]
        failures = execute_all(possible, given.jobs)
    except HaleError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    print(f"{len(possible) - len(failures)} runs done, {len(failures)} failed")
    for folder, problem in failures.items():
        print(f"  {folder}: {problem}")
    return 1 if failures else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
