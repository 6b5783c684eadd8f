"""The jobs of a sweep in progress: which folders they run in, and which of them were refused.

A job that is refused changes nothing in a folder that holds a run. So that the summary can tell of
it, every job leaves a file in ``.jobs`` in the sweep's folder, which is removed at the end.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hale.errors import HaleError, first_line
from hale.runs.files import write_atomically
from hale.runs.folders import ERROR_FILE
from hale.runs.record import RESULT_FILE, overrides_text

JOBS = ".jobs"


@contextmanager
def noted(sweep: Path, folder: Path, number: int, overrides: Sequence[str]) -> Iterator[None]:
    """Note a job in the folder of its sweep, and why it was refused if it was.

    A job refused in a folder without a run leaves its overrides and its ``error.txt`` there.

    Args:
        sweep: the sweep's folder.
        folder: the job's.
        number: the job's.
        overrides: the job's.
    """
    _note(sweep, folder, number, None)
    try:
        yield
    except HaleError as error:
        line = first_line(error)
        if not any((folder / part).exists() for part in (RESULT_FILE, ".hydra/config.yaml")):
            with suppress(OSError):
                _keep_failure(folder, line, overrides)
        elif _kept_error(folder) != line:
            _note(sweep, folder, number, line)
        raise


def noted_jobs(sweep: Path) -> dict[Path, str | None]:
    """The folders of the jobs below that of the sweep, and why they were refused."""
    jobs: dict[Path, str | None] = {}
    for path in sorted((sweep / JOBS).glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            job = json.loads(path.read_text(encoding="utf-8"))
            jobs[sweep / job["folder"]] = job["refused"]
    return jobs


def forget_jobs(sweep: Path) -> None:
    """Remove what the jobs have left in the sweep's folder."""
    shutil.rmtree(sweep / JOBS, ignore_errors=True)


def _note(sweep: Path, folder: Path, number: int, refused: str | None) -> None:
    with suppress(OSError):
        (sweep / JOBS).mkdir(parents=True, exist_ok=True)
        with write_atomically(sweep / JOBS / f"{number}.json") as file:
            json.dump({"folder": os.path.relpath(folder, sweep), "refused": refused}, file)


def _keep_failure(folder: Path, line: str, overrides: Sequence[str]) -> None:
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / ".hydra" / "overrides.yaml") as file:
        file.write(overrides_text(overrides))
    with write_atomically(folder / ERROR_FILE) as file:
        file.write(f"{line}\n")


def _kept_error(folder: Path) -> str | None:
    with suppress(OSError):
        return (folder / ERROR_FILE).read_text(encoding="utf-8", errors="replace").strip()
    return None
