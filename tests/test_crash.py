"""Killed at random moments: what is on disk is whole, and the work ends the same.

``HALE_KILLS=50`` kills 50 times in a row, in place of a few.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hale
from benchmarks.faults import DIED, Injector, fork
from hale.cli import run_command

KILLS = int(os.environ.get("HALE_KILLS", "3"))
STEPS = 500 * KILLS
TRAIN = [
    sys.executable, "-m", "hale.run", "debug=smoke", "trainer=cpu", "threads=1", "test=false",
    "model.dim=32", "data.batch_size=512", f"budget.steps={STEPS}", f"validations={5 * KILLS}",
]  # fmt: skip


def run_and_kill(command: list[str], cwd: Path, seconds: float, cache: Path) -> bool:
    """Whether the command was killed, before it ended by itself."""
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | {"HALE_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, errors
    return False


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def curve(folder: Path) -> list[dict[str, str]]:
    """Rows of the curve, but for the clock."""
    with (folder / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert None not in row
        assert None not in row.values()
        del row["train_seconds"]
    return rows


def require_whole(folder: Path) -> None:
    """Whatever a killed run left can be read."""
    for path in folder.glob("checkpoints/*.ckpt"):
        torch.load(path, weights_only=True)
    if (folder / "result.json").exists():
        json.loads((folder / "result.json").read_text())
    if (folder / "curve.csv").exists():
        curve(folder)
    if (folder / "model").exists():
        hale.load(folder)


def test_training_killed_again_and_again_ends_as_if_never(tmp_path):
    at_random = random.Random(KILLS)
    folder, cache, kills = tmp_path / "killed", tmp_path / "cache", 0
    command = [*TRAIN, f"hydra.run.dir={folder}"]
    while kills < KILLS:
        if kills % 5 == 0:  # killed while the kernel is compiled, too
            cache = tmp_path / f"cache{kills}"
        if not run_and_kill(command, tmp_path, at_random.uniform(1, 7), cache):
            break
        kills += 1
        require_whole(folder)
    assert kills > 0, "the first run ended before it was killed: make it longer"
    assert not run_and_kill(command, tmp_path, 600, cache)
    whole = tmp_path / "whole"
    assert not run_and_kill([*TRAIN, f"hydra.run.dir={whole}"], tmp_path, 600, cache)
    assert json.loads((folder / "result.json").read_text())["steps"] == STEPS
    for name, value in weights(whole).items():
        assert value.equal(weights(folder)[name]), name
    assert curve(folder) == curve(whole)
    best = [torch.load(f / "checkpoints/best.ckpt", weights_only=True) for f in (folder, whole)]
    assert best[0]["global_step"] == best[1]["global_step"]
    for name, value in best[1]["state_dict"].items():
        assert value.equal(best[0]["state_dict"][name]), name
    records = [json.loads((f / "result.json").read_text()) for f in (folder, whole)]
    metrics = [{k: v for k, v in r.items() if k.startswith(("valid/", "test/"))} for r in records]
    assert metrics[0] == metrics[1]
    assert records[0]["best_step"] == records[1]["best_step"]


def dies(words: list[str], root: Path, at: int) -> bool:
    """Whether a command died when it touched the disk below ``root`` for the ``at``-th time."""
    process = fork()
    if process == 0:
        injector = Injector(str(root.resolve()))
        injector.install()
        injector.arm("die", at)
        os._exit(run_command(words))
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DIED)
    return code == DIED


@pytest.mark.parametrize("form", ["tsv", "numpy", "word2vec", "projector"])
def test_an_export_killed_at_any_moment_leaves_whole_files_or_none(tmp_path, trained_folder, form):
    def export(out: Path) -> list[str]:
        return ["export", str(trained_folder), "--format", form, "--out", str(out)]

    assert run_command(export(tmp_path / "whole")) == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    kills = 0
    while dies(export(tmp_path / "out"), tmp_path / "out", kills):
        for path in (tmp_path / "out").glob("[!.]*"):
            assert path.read_bytes() == whole[path.name]
        kills += 1
    assert kills >= 3 * len(whole)  # a file is opened, synchronised and renamed
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}
    assert found == whole
