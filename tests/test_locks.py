"""One writer per folder, and refused commands that change nothing."""

import errno
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hale
from hale.cli import run_command
from hale.errors import HaleError
from hale.run import main, reported
from hale.runs import sweep
from hale.runs.folders import find_runs
from hale.runs.lock import LOCK_FILE, LockedError, locked

HOLD = """
import sys
from pathlib import Path
from hale.errors import HaleError
from hale.runs.lock import locked

try:
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except HaleError as error:
    print(error, flush=True)
"""
QUICK = {"threads": 1, "test": False, "validations": 1}


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder until its input ends, if it gets it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with a hash of its content."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in folder.rglob("*")
    }


def test_of_two_processes_one_holds_the_lock_and_a_dead_one_does_not(tmp_path):
    both = [holder(tmp_path / "run"), holder(tmp_path / "run")]
    told = [process.stdout.readline().strip() for process in both]
    assert sorted(text == "held" for text in told) == [False, True]
    first = both[told.index("held")]
    refused = told[1 - told.index("held")]
    assert refused.startswith(f"{tmp_path / 'run'} is being written by another run")
    with pytest.raises(LockedError), locked(tmp_path / "run"):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    with locked(tmp_path / "run"):
        pass
    for process in both:
        process.communicate()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK_FILE]


def test_fit_and_update_are_refused_while_another_process_writes(tmp_path, graph, trained_folder):
    hale.fit(graph, "rotl", steps=2, dim=4, folder=tmp_path / "run", settings=QUICK)
    model = hale.load(tmp_path / "run")
    (tmp_path / "run/result.json").unlink()  # as if it had been interrupted
    process = holder(tmp_path / "run")
    assert process.stdout.readline() == "held\n"
    before = tree(tmp_path)
    with pytest.raises(LockedError, match="is being written by another run"):
        hale.fit(graph, "rotl", steps=2, dim=4, folder=tmp_path / "run", settings=QUICK)
    assert tree(tmp_path) == before
    with locked(tmp_path / "update"), pytest.raises(LockedError):
        model.update([("e0", "one", "e7")], steps=2, folder=tmp_path / "update")
    assert tree(tmp_path / "update") == {LOCK_FILE: hashlib.sha256(b"").hexdigest()}
    process.communicate()
    hale.fit(graph, "rotl", steps=2, dim=4, folder=tmp_path / "run", settings=QUICK)
    assert (tmp_path / "run/result.json").is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_run_is_warned_and_goes_ahead(tmp_path, monkeypatch, capsys, number):
    def flock(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path):
        (tmp_path / "written").touch()
    assert "is on a file system without locks" in capsys.readouterr().err
    assert (tmp_path / "written").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, graph):
    (tmp_path / "file").touch()
    with pytest.raises(HaleError, match=r"cannot write to the folder .*file"):
        hale.fit(graph, steps=1, folder=tmp_path / "file", settings=QUICK)

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock._unix.os.open", refuse)
    with pytest.raises(HaleError, match="Read-only file system"), locked(tmp_path):
        pass


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train by a command in this process; its message, or what it raises in Hydra's words."""
    ends: list = []
    monkeypatch.setattr(sys, "argv", ["hale", *words])
    monkeypatch.setattr(sweep.atexit, "register", lambda *call: ends.append(call))
    try:
        main()
        message = ""
    except SystemExit as end:
        message = str(end.code)
    for function, *arguments in ends:
        function(*arguments)
    return message


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    path = tmp_path / "ring.tsv"
    rows = [(f"e{i}", f"r{k}", f"e{(i + k) % 30}") for i in range(30) for k in (1, 2)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def test_the_line_that_says_how_to_resume_can_be_pasted(tmp_path):
    folder = tmp_path / "it's my $run; (1)"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").touch()
    with pytest.raises(SystemExit) as end, reported(folder):
        raise KeyboardInterrupt
    command = str(end.value.code).removeprefix("interrupted; resume with: ")
    assert shlex.split(command) == ["hale", "resume", str(folder)]
    with pytest.raises(SystemExit, match="before training began"), reported(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit, match=r"^its own words$"), reported(folder):
        sys.exit("its own words")


REFUSED = [
    (["model=rotz"], None),
    (["loss.alpa=1"], None),
    (["loss.alpha=0"], "loss.alpha"),
    (["model=transe"], "another model"),
    (["model.dim=8"], "another model"),
    (["model.dim=7"], "model"),
    (["budget.steps=5"], "another budget"),
    (["dataset.seed=1"], "another dataset"),
    (["dataset.path=nowhere"], "nowhere"),
    (["optimizer.lr=0.5"], "another optimizer"),
    (["seed=1"], "another seed"),
    (["+trainer.max_steps=5"], "trainer.max_steps"),
    (["+trainer.precision=7"], "trainer"),
]


def test_a_refused_command_changes_nothing(tmp_path, ring, monkeypatch, capfd):
    words = ["dataset=tsv", f"dataset.path={ring}", "model=rotl", "model.dim=4", "budget.steps=4",
             "threads=1", "logger=none", "test=false", "recipe=auto"]  # fmt: skip
    finished, interrupted = tmp_path / "finished", tmp_path / "interrupted"
    assert command(*words, f"hydra.run.dir={finished}", monkeypatch=monkeypatch) == ""
    shutil.copytree(finished, interrupted)
    (interrupted / "result.json").unlink()
    shutil.rmtree(interrupted / "model")
    damaged = tmp_path / "damaged"
    shutil.copytree(interrupted, damaged)
    (damaged / "checkpoints/last.ckpt").write_bytes(b"PK\3\4 damaged")
    before = {folder: tree(folder) for folder in (finished, interrupted, damaged)}
    for changes, told in REFUSED:
        for folder in (finished, interrupted):
            capfd.readouterr()
            said = command(*words, f"hydra.run.dir={folder}", *changes, monkeypatch=monkeypatch)
            assert said, (changes, folder)
            assert told is None or told in said, (changes, said)
            assert told is None or "\n" not in said
            assert "Traceback" not in capfd.readouterr().err
            assert tree(folder) == before[folder], (changes, folder)
    for change in ("optimizer.lr=0.5", "model.dim=7", "seed=-1"):
        with pytest.raises(SystemExit):
            run_command(["resume", str(interrupted), change])
        assert tree(interrupted) == before[interrupted], change
    said = command(*words, f"hydra.run.dir={damaged}", monkeypatch=monkeypatch)
    assert "last.ckpt is not a checkpoint of hale" in said
    assert tree(damaged) == before[damaged]
    with locked(interrupted):
        said = command(*words, f"hydra.run.dir={interrupted}", monkeypatch=monkeypatch)
    assert "is being written by another run" in said
    assert tree(interrupted) == before[interrupted]
    said = command(*words, f"hydra.run.dir={finished}", monkeypatch=monkeypatch)
    assert said == ""
    assert "is finished" in capfd.readouterr().out
    assert tree(finished) == before[finished]
    new = tmp_path / "new/below"
    assert command(*words, f"hydra.run.dir={new}", "model.dim=7", monkeypatch=monkeypatch)
    assert not (tmp_path / "new").exists()


def test_what_is_remembered_is_what_a_run_was_trained_with(tmp_path, ring, monkeypatch, capsys):
    """An override with an interpolation, in a folder whose name the shell and Hydra would read."""
    words = ["dataset=tsv", f"dataset.path={ring}", "model.dim=4", "budget.steps=4", "threads=1",
             "logger=none", "data.ranking_batch_size=${data.batch_size}",
             "test=false"]  # fmt: skip
    assert command(*words, f"hydra.run.dir={tmp_path / 'run'}", monkeypatch=monkeypatch) == ""
    odd = tmp_path / "it's ${x} a=b, (1) back\\"
    shutil.move(tmp_path / "run", odd)
    (odd / "result.json").unlink()
    assert run_command(["resume", str(odd), "trainer.log_every_n_steps=7"]) == 0
    assert "trainer.log_every_n_steps=7" in (odd / ".hydra/overrides.yaml").read_text()
    assert run_command(["results", str(tmp_path), "--format", "json"]) == 0
    assert run_command(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    (run,) = find_runs(tmp_path)
    assert "data.ranking_batch_size=${data.batch_size}" in run.overrides


def test_a_job_of_a_sweep_is_resumed_by_itself(tmp_path, ring, monkeypatch, capsys):
    """Its folder and that of the sweep are named by settings; a path holds an equals sign."""
    words = ["dataset=tsv", f"dataset.path={ring}", "model.dim=4,6", "budget.steps=2", "threads=1",
             "logger=none", "test=false", "~recipe", "hydra.sweep.subdir=d=${model.dim}/${seed}",
             f"hydra.sweep.dir={tmp_path}/all${{validations}}"]  # fmt: skip
    assert command("-m", *words, monkeypatch=monkeypatch) == ""
    jobs = [tmp_path / f"all10/d={dim}/0" for dim in (4, 6)]
    assert "best: " in capsys.readouterr().out
    assert not (tmp_path / "all10/.jobs").exists()
    (jobs[0] / "result.json").unlink()
    assert run_command(["resume", str(jobs[0])]) == 0
    assert [run.path for run in find_runs(tmp_path) if run.record] == jobs
