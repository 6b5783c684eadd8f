"""Lists the runs of an experiment, then trains what is missing: ``... table2 --budget 0.25``.

The training is Hydra's own sweep, ``python -m hale.run -m experiment=table2 ...``, which takes the
place of this process: a finished run returns at once, an interrupted one is resumed, a failing one
does not stop the others.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.budget import Budget
from experiments.list import expand, show
from hale.errors import HaleError
from hale.settings.compose import compose


def settings(experiment: str, budget: Budget, device: str, jobs: int) -> list[str]:
    """The overrides that each run of an experiment is trained with.

    Args:
        experiment: a file of ``conf/experiment``.
        budget: of each run.
        device: a choice of ``conf/trainer``.
        jobs: runs at a time.

    Raises:
        HaleError: no such experiment, or several runs at a time under a budget in seconds.
    """
    if jobs < 1:
        raise HaleError(f"JOBS must be at least 1, got {jobs}")
    if jobs > 1 and not budget.in_steps:
        raise HaleError(
            f"{jobs} concurrent runs share the machine, so a budget in seconds would not be "
            "comparable: use steps (STEPS=2000) or JOBS=1"
        )
    paper_seconds = compose([f"experiment={experiment}"]).get("training_seconds", {})
    shared = [f"jobs={jobs}", f"threads={max(1, (os.cpu_count() or 1) // jobs)}"]
    return [
        f"trainer={device}",
        *budget.overrides({str(name): seconds for name, seconds in paper_seconds.items()}),
        *(shared if jobs > 1 else []),
    ]


def command(experiment: str, overrides: Sequence[str], folder: Path, jobs: int) -> list[str]:
    """The arguments of Python that sweep an experiment into a folder."""
    launcher = ["hydra/launcher=parallel", f"hydra.launcher.n_jobs={jobs}"] if jobs > 1 else []
    path = f"{folder}" if re.fullmatch(r"[\w./-]+", f"{folder}") else f"'{folder}'"
    words = [f"experiment={experiment}", *overrides, f"hydra.sweep.dir={path}", *launcher]
    return ["-m", "hale.run", "-m", *words]


def main(arguments: Sequence[str] | None = None) -> int:
    """List the runs and become the sweep; 0 if nothing is to be run, 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sweep", description=__doc__)
    parser.add_argument("experiment", help="a file of conf/experiment")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="narrow the sweep")
    parser.add_argument("--budget", default="0.25", help="0.25 of the paper's, 60s, or 500steps")
    parser.add_argument("--device", default="cpu", help="a choice of conf/trainer: cpu or gpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with steps only")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--dry", action="store_true", help="only list the runs")
    given = parser.parse_intermixed_args(arguments)
    try:
        budget = Budget(given.budget)
        folder = given.results / given.device / budget.text
        common = settings(given.experiment, budget, given.device, given.jobs)
        runs = expand(given.experiment, [*common, *given.overrides], folder)
        show(runs)
    except HaleError as error:
        print(error, file=sys.stderr)
        return 2
    if given.dry or all(run.state == "finished" for run in runs):
        return 0
    words = command(given.experiment, [*common, *given.overrides], folder, given.jobs)
    print(shlex.join(["python", *words]), flush=True)
    return os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    sys.exit(main())
