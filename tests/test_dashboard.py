"""The W&B workspace as code: built without a network, and one line where it cannot be saved."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from hale.cli.dashboard import TUNED
from hale.runs.columns import CURVES
from hale.settings import conf_dir

needs_extra = pytest.mark.skipif(
    find_spec("wandb_workspaces") is None, reason="needs the extra dashboard"
)


def dashboard(tmp_path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", "hale", "dashboard", "--entity", "me", *arguments], cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path)} | environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@needs_extra
def test_the_workspace_is_built_offline(tmp_path):
    done = dashboard(tmp_path, "--project", "mine", "--dump")
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    assert (built["entity"], built["project"], built["name"]) == ("me", "mine", "hale")
    by_name = {section["name"]: section["panels"] for section in built["sections"]}
    assert len(by_name) == 4
    for group in ("loss", "activation", "model"):
        panels = by_name[f"Convergence by {group}"]
        assert [panel["y"] for panel in panels] == [[metric] for metric in CURVES]
        assert {panel["x"] for panel in panels} == {"train_seconds"}
        assert {panel["groupby"]["name"] for panel in panels} == {f"choices.{group}"}
    (plot,) = by_name["Search"]
    assert [(column["metric"]["name"], column.get("log")) for column in plot["columns"]] == [
        *TUNED.items(), ("valid/mrr", None),
    ]  # fmt: skip


@needs_extra
def test_not_logged_in_is_one_line(tmp_path):
    done = dashboard(tmp_path)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("wandb:")]
    assert len(lines) == 1, done.stderr
    assert "nothing saved" in lines[0]
    assert "wandb login" in lines[0]


def test_without_the_extra_it_is_one_line(tmp_path):
    (tmp_path / "wandb_workspaces.py").write_text("raise ImportError('not installed')\n")
    done = dashboard(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr == (
        "hale dashboard: the dashboard needs a package: pip install -e '.[dashboard]'\n"
    )


def test_it_shows_what_tuning_searches():
    searched = (conf_dir() / "experiment" / "tune.yaml").read_text()
    for name, log in TUNED.items():
        (line,) = [line for line in searched.splitlines() if line.strip().startswith(name)]
        assert log == ("log" in line or "choice" in line), name
