"""hale's defaults against rivals on any graph: ``python -m benchmarks.own_data FOLDER``.

``FOLDER`` has the graphs of ``python -m benchmarks.own_graphs`` and, in their own format, the
benchmarks wn18rr, fb15k237, codex-s and codex-m. Every system trains for the same seconds in a
process of its own, one at a time, and leaves a record in ``results/own_data/runs.jsonl``. What has
a record is not run again, so that an interrupted call goes on. ``--report`` makes ``table.md`` of
the records. A machine that does nothing else is needed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, has_pykeen
from benchmarks.own_systems import PYKEEN, SYSTEMS, Task, applies, run_task

SECONDS = {
    "nations": 10.0, "umls": 15.0, "kinships": 30.0, "codex-s": 60.0, "codex-m": 60.0,
    "wn18rr": 60.0, "fb15k237": 60.0, "go": 60.0, "wordnet3": 60.0, "debian": 120.0,
}  # fmt: skip
"""Of training."""
ROWS = (
    "nations", "umls", "kinships", "codex-s@32", "codex-s@256", "codex-m@32", "fb15k237@32",
    "wn18rr@32", "go", "wordnet3", "debian",
)  # fmt: skip
"""Graphs; after an @, the dimension of all systems, where it is not their own choice."""


def main() -> None:
    """Run what is missing, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs_folder", type=Path)
    parser.add_argument("--graphs", nargs="+", default=list(ROWS), help="as codex-s or codex-s@32")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seconds", type=float, help="of training; by default the graph's own")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/own_data"))
    parser.add_argument("--report", action="store_true", help="make table.md of the records")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the first, here
    given = parser.parse_args()
    records = given.folder / "runs.jsonl"
    if given.report:
        from benchmarks.own_report import write_report

        write_report(records)
        return
    missing = missing_tasks(given, read_records(records))
    if given.here:
        append(records, run_task(missing[0], given.graphs_folder.resolve()))
    else:
        run_each(given, missing)


def missing_tasks(given: argparse.Namespace, records: list[Row]) -> list[Task]:
    """What the command line asks for and has no record: all systems of a graph in turn."""
    for row in given.graphs:
        if not (given.graphs_folder / graph_and_dim(row)[0]).is_dir():
            sys.exit(f"{given.graphs_folder} has no folder {graph_and_dim(row)[0]}")
        if given.seconds is None and graph_and_dim(row)[0] not in SECONDS:
            sys.exit(f"--seconds is needed for {row}")
    tasks = [
        Task(
            *graph_and_dim(row), system, seed,
            given.seconds or SECONDS[graph_and_dim(row)[0]], given.threads,
        )
        for seed in given.seeds
        for row in given.graphs
        for system in given.systems
    ]  # fmt: skip
    done = {task_of(record) for record in records}
    return [task for task in tasks if applies(task) and task not in done]


def graph_and_dim(row: str) -> tuple[str, int | None]:
    """``codex-s@32`` is CoDEx-S in 32 dimensions, ``codex-s`` leaves them to the systems."""
    graph, _, dim = row.partition("@")
    return graph, int(dim) if dim else None


def run_each(given: argparse.Namespace, tasks: list[Task]) -> None:
    """Run the tasks, each in a process of its own."""
    if any(task.system in PYKEEN for task in tasks) and not has_pykeen():
        tasks = [task for task in tasks if task.system not in PYKEEN]
    minutes = sum(task.seconds for task in tasks) / 60
    print(f"{len(tasks)} runs, {minutes:.0f} minutes of training", flush=True)
    failed = []
    for number, task in enumerate(tasks, 1):
        print(
            f"\n{number} of {len(tasks)}: {task.row} {task.system}, seed {task.seed}, "
            f"{task.seconds:g} s (load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
        command = [
            sys.executable, "-m", "benchmarks.own_data", str(given.graphs_folder), *task.options,
            "--folder", str(given.folder), "--here",
        ]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            failed.append(f"{task.row} {task.system} {task.seed}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; run again to go on")


def read_records(path: Path) -> list[Row]:
    """The records, none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def task_of(record: Row) -> Task:
    """The task that a record is of."""
    return Task(*(record[name] for name in Task.__dataclass_fields__))


def append(path: Path, record: Row) -> None:
    """Add a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(record, allow_nan=False)}\n")


if __name__ == "__main__":
    main()
