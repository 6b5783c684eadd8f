"""Training budgets of an experiment's runs: a share of the paper's seconds, seconds, or steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hale.errors import HaleError

_BUDGET = r"(0|[1-9]\d*)(steps|(\.\d*[1-9])?s?)"


@dataclass(frozen=True)
class Budget:
    """A share of the paper's training seconds (0.25), seconds (60s) or steps (500steps).

    Args:
        text: as the user wrote it, which also names the folder of its runs.

    Raises:
        HaleError: it is none of them, 0, or not in its shortest form: a budget has one folder.
    """

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(_BUDGET, self.text) or not self._number:
            raise HaleError(
                "the budget must be a share of the paper's seconds as 0.25, seconds as 60s, or "
                f"steps as 500steps, got {self.text!r}"
            )

    @property
    def in_steps(self) -> bool:
        """Whether it is counted in steps."""
        return self.text.endswith("steps")

    @property
    def _number(self) -> float:
        return float(self.text.removesuffix("steps").removesuffix("s"))

    def overrides(self, paper_seconds: Mapping[str, float]) -> list[str]:
        """Hydra's overrides for it.

        Args:
            paper_seconds: the paper's training seconds, by dataset: ``training_seconds`` of an
                experiment.
        """
        if self.in_steps:
            return ["budget.seconds=null", f"budget.steps={self._number:.0f}"]
        if self.text.endswith("s"):
            return [f"budget.seconds={self._number}"]
        if self._number == 1:
            return []
        shares = (f"{name}:{self._number * s:g}" for name, s in paper_seconds.items())
        return [f"training_seconds={{{','.join(shares)}}}"]
