"""Records of finished runs, and what they say over seeds."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hale.errors import HaleError
from hale.runs.columns import DATASETS
from hale.runs.folders import RunFolder, find_runs

PAPER = Path(__file__).with_name("paper.csv")
"""The paper's cells: tables 2, 3 and 5."""

NAMES = DATASETS | {
    "hale": "HaLE", "sam_neg": "SamNeg", "adv_neg": "AdvNeg", "all_neg": "AllNeg",
    "non_neg": "NonNeg", "full": "fully trained", "hale_wo_activation": "w/o Activation",
    "hale_wo_pos_square": "w/o PosSquare", "hale_wo_rel_ratio": "w/o RelRatio",
    "ha_sam_neg": "HA + SamNeg", "ha_all_neg": "HA + AllNeg",
    "transe": "TransE", "distmult": "DistMult", "rotate": "RotatE", "rote": "RotE", "rotl": "RotL",
    "rot2l": "Rot2L", "mure": "MuRE", "compounde": "CompoundE", "lowranke": "LowRankE",
    "murp": "MuRP", "refh": "RefH",
    "roth": "RotH", "atth": "AttH", "rescal": "RESCAL", "complex": "ComplEx", "conve": "ConvE",
    "tucker": "TuckER",
}  # fmt: skip
"""Published names of datasets, strategies and models, by config choice."""


@dataclass(frozen=True)
class Record:
    """A finished run.

    Args:
        root: the folder of results below which it was found.
        run: its folder.
    """

    root: Path
    run: RunFolder

    @property
    def result(self) -> dict[str, Any]:
        """Its ``result.json``."""
        assert self.run.record is not None
        return self.run.record

    def choice(self, group: str) -> str | None:
        """The choice of a config group."""
        choice: str | None = self.result["choices"].get(group)
        return choice

    @property
    def dim(self) -> int:
        """D of its model."""
        return int(self.result["config"]["model"]["dim"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.result["seed"])

    @property
    def alone(self) -> bool:
        """Whether no other run shared the machine, so that its seconds are comparable."""
        return int(self.result["config"].get("jobs", 1)) == 1

    @property
    def modified(self) -> bool:
        """Whether its commit is not recorded, or had uncommitted changes."""
        commit: str | None = self.result.get("commit")
        return commit is None or commit.endswith("+")

    @property
    def hardware(self) -> str:
        """The device that it trained on."""
        found = self.result["hardware"]
        if found["device"] != "cpu":
            return str(found["device"])
        return f"{found['cpu'] or found['machine']}, {found['threads']} threads"


def read_records(roots: Iterable[Path]) -> list[Record]:
    """All finished runs below some folders, in the order of folders and then of paths.

    Raises:
        HaleError: a folder does not exist, or a file is not a record.
    """
    return [
        Record(root, run) for root in roots for run in find_runs(root) if run.record is not None
    ]


def select(
    records: Iterable[Record], dataset: str, strategy: str, model: str, dim: int
) -> list[Record]:
    """The runs of one system, by seed, from the first folder that has any.

    Raises:
        HaleError: that folder has two runs of one seed, of two budgets for instance.
    """
    wanted = (dataset, strategy, model, dim)
    found = [
        r for r in records
        if (r.choice("dataset"), r.choice("strategy"), r.choice("model"), r.dim) == wanted
    ]  # fmt: skip
    runs = sorted((r for r in found if r.root == found[0].root), key=lambda r: r.seed)
    for one, other in pairwise(runs):
        if one.seed == other.seed:
            raise HaleError(
                f"{one.run.path} and {other.run.path} are the same system and seed: give the "
                "folder of one budget and device, as results/cpu/0.25"
            )
    return runs


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (None for a single value) of ``n`` values."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        """Three decimals, as in the paper."""
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation; None if there are no values."""
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.mean(values), std, len(values))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
