"""Time to quality, valid MRR against training seconds: ``python -m benchmarks.race``.

Each system trains in a process of its own, on as many cores as it has threads, and leaves a record
in ``results/race/<dataset>/<system>.json``. A record that is there is not made again, so an
interrupted race goes on. ``--report`` makes ``race.md`` and ``race.png`` of the records.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

DATASETS = ("fb15k237", "wn18rr")


def main() -> None:
    """Run what is missing, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0, help="of training, each system")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each system")
    parser.add_argument("--jobs", type=int, default=1, help="systems at a time, on their own cores")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--systems", nargs="+", help="all by default")
    parser.add_argument("--folder", type=Path, default=Path("results/race"))
    parser.add_argument("--quick", action="store_true", help="2 seconds each on the family graph")
    parser.add_argument("--report", action="store_true", help="make race.md and race.png")
    parser.add_argument("--cores", help=argparse.SUPPRESS)  # a process that runs one system
    given = parser.parse_args()
    if given.cores is not None:
        run_one(given)
    elif given.report:
        from benchmarks.race_report import write_report

        write_report(given.folder)
    else:
        if given.quick:
            given.datasets, given.seconds = ["family"], 2.0
        run_missing(given)


def run_one(given: argparse.Namespace) -> None:
    """Train one system on these cores, which PyTorch must not have counted before."""
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, given.cores.split(",")))
    from benchmarks.measure import write_json
    from benchmarks.race_systems import run_system

    (name,), (dataset,) = given.systems, given.datasets
    record = run_system(name, dataset, given.seconds, given.threads)
    write_json(record_path(given.folder, dataset, name), record)


def run_missing(given: argparse.Namespace) -> None:
    """Run every system that has no record yet, ``jobs`` at a time."""
    from benchmarks.measure import has_pykeen
    from benchmarks.race_systems import SYSTEMS, PyKEEN

    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if usable and given.jobs * given.threads > len(usable):
        sys.exit(f"{given.jobs} jobs of {given.threads} threads need more than {len(usable)} cores")
    names = given.systems or list(SYSTEMS)
    if unknown := set(names) - set(SYSTEMS):
        sys.exit(f"no system {', '.join(sorted(unknown))}: choose among {', '.join(SYSTEMS)}")
    if any(isinstance(SYSTEMS[name], PyKEEN) for name in names) and not has_pykeen():
        names = [name for name in names if not isinstance(SYSTEMS[name], PyKEEN)]
    missing = [
        (dataset, name)
        for dataset in given.datasets
        for name in names
        if not record_path(given.folder, dataset, name).exists()
    ]
    _require_alike(given, names)
    free: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(given.jobs):
        free.put(usable[job * given.threads : (job + 1) * given.threads])

    def start(task: tuple[str, str]) -> bool:
        dataset, name = task
        cores = free.get()
        print(f"{dataset} {name}: {given.seconds:g} s on cores {cores}", flush=True)
        command = [
            sys.executable, "-m", "benchmarks.race", "--cores", ",".join(map(str, cores)),
            "--datasets", dataset, "--systems", name, "--seconds", str(given.seconds),
            "--threads", str(given.threads), "--folder", str(given.folder),
        ]  # fmt: skip
        try:
            return subprocess.run(command, check=False).returncode == 0
        finally:
            free.put(cores)

    with ThreadPoolExecutor(given.jobs) as pool:
        done = list(pool.map(start, missing))
    if not all(done):
        failed = [" ".join(task) for task, fine in zip(missing, done, strict=True) if not fine]
        sys.exit(f"failed: {', '.join(failed)}; run again to go on")


def _require_alike(given: argparse.Namespace, names: list[str]) -> None:
    """End the command if an existing record is from another race."""
    for path in (record_path(given.folder, d, n) for d in given.datasets for n in names):
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            seconds, threads = record["seconds"], record["hardware"]["threads"]
            if (seconds, threads) != (given.seconds, given.threads):
                sys.exit(
                    f"{path} is of {seconds:g} s on {threads} threads, this race of "
                    f"{given.seconds:g} s on {given.threads}: choose another folder for it "
                    "(--folder, or RACE=... with make)"
                )


def record_path(folder: Path, dataset: str, name: str) -> Path:
    """Where a system's record lies."""
    return folder / dataset / f"{name}.json"


if __name__ == "__main__":
    main()
