"""Notebooks: their sources run as scripts on tiny settings, and the .ipynb files follow them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
every = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_four():
    assert len(NOTEBOOKS) == len(list(FOLDER.glob("*.ipynb"))) == 4


@every
def test_it_runs(tmp_path, notebook):
    for needed in ("matplotlib", "sklearn"):
        if needed in notebook.read_text() and find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    settings = {"HALE_FAST": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", notebook],
        cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@every
def test_its_pair_has_the_same_cells_and_no_outputs(notebook):
    pair = json.loads(notebook.with_suffix(".ipynb").read_text())
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in pair["cells"])
    jupytext = pytest.importorskip("jupytext")
    source = jupytext.read(notebook)
    assert ["".join(cell["source"]) for cell in pair["cells"]] == [
        cell.source for cell in source.cells
    ]
