"""The segments of a run: one for each process that trained it, with its cost and provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from hale.training.clock import TrainingClock

COUNTED = ("steps", "train_seconds", "cpu_seconds")
"""What the training clock counts over all segments."""


class Segments(pl.Callback):
    """Keeps in checkpoints what each process has done, where, and with which versions.

    A segment ends with the last checkpoint that it wrote: what was done after it is lost, and not
    counted.

    Args:
        clock: the run's training clock, before training starts. The wall clock of a segment is
            the same clock; seconds that the training clock holds already, of a search, are added.
    """

    def __init__(self, clock: TrainingClock) -> None:
        self.clock = clock
        self.provenance: Mapping[str, Any] = {}
        self.earlier: list[dict[str, Any]] = []
        self._spent = clock.train_seconds
        self._started = clock.clock()

    def __call__(self) -> list[dict[str, Any]]:
        """The segments up to now.

        Each has ``steps``, ``train_seconds``, ``cpu_seconds``, ``seconds`` of the wall clock, and
        what :func:`hale.runs.record.provenance` tells.
        """
        seconds = self.clock.clock() - self._started + (0.0 if self.earlier else self._spent)
        total = dict(zip(COUNTED, (
            self.clock.steps_done, self.clock.train_seconds, self.clock.cpu_seconds
        ), strict=True))  # fmt: skip
        own = {name: total[name] - sum(each[name] for each in self.earlier) for name in COUNTED}
        return [*self.earlier, {**self.provenance, **own, "seconds": seconds}]

    def state_dict(self) -> dict[str, Any]:
        """The segments up to now."""
        return {"segments": self()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin a new one after those of the checkpoint."""
        self.earlier = state_dict["segments"]


def moved(segments: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> str | None:
    """One line if a run is resumed on other hardware or with other versions than before."""
    if not segments:
        return None
    before, now = ({**p["hardware"], **p["versions"]} for p in (segments[-1], provenance))
    changed = [f"{name} {before.get(name)} -> {now[name]}" for name in now
               if before.get(name) != now[name]]  # fmt: skip
    return f"resumed elsewhere than it was trained: {', '.join(changed)}" if changed else None
