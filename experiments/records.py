"""Records of runs, ``result.json`` and ``curve.csv``, and what they say over seeds."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hale.errors import HaleError
from hale.results import RESULT_FILE, read_result

PAPER = Path(__file__).with_name("paper.csv")
"""The paper's cells: tables 2, 3 and 5."""

NAMES = {
    "fb15k237": "FB15k-237", "wn18rr": "WN18RR", "codex_s": "CoDEx-S", "codex_m": "CoDEx-M",
    "codex_l": "CoDEx-L",
    "hale": "HaLE", "sam_neg": "SamNeg", "adv_neg": "AdvNeg", "all_neg": "AllNeg",
    "non_neg": "NonNeg", "full": "fully trained", "hale_wo_activation": "w/o Activation",
    "hale_wo_pos_square": "w/o PosSquare", "hale_wo_rel_ratio": "w/o RelRatio",
    "ha_sam_neg": "HA + SamNeg", "ha_all_neg": "HA + AllNeg",
    "transe": "TransE", "distmult": "DistMult", "rotate": "RotatE", "rote": "RotE", "rotl": "RotL",
    "murp": "MuRP", "refh": "RefH", "roth": "RotH", "atth": "AttH", "rescal": "RESCAL",
    "complex": "ComplEx", "conve": "ConvE", "tucker": "TuckER",
}  # fmt: skip
"""What the paper calls each choice."""


@dataclass(frozen=True)
class Record:
    """A finished run.

    Args:
        root: the folder of results it was found below.
        folder: its own.
        result: its ``result.json``.
    """

    root: Path
    folder: Path
    result: dict[str, Any]

    def choice(self, group: str) -> str | None:
        """What was chosen of a config group."""
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
        """Whether it had the machine for itself, so that its seconds tell something."""
        return int(self.result["config"].get("jobs", 1)) == 1

    @property
    def hardware(self) -> str:
        """The device that it trained on."""
        found = self.result["hardware"]
        if found["device"] != "cpu":
            return str(found["device"])
        return f"{found['cpu'] or found['machine']}, {found['threads']} threads"

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Its validations on the training clock; empty where they were not kept."""
        path = self.folder / "curve.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]


def read_records(roots: Iterable[Path]) -> list[Record]:
    """All finished runs below some folders, in the order of folders and then of paths.

    Raises:
        HaleError: a folder that is not there, or a file that is not a record.
    """
    records = []
    for root in roots:
        if not root.is_dir():
            raise HaleError(f"no folder {root}: run an experiment into it, or name another")
        for path in sorted(root.rglob(RESULT_FILE)):
            if (path.parent.parent / RESULT_FILE).exists():
                continue  # the copy that an exported model keeps
            result = read_result(path.parent)
            assert result is not None
            records.append(Record(root, path.parent, result))
    return records


def select(
    records: Iterable[Record], dataset: str, strategy: str, model: str, dim: int
) -> list[Record]:
    """The runs of one system, by seed, from the first folder that has any."""
    wanted = (dataset, strategy, model, dim)
    found = [
        r for r in records
        if (r.choice("dataset"), r.choice("strategy"), r.choice("model"), r.dim) == wanted
    ]  # fmt: skip
    return sorted((r for r in found if r.root == found[0].root), key=lambda r: r.seed)


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (None of a single value) of ``n`` values."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        """Three decimals, as in the paper."""
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean and spread of some values; None of none."""
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.mean(values), std, len(values))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
