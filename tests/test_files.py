"""Where output goes, what is read of a folder of runs, and what is kept beside them."""

import ctypes
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from made_up import write_record

from hale.cli import run_command
from hale.runs.files import remove_unfinished, write_atomically, write_output
from hale.runs.folders import find_runs
from hale.runs.model_path import ModelFolderError, find_model
from hale.runs.sweep import print_summary
from hale.scoring.kernels.compile import _cache_folder, shared_library


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs."""
    for seed in (0, 1):
        write_record(tmp_path / "runs", "wn18rr", "rotl", 32, "hale", seed=seed)
    return tmp_path / "runs"


def results(runs: Path, out: object) -> int:
    return run_command(["results", str(runs), "--format", "tsv", "--out", str(out)])


def test_output_goes_through_links_and_keeps_the_mode(tmp_path, runs):
    (tmp_path / "far").mkdir()
    real, one, two = tmp_path / "far/real.tsv", tmp_path / "one.tsv", tmp_path / "two.tsv"
    real.write_text("old")
    real.chmod(0o640)
    one.symlink_to("far/real.tsv")
    two.symlink_to(one)
    assert results(runs, two) == 0
    assert two.is_symlink()
    assert one.is_symlink()
    assert len(real.read_text().splitlines()) == 3
    assert real.stat().st_mode & 0o777 == 0o640
    page = tmp_path / "page.html"
    page.symlink_to("far/new.html")
    assert run_command(["report", str(runs), "--out", str(page)]) == 0
    assert page.is_symlink()
    assert (tmp_path / "far/new.html").read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in (tmp_path / "far").iterdir()) == ["new.html", "real.tsv"]


def test_an_interrupted_output_leaves_the_old_content(tmp_path):
    path = tmp_path / "out.tsv"
    path.write_text("old")

    def interrupted() -> None:
        with write_output(path) as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_output_to_what_is_not_a_file(tmp_path, runs, capfd):
    assert results(runs, "/dev/null") == 0
    assert Path("/dev/null").is_char_device()
    assert results(runs, "/dev/stdout") == 0
    assert len(capfd.readouterr().out.splitlines()) == 3
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert results(runs, pipe) == 0
    reader.join()
    assert len(read[0].splitlines()) == 3
    assert pipe.is_fifo()
    assert results(runs, "/dev/full") == 1
    assert "No space left on device" in capfd.readouterr().err


def test_stdout_that_is_a_file_is_added_to(tmp_path, runs):
    """``--out /dev/stdout >> log`` keeps what the log has."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        subprocess.run(
            [sys.executable, "-m", "hale", "results", str(runs), "--out", "/dev/stdout"],
            stdout=file, check=True,
        )  # fmt: skip
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert len(lines) == 4


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "model").mkdir()
    with write_atomically(tmp_path / "model/kept.json") as file:
        file.write("{}")
        (left,) = (tmp_path / "model").glob(".*")  # as a kill would leave it
        shutil.copy(left, tmp_path / left.name)
        shutil.copy(left, tmp_path / "model" / f".other{left.suffix}")
    (tmp_path / f".folder{left.suffix}").mkdir()
    remove_unfinished(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == {
        "model", "model/kept.json"
    }  # fmt: skip


def test_linked_runs_are_listed_once_and_cycles_end(tmp_path, runs, capfd):
    links = tmp_path / "links"
    links.mkdir()
    first, second = sorted(path.parent for path in runs.rglob("result.json"))
    (links / "one").symlink_to(first)
    (links / "all").symlink_to(runs)  # has the first, too
    (links / "up").symlink_to(tmp_path)
    (first / "self").symlink_to(first)
    (links / "nowhere").symlink_to("missing")
    found = find_runs(links)
    assert sorted(run.path.resolve() for run in found) == [first, second]
    assert all(run.record is not None for run in found)
    assert len(find_runs(runs)) == 2
    assert run_command(["report", str(links), "--out", str(tmp_path / "page.html")]) == 0
    assert "2 runs" in capfd.readouterr().out


DAMAGE = {
    ".hydra/overrides.yaml": (b"a: [", b"{a: 1}", b"\xff", b"- !!python/object/apply:os.getcwd []"),
    "result.json": (b"{", b"[]", b'{"choices": {}, "config": []}', b"\xff\xfe"),
    "error.txt": (b"\xff\xfe broken",),
}


@pytest.mark.parametrize(
    ("file", "content"),
    [(file, content) for file, contents in DAMAGE.items() for content in contents],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(tmp_path, runs, capfd, file, content):
    broken = tmp_path / "runs/broken"
    (broken / ".hydra").mkdir(parents=True)
    (broken / ".hydra/overrides.yaml").write_text("- seed=1\n")
    (broken / file).write_bytes(content)
    assert results(runs, tmp_path / "out.tsv") == 0
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "broken" in errors[0]
    assert len((tmp_path / "out.tsv").read_text().splitlines()) == 3
    assert run_command(["report", str(runs), "--out", str(tmp_path / "page.html")]) == 0
    assert "broken" in (tmp_path / "page.html").read_text()
    assert "broken" in capfd.readouterr().err
    print_summary(runs, "test/mrr")
    lines = capfd.readouterr().out.splitlines()
    assert any(line.startswith("no result: broken") for line in lines)
    assert any("seed0" in line for line in lines)


@pytest.mark.parametrize(
    "content",
    [b"step\n1\n", b"step,train_seconds\n1,\0\n", b"a,b\n1,x\n", b"\xff\xfe", b"step\n1,2"],
)
def test_a_damaged_curve_is_named_and_its_run_is_listed(tmp_path, runs, capfd, content):
    first = min(path.parent for path in runs.rglob("result.json"))
    (first / "curve.csv").write_bytes(content)
    assert run_command(["report", str(runs), "--out", str(tmp_path / "page.html")]) == 0
    output = capfd.readouterr()
    assert "2 runs" in output.out
    assert output.err.count("curve.csv is not a curve") == 1
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("value", [10**400, "x", None, True, [], {"a": 1}])
def test_a_metric_of_another_type_is_left_empty(tmp_path, runs, value):
    first = min(path for path in runs.rglob("result.json"))
    record = json.loads(first.read_text()) | {"test/mrr": value, "hardware": value}
    first.write_text(json.dumps(record))
    assert results(runs, tmp_path / "out.tsv") == 0
    assert run_command(["report", str(runs), "--out", str(tmp_path / "page.html")]) == 0
    print_summary(runs, "test/mrr")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small C file, in place of hale's own, and a cache for it."""
    monkeypatch.setenv("HALE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/answer.c").write_text("int answer(void) { return ANSWER; }\n")
    return tmp_path / "sources"


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:1000], lambda b: b[:-1] + b"x"])
def test_a_damaged_kernel_is_built_anew(sources, damage):
    path = shared_library(sources, ("ANSWER=42",))
    whole = path.read_bytes()
    assert ctypes.CDLL(str(path)).answer() == 42
    with path.open("rb") as running:
        other = path.with_name("damaged")
        other.write_bytes(damage(whole))
        other.replace(path)
        again = shared_library(sources, ("ANSWER=42",))
        assert again.read_bytes() == whole
        assert running.read() == whole
    kept = again.stat()
    assert shared_library(sources, ("ANSWER=42",)).stat() == kept


def test_a_kernel_that_another_process_runs_is_not_overwritten(sources):
    path = shared_library(sources, ("ANSWER=1",))
    with path.open("r+b") as running:
        running.write(b"damaged")
        running.flush()
        assert shared_library(sources, ("ANSWER=1",)) == path
        assert os.fstat(running.fileno()).st_ino != path.stat().st_ino


def test_a_user_without_a_home(sources, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert _cache_folder() == tmp_path / "cache/kernels"
    monkeypatch.delenv("HALE_CACHE_DIR")
    path = shared_library(sources, ("ANSWER=2",))
    assert path.is_file()
    assert "hale-kernels-" in str(path)


def _no_home(cls: type) -> Path:
    raise RuntimeError("Could not determine home directory.")


WITHOUT_HOME = """
import os, sys
import hale
from hale.graphs.kg import KnowledgeGraph

def train(folder):
    triples = [(f"e{i}", "r", f"e{(i + k) % 9}") for i in range(9) for k in (1, 2, 4)]
    graph = KnowledgeGraph.from_triples(triples)
    model = hale.fit(graph, "rotl", steps=2, dim=4, folder=folder, settings={"threads": 1})
    return len(model.predict(head="e0", relation="r", k=3))

train(sys.argv[1])  # imports what other users may not be able to read
os.setgroups([]); os.setgid(54321); os.setuid(54321)
print("trained", train(sys.argv[2]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_passwd_entry_trains(tmp_path):
    with pytest.raises(KeyError):
        pwd.getpwuid(54321)
    folders = tmp_path / "root", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    own = len(Path(tempfile.gettempdir()).resolve().parts)
    for part in (tmp_path, *tmp_path.parents[: len(tmp_path.parts) - own - 1]):
        part.chmod(part.stat().st_mode | 0o011)
    folders[1].chmod(0o777)
    hidden = ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME")
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME, *map(str, folders)], cwd=folders[1],
        capture_output=True, text=True, env=kept,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trained 3" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_path_of_an_unknown_user_is_one_line():
    with pytest.raises(ModelFolderError, match="~nobody-of-this-name/x is not a folder"):
        find_model("~nobody-of-this-name/x")


def test_an_unfinished_run_is_named_for_the_shell(tmp_path):
    (tmp_path / "my run's/checkpoints").mkdir(parents=True)
    with pytest.raises(ModelFolderError) as refused:
        find_model(tmp_path / "my run's")
    said = str(refused.value).split("hale resume ")[1]
    assert subprocess.run(
        f"printf %s {said}", shell=True, capture_output=True, text=True
    ).stdout == str(tmp_path / "my run's")
