"""Damaged files: each is refused in one line or harmless, and nothing in them is executed."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import Damage

TARGETS = ("model", "checkpoint", "run", "settings", "graph")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Damage:
    """A finished run of the command line, and a file of triples."""
    from hale.cli import dispatch

    home = tmp_path_factory.mktemp("fuzz")
    triples = home / "ring.tsv"
    rows = [(f"e{i}", f"r{k}", f"e{(i + k) % 30}") for i in range(30) for k in (1, 2)]
    triples.write_text("".join("\t".join(row) + "\n" for row in rows))
    words = ["dataset=tsv", f"dataset.path={triples}", "~recipe", "model.dim=4", "budget.steps=2",
             "threads=1", "logger=none", "test=false", f"hydra.run.dir={home / 'run'}"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["hale", *words])
        dispatch(words)
    (home / "within").mkdir()
    return Damage(home / "run", triples, home / "within")


@pytest.mark.parametrize("target", TARGETS)
@settings(
    deadline=None, max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(random=st.randoms(use_true_random=False))
def test_damage_is_refused_in_one_line_or_harmless(laboratory, target, random):
    assert laboratory.try_one(target, random) == []
    assert Path(laboratory.run / "result.json").is_file()
