"""Damaged files of models, runs, checkpoints and graphs: each is refused in one line, or harmless.

Nothing in them is executed, and a damaged run does not hide the others. :mod:`benchmarks.faults`
runs this; ``tests/test_faults.py`` does so on examples of hypothesis.
"""

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

import hale
from hale.cli import run_command
from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.settings.kept import read_settings
from hale.training.checkpoints import read_checkpoint
from hale.training.plan import kept_plan
from hale.training.settle import kept_choices

STATEMENTS = b'<a> <p> <b> .\n<b> <p> "x\\u00e9"@en .\n_:c <p> <a> .\n<c> <q> <a> .\n' * 5
HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), "", "\0", "../../../tmp/x",
    "${oc.env:HOME}",
    "${", "[/red]", "\ud800", [], {}, [[]], {"_target_": "os.system", "command": "touch bomb"},
    "os.system", "A" * 5000,
)  # fmt: skip
"""Values that stand in for others in JSON."""
SNIPPETS = (
    b"\0", b"\xff\xfe", b"\r", b"\t\t", b"\n\n", b"nan", b"1e999", b"${",
    b"!!python/object/apply:os.system",
    b"&a [*a]", b"{{{{", b'"', b"\xed\xa0\x80", b"9" * 5000, b"../../x",
)  # fmt: skip


class Bomb:
    """A pickle of it leaves a file where it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch bomb",)


def damage(content: bytes, random: Random) -> bytes:
    """The content of a file with some damage."""
    a, b = sorted(random.randrange(len(content) + 1) for _ in range(2))
    ways: list[Callable[[], bytes]] = [
        lambda: content[:a],
        lambda: content[:a] + content[b:],
        lambda: content[:b] + content[a:],
        lambda: content[:a] + random.randbytes(random.randint(1, 40)) + content[a:],
        lambda: content[:a] + random.choice(SNIPPETS) + content[b:],
        lambda: content[:a] + random.choice(SNIPPETS) + content[a:],
        lambda: _flipped(content, random),
        lambda: random.choice((b"", b"\0" * 100, b"[" * 100_000, pickle.dumps(Bomb()))),
        lambda: _with_hostile_value(content, random),
        lambda: _with_hostile_value(content, random),
    ]
    return random.choice(ways)()


def _flipped(content: bytes, random: Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(random.randint(1, 8) if content else 0):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _with_hostile_value(content: bytes, random: Random) -> bytes:
    """JSON with another value somewhere; another kind of file is cut."""
    try:
        tree = json.loads(content)
    except ValueError:
        return content[: random.randrange(len(content) + 1)]
    node = tree
    while isinstance(node, dict | list) and node:
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or random.random() < 0.3:
            node[key] = random.choice(HOSTILE)
            break
        node = node[key]
    return json.dumps(tree).encode("utf-8", "replace")


class Damage:
    """Copies of a finished run and a graph, of which one file at a time is damaged.

    Args:
        run: a finished run's folder.
        triples: a file of triples.
        home: an empty folder, in which everything happens.
    """

    def __init__(self, run: Path, triples: Path, home: Path) -> None:
        self.run, self.triples, self.home = run, triples, home.resolve()
        self.weights = _weights(run / "model")
        self.executed: list[str] = []
        sys.addaudithook(self._audit)
        self.top = self.home / "top"
        for name in ("good", "odd"):
            shutil.copytree(run, self.top / name)
        self.targets: dict[str, Callable[[Random], str]] = {
            "model": self.model, "checkpoint": self.checkpoint, "run": self.listed,
            "settings": self.settings, "graph": self.graph,
        }  # fmt: skip

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pty.spawn"):
            self.executed.append(f"{event} {arguments}")

    def try_one(self, target: str, random: Random) -> list[str]:
        """Damage one file of a kind and read it; what is wrong, a line each."""
        name, before = "", set(self.home.rglob("*"))
        self.executed.clear()
        try:
            with contextlib.chdir(self.home):
                name = self.targets[target](random)
        except HaleError as error:
            wrong = [] if len(str(error).splitlines()) == 1 else [f"several lines: {error}"]
        except Exception:
            wrong = [traceback.format_exc()]
        else:
            wrong = [name] if name else []
        wrong += [f"executed: {line}" for line in self.executed]
        wrong += [f"written: {path}" for path in set(self.home.rglob("*")) - before]
        return [f"{target}: {line}" for line in wrong]

    def model(self, random: Random) -> str:
        """Damage a model folder; if it still loads, its weights are what they were."""
        with self._damaged(self.top / "odd/model", random):
            weights = _weights(self.top / "odd/model")
            same = all(weights[name].equal(value) for name, value in self.weights.items())
        return "" if same else "other weights were loaded"

    def checkpoint(self, random: Random) -> str:
        """Damage a checkpoint."""
        with self._damaged(self.top / "odd/checkpoints", random):
            for path in sorted((self.top / "odd/checkpoints").iterdir()):
                read_checkpoint(path)
        return ""

    def listed(self, random: Random) -> str:
        """Damage a run in a folder of two; the other is listed, on stdout and in the report."""
        folder = self.top / "odd" / random.choice(("", "", ".hydra"))
        out, errors, page = io.StringIO(), io.StringIO(), self.home / "page.html"
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors)
        with self._damaged(folder, random), streams[0], streams[1]:
            codes = [
                run_command(["results", str(self.top), "--format", "tsv"]),
                run_command(["report", str(self.top), "--out", str(page)]),
            ]
        text = page.read_text(encoding="utf-8", errors="surrogateescape") if page.exists() else ""
        page.unlink(missing_ok=True)
        if codes != [0, 0]:
            return f"exit statuses {codes}: {errors.getvalue()}"
        return "" if "\tgood" in out.getvalue() and "good" in text else "the other run is hidden"

    def settings(self, random: Random) -> str:
        """Damage what a run is resumed from."""
        folder = self.top / "odd"
        with self._damaged(random.choice((folder, folder / ".hydra")), random):
            read_settings(folder, [])
            kept_plan(folder)
            kept_choices(folder)
        return ""

    def graph(self, random: Random) -> str:
        """Damage a file of triples."""
        content, suffix = random.choice(
            ((self.triples.read_bytes(), ".tsv"), (STATEMENTS, ".nt"), (STATEMENTS, ".nq"))
        )
        path = self.home / f"graph{suffix}"
        path.write_bytes(damage(content, random))
        try:
            KnowledgeGraph.read(path)
        finally:
            path.unlink()
        return ""

    @contextlib.contextmanager
    def _damaged(self, folder: Path, random: Random) -> Any:
        """One file of a folder, damaged within the block."""
        path = random.choice(sorted(p for p in folder.iterdir() if p.is_file()))
        content = path.read_bytes()
        path.write_bytes(damage(content, random))
        try:
            yield
        finally:
            path.write_bytes(content)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return hale.load(folder).model.state_dict()


def fuzz(run: Path, triples: Path, number: int, seed: int) -> list[str]:
    """Damage so many files; what is wrong, a line each.

    Args:
        run: a finished run's folder.
        triples: a file of triples.
        number: of files.
        seed: of the damage.
    """
    wrong: list[str] = []
    done = Counter[str]()
    with tempfile.TemporaryDirectory() as home:
        laboratory = Damage(run, triples, Path(home))
        kinds = list(laboratory.targets)
        for i in range(number):
            target = kinds[i % len(kinds)]
            found = laboratory.try_one(target, Random(f"{seed} {i}"))
            done[target] += 1
            wrong += [f"{i} {line}" for line in found]
            for line in found:
                print(i, line, flush=True)
    print(f"{done.total()} damaged files: {dict(done)}", flush=True)
    return wrong
