"""docs/extending.md: its diffs apply to a copy of the checkout, which then runs and passes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The checkout with every diff of the page applied, in its order."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("hale", "conf", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    diffs = DIFF.findall((ROOT / "docs/extending.md").read_text())
    assert len(diffs) >= 9
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    for diff in diffs:
        done = subprocess.run(
            ["git", "apply", "-"], cwd=folder, env=environment, input=diff, text=True,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr}\n{diff}"
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    "choices",
    [
        {"model": "refe", "activation": "tanh", "dataset": "modular"},
        {"loss": "margin_ranking"},
    ],
    ids=str,
)
def test_what_was_added_can_be_chosen(copy, tmp_path, choices):
    chosen = [f"{group}={choice}" for group, choice in choices.items()]
    arguments = ["debug=smoke", "budget.steps=2", "test=false", f"hydra.run.dir={tmp_path}"]
    done = python(copy, "-m", "hale.run", *chosen, *arguments)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["choices"].items() >= choices.items()
    assert not any((ROOT / "conf" / group / f"{c}.yaml").exists() for group, c in choices.items())


def test_what_was_added_passes_the_tests_of_its_kind(copy):
    files = ("tests/test_models.py", "tests/test_activations.py")
    done = python(copy, "-m", "pytest", "-q", *files, "-k", "refe or tanh or formula")
    assert done.returncode == 0, done.stdout
    page = (ROOT / "docs/extending.md").read_text()
    changed = re.findall(r"^\+\+\+ b/(.*\.py)$", page, re.MULTILINE)
    done = python(copy, "-m", "ruff", "check", *changed)
    assert done.returncode == 0, done.stdout
