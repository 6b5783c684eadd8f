"""Faults injected into runs: ``python -m benchmarks.faults --faults 500 --files 1000``.

A run on a tiny graph is made to fail at one of the moments at which it touches the disk: the n-th
file opened for writing, rename, new folder, removal or fsync, for every n. The process dies there
(as by ``kill -9``), or the disk is full, or Ctrl-C arrives; or every file has a limited size, which
the kernel itself enforces. Afterwards whatever is on disk must be whole, a record must be that of a
run without faults, and the run, resumed, must end the same, bit for bit. Then files of runs, models
and graphs are damaged (:mod:`benchmarks.fuzz`).
"""

import argparse
import csv
import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import hale
import hale.run
import hale.training.fit
import hale.training.update  # all of them before the first fork
from benchmarks.fuzz import fuzz
from hale.cli import dispatch

STEPS = 6
START_UP = 10
"""So many moments are reached by the command that begins a run; later ones by ``hale resume`` of a
run that was killed before its first step, which takes a fraction of the time."""
KINDS = ("die", "full", "interrupt", "limit")
"""How a fault shows: the process ends at once, ENOSPC, KeyboardInterrupt, files of limited size."""
DIED, TRACEBACK = 9, 70
"""Exit statuses of a run that died by injection, and of one that ended in a traceback."""


@dataclass
class Injector:
    """Counts the moments at which this process changes the disk, and fails at one of them.

    Args:
        root: below which changes are counted; those elsewhere are noted in ``outside``.
    """

    root: str
    kind: str = ""
    at: int = -1
    count: int = 0
    outside: list[str] = field(default_factory=list)
    armed: bool = False

    def install(self) -> None:
        """Hook into Python's file operations, for the rest of the process's life."""
        sys.addaudithook(self._audit)
        self._fsync, os.fsync = os.fsync, self._counted_fsync

    def arm(self, kind: str, at: int) -> None:
        """Have the fault happen at the ``at``-th moment; never if that is negative."""
        self.kind, self.at, self.count, self.armed = kind, at, 0, True

    def _counted_fsync(self, descriptor: int) -> None:
        if self.armed:
            self._moment()
        self._fsync(descriptor)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and (path := _changed_path(event, arguments)) is not None:
            if not path.startswith(self.root):
                self.outside.append(f"{event} {path}")
            elif self.kind != "full" or event not in ("os.remove", "os.rmdir"):
                self._moment()

    def _moment(self) -> None:
        self.count += 1
        if self.count - 1 != self.at:
            return
        if self.kind == "die":
            os._exit(DIED)
        if self.kind == "interrupt":
            raise KeyboardInterrupt
        self.at += 1  # a full disk stays full
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an audited operation changes; None if it changes nothing."""
    if event == "open":
        path, _, flags = arguments
        changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        known = isinstance(path, str | bytes | os.PathLike)
    elif event == "os.mkdir":
        path, known = arguments[0], True
        changes = not os.path.exists(path)  # noqa: PTH110 (pathlib would be audited itself)
    else:
        changes = known = event in ("os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")
        path = arguments[0] if known else None
    if not (changes and known):
        return None
    if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
        path = Path(f"/proc/self/fd/{arguments[1]}").readlink() / path
    path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    return None if path.startswith(("/dev/", "/proc/")) else path


@dataclass
class Laboratory:
    """A tiny graph, a run on it without faults, and a folder for runs with them.

    Args:
        home: an empty folder.
    """

    home: Path

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.runs = self.home / "runs"
        self.runs.mkdir()
        rows = [(f"e{i}", f"r{k}", f"e{(i + k) % 40}") for i in range(40) for k in (1, 2, 3)]
        self.triples = self.home / "ring.tsv"
        self.triples.write_text("".join("\t".join(row) + "\n" for row in rows))
        self.injector = Injector(str(self.runs))
        self.injector.install()
        self.whole = self.runs / "whole"
        status, text = self.run(self.train(self.whole))
        if status != 0:
            raise RuntimeError(f"the run without faults failed:\n{text}")
        self.reference = outcome(self.whole)
        self.moments = self._moments()
        self.size = max(path.stat().st_size for path in self.whole.rglob("*") if path.is_file())

    def train(self, folder: Path) -> list[str]:
        """The command that trains in a folder."""
        return [
            "dataset=tsv", f"dataset.path={self.triples}", "~recipe", "model=rotl", "model.dim=4",
            f"budget.steps={STEPS}", "validations=2", "data.batch_size=32", "threads=1",
            "logger=none", f"hydra.run.dir={folder}",
        ]  # fmt: skip

    def run(self, words: Sequence[str], kind: str = "", at: int = -1) -> tuple[int, str]:
        """Run a command in a forked process, with a fault; its exit status, and what it printed."""
        reading, writing = os.pipe()
        process = fork()
        if process == 0:
            os.close(reading)
            self._child(list(words), kind, at, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as output:
            text = output.read()
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status), text

    def _child(self, words: list[str], kind: str, at: int, output: int) -> None:
        status = TRACEBACK
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
            sys.argv = ["hale", *words]
            if kind == "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
            self.injector.arm(kind, -1 if kind == "limit" else at)
            status = _status(lambda: dispatch(words))
        except BaseException:
            traceback.print_exc()
        finally:
            self.injector.armed = False
            for line in self.injector.outside:
                print("OUTSIDE", line)
            if kind == "count":
                print("MOMENTS", self.injector.count)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _moments(self) -> int:
        """How often a run without faults touches the disk."""
        _, text = self.run(self.train(self.runs / "counted"), "count")
        return int(text.rsplit("MOMENTS ", 1)[1])

    def check(self, kind: str, at: int) -> list[str]:
        """Inject a fault into a run, then resume it; what is wrong, a line each."""
        folder = self.runs / f"{kind}{at}"
        before = listing(self.home, folder)
        if kind != "limit" and at < START_UP:
            words = self.train(folder)
        else:
            shutil.copytree(self.whole / ".hydra", folder / ".hydra")
            words = ["resume", str(folder)]
        status, text = self.run(words, kind, at)
        wrong = [*_complaints(status, text, kind), *damaged(folder, self.reference)]
        again = ["resume", str(folder)]
        if not (folder / ".hydra/config.yaml").is_file() or (folder / "result.json").is_file():
            again = self.train(folder)
        status, text = self.run(again)
        if status != 0:
            wrong.append(f"not resumed: {text[-300:]!r}")
        elif outcome(folder) != self.reference:
            wrong.append("resumed, it ends otherwise than without the fault")
        wrong += [f"left over: {p}" for p in folder.rglob("*.unfinished")]
        wrong += [f"left over: {p}" for p in folder.rglob("error.txt")]
        if listing(self.home, folder) != before:
            wrong.append("something outside the run's folder has changed")
        shutil.rmtree(folder, ignore_errors=True)
        return [f"{kind} at {at}: {line}" for line in wrong]


def fork() -> int:
    """``os.fork`` of a process whose other threads, if it has any, the child does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _status(command: Callable[[], object]) -> int:
    """The exit status of a command, whose message is printed as Python would."""
    try:
        command()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def _complaints(status: int, text: str, kind: str) -> Iterator[str]:
    """What a user would complain of in the way a run has ended."""
    yield from (line for line in text.splitlines() if line.startswith("OUTSIDE"))
    if "Traceback" in text:
        yield f"traceback: {text[-1500:]}"
    expected = {"die": (DIED, 0), "full": (0, 1), "interrupt": (0, 1), "limit": (0, 1)}[kind]
    if status not in expected:
        yield f"exit status {status}: {text[-300:]!r}"


def outcome(folder: Path) -> tuple[Any, ...]:
    """What a run has computed: weights, curve and metrics, without what depends on the clock."""
    weights = [
        hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest()
        for state in (
            torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
            for name in ("last", "best")
        )
    ]
    with (folder / "curve.csv").open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name != "train_seconds"}
            for row in csv.DictReader(file)
        ]
    return weights, rows, metrics(folder / "result.json"), metrics(folder / "model/result.json")


def metrics(path: Path) -> dict[str, Any]:
    """The metrics, counts and settings of a record."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: value for name, value in record.items()
        if "/" in name or name in ("steps", "best_step", "config", "dataset_fingerprint")
    }  # fmt: skip


def damaged(folder: Path, reference: tuple[Any, ...]) -> Iterator[str]:
    """What in a run's folder is neither whole nor absent, or is not what it should be."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.endswith(".unfinished"):
            continue
        try:
            if path.suffix == ".ckpt":
                torch.load(path, weights_only=True)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
        except Exception as error:
            yield f"{path.relative_to(folder)} is damaged: {error}"
    if (folder / "model").is_dir():
        hale.load(folder / "model")
    if (folder / "result.json").is_file() and metrics(folder / "result.json") != reference[2]:
        yield "a wrong record"


def listing(home: Path, without: Path) -> dict[str, int]:
    """Every file below a folder and its size, but for those of one run."""
    return {
        str(path): path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and without not in path.parents
    }


def faults(moments: int, size: int, number: int) -> list[tuple[str, int]]:
    """So many faults, spread over all moments of a run; those that are left are limits of size.

    Args:
        moments: at which a run touches the disk.
        size: of a run's largest file, in bytes.
        number: of faults.
    """
    sudden = KINDS[:-1]
    each = min(moments, number // len(KINDS))
    if number >= len(KINDS) * moments:
        each = moments
    limits = number - len(sudden) * each
    at = [(kind, moments * i // each) for kind in sudden for i in range(each)]
    return [*at, *(("limit", size * i // limits) for i in range(limits))]


def main() -> None:
    """Inject faults, damage files, and exit with status 1 if anything went wrong."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--faults", type=int, default=500, help="injected into runs")
    options.add_argument("--files", type=int, default=1000, help="damaged")
    options.add_argument("--seed", type=int, default=0, help="of the damage")
    given = options.parse_args()
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "disabled"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    started, wrong, made = time.monotonic(), [], Counter[str]()
    with tempfile.TemporaryDirectory() as home:
        laboratory = Laboratory(Path(home))
        for kind, at in faults(laboratory.moments, laboratory.size, given.faults):
            found = laboratory.check(kind, at)
            made[kind] += 1
            wrong += found
            for line in found:
                print(line, flush=True)
            if made.total() % 50 == 0:
                print(f"{made.total()} faults, {len(wrong)} wrong", flush=True)
        print(f"{made.total()} faults at {laboratory.moments} moments: {dict(made)}", flush=True)
        wrong += fuzz(laboratory.whole, laboratory.triples, given.files, given.seed)
    print(f"{len(wrong)} wrong, {time.monotonic() - started:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
