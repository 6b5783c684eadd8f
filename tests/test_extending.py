"""docs/extending.md: its diffs apply to a copy of the checkout, which then runs and passes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/extending.md").read_text()
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The checkout with every diff of the page applied, in its order."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("hale", "conf", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    diffs = DIFF.findall(PAGE)
    assert len(diffs) >= 11
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    for diff in diffs:
        done = subprocess.run(
            ["git", "apply", "-"], cwd=folder, env=environment, input=diff, text=True,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr}\n{diff}"
    return folder


def python(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


SHORT = ("debug=smoke", "budget.steps=2", "test=false")


@pytest.mark.parametrize(
    "choices",
    [
        {"model": "refe", "activation": "tanh", "dataset": "modular"},
        {"loss": "margin_ranking"},
    ],
    ids=str,
)
def test_added_parts_can_be_chosen(copy, tmp_path, choices):
    chosen = [f"{group}={choice}" for group, choice in choices.items()]
    done = python(copy, "-m", "hale.run", *chosen, *SHORT, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["choices"].items() >= choices.items()
    assert not any((ROOT / "conf" / group / f"{c}.yaml").exists() for group, c in choices.items())


def test_the_recipe_of_an_added_dataset_applies_to_its_loss(copy):
    found = {}
    for loss in ("margin_ranking", "sam_neg", "hale"):
        done = python(copy, "-m", "hale.run", "dataset=modular", f"loss={loss}", "--cfg", "job")
        assert done.returncode == 0, done.stderr
        found[loss] = [
            re.search(rf"^ *{name}: (.*)$", done.stdout, re.MULTILINE)[1]
            for name in ("lr", "batch_size")
        ]
        assert (" margin: 2.0" in done.stdout) == (loss == "margin_ranking")
    assert found == {
        "margin_ranking": ["0.01", "512"],
        "sam_neg": ["0.01", "512"],
        "hale": ["0.005", "512"],
    }


def test_a_wrong_argument_of_an_added_part_is_named(copy):
    done = python(copy, "-m", "hale.run", "loss=margin_ranking", "loss.margin=-1", *SHORT)
    assert done.returncode != 0
    assert "loss.margin must be a finite number above 0, got -1" in done.stderr
    assert "Traceback" not in done.stderr


def test_added_parts_pass_the_tests_of_their_kind(copy):
    files = ("tests/test_models.py", "tests/test_activations.py", "tests/test_losses.py")
    chosen = "refe or tanh or formula or margin_ranking"
    done = python(copy, "-m", "pytest", "-q", *files, "-k", chosen, path=copy)
    assert done.returncode == 0, done.stdout
    changed = re.findall(r"^\+\+\+ b/(.*\.py)$", PAGE, re.MULTILINE)
    for command in ("check", "format --check"):
        done = python(copy, "-m", "ruff", *command.split(), *changed)
        assert done.returncode == 0, done.stdout


def test_parts_outside_the_checkout_run_with_the_command_of_the_page(tmp_path):
    """A model, a dataset and a recipe of a user's own, by the last command of the page."""
    for file, content in {
        "my_package/models.py": (
            "from hale.models.euclidean import TransE\n\n\nclass Mine(TransE):\n    pass\n"
        ),
        "my_conf/model/mine.yaml": "_target_: my_package.models.Mine\ndim: 8\n",
        "my_conf/dataset/mine.yaml": (
            "_target_: hale.graphs.kg.KnowledgeGraph.read\npath: graph.tsv\nheld_out: 0.01\n"
        ),
        "my_conf/recipe/mine.yaml": "- set: {loss.alpha: 0.33, data.batch_size: 64}\n",
        "graph.tsv": "".join(
            f"e{i}\tplus_{k}\te{(i + k) % 90}\n" for i in range(90) for k in (1, 2)
        ),
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).write_text(content)
    command = PAGE.rsplit("```bash\n", 1)[1].split("```")[0].replace("\\\n", " ")
    program, *arguments = shlex.split(command)
    assert program == "python"
    done = python(tmp_path, *arguments, *SHORT, "hydra.run.dir=run", path=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/result.json").read_text())
    assert record["choices"]["model"] == record["choices"]["dataset"] == "mine"
    assert (record["config"]["loss"]["alpha"], record["config"]["model"]["dim"]) == (0.33, 8)
