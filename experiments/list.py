"""The runs of an experiment, and how far each is; nothing is trained and no folder is made."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError
from hale.runs.record import changed, read_result
from hale.runs.sweep import grid, require_own_folders
from hale.settings.compose import compose

State = Literal["finished", "stale", "begun", "missing"]


@dataclass(frozen=True)
class ListedRun:
    """One run of an experiment.

    Args:
        folder: where its record is, or will be.
        config: its settings today.
        record: the record of its folder, if there is one.
    """

    folder: Path
    config: dict[str, Any]
    record: dict[str, Any] | None

    @property
    def seconds(self) -> float:
        """Its training seconds; 0 where its budget is in steps."""
        return float(self.config["budget"]["seconds"] or 0)

    @property
    def state(self) -> State:
        """How far it is; ``stale`` is finished, with settings that differ from today's."""
        if self.record is None:
            begun = (self.folder / "checkpoints" / "last.ckpt").exists()
            return "begun" if begun else "missing"
        return "stale" if changed(self.record, self.config) else "finished"

    def __str__(self) -> str:
        """Its state, budget and folder, and what its record says."""
        budget = (
            f"{self.seconds:g} s" if self.seconds else f"{self.config['budget']['steps']} steps"
        )
        line = f"{self.state:9} {budget:>11}  {self.folder}"
        if self.record is None:
            return line
        if different := changed(self.record, self.config):
            return f"{line}  (settings differ: {', '.join(different)}; remove it to rerun)"
        found = ((m, self.record.get(m)) for m in (self.config["monitor"], "test/mrr"))
        return line + "".join(f"  {name} {value:.4f}" for name, value in found if value is not None)


def expand(experiment: str, overrides: Sequence[str], folder: Path) -> list[ListedRun]:
    """All runs of an experiment, in the order of its sweep.

    Args:
        experiment: a file of ``conf/experiment``.
        overrides: in Hydra's grammar; one of a swept setting replaces its values.
        folder: the records lie in the experiment's ``hydra.sweep.subdir`` of it.

    Raises:
        HaleError: what Hydra refuses, or two runs that would share a folder.
    """
    try:
        swept = compose([f"experiment={experiment}"]).hydra
        values = grid(swept.sweeper.params or {}, overrides)
        require_own_folders(swept.sweep, values, folder)
        seeds = values.pop("seed", [])  # a seed changes no other setting: composed once for all
        jobs = [[f"experiment={experiment}", *job] for job in product(*values.values())]
        by_job = [_list(compose(job), seeds, folder) for job in jobs]
    except (HaleError, OmegaConfBaseException) as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        raise HaleError(f"experiment {experiment}: {lines}") from None
    return [run for of_seed in zip(*by_job, strict=True) for run in of_seed]


def _list(cfg: DictConfig, seeds: Sequence[str], folder: Path) -> list[ListedRun]:
    runs = []
    for seed in seeds or [f"seed={cfg.seed}"]:
        cfg.merge_with_dotlist([seed])
        keys = [str(key) for key in cfg if key != "hydra"]
        config: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True)
        path = folder / cfg.hydra.sweep.subdir
        runs.append(ListedRun(path, config, read_result(path)))
    return runs


def show(runs: Sequence[ListedRun]) -> None:
    """Print each run, and the training time that all of them need."""
    for run in runs:
        print(run)
    states = Counter(run.state for run in runs)
    ahead = sum(run.seconds for run in runs if run.state in ("begun", "missing"))
    count = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    print(
        f"{len(runs)} runs: {count or 'none'}; at most {ahead / 3600:.2f} h of training ahead, "
        "plus start, validation and test",
        flush=True,
    )
