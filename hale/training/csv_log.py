"""The CSV files that every run writes, continued where a run is resumed; how loggers are closed."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from hale.runs.files import write_atomically
from hale.runs.record import defined


@contextmanager
def finalized(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers, with the status that the block ends in."""
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


class CSVLog(CSVLogger):
    """Everything that is logged, in ``csv/version_0/metrics.csv`` of a run's folder.

    A resumed run adds to the rows of its checkpoint; those after it, which are lost, are removed. A
    metric that is not defined is empty.

    Args:
        folder: the run's.
        steps: of the checkpoint that is resumed; 0 of a run that begins.
    """

    def __init__(self, folder: Path, steps: int = 0) -> None:
        super().__init__(folder, name="csv", version=0)
        self._steps = steps

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = _Continued(self.log_dir, self._steps)
        return cast(ExperimentWriter, self._experiment)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        super().log_metrics(defined(metrics), step)  # type: ignore[arg-type]  # None is empty


class _Continued(ExperimentWriter):
    """Lightning's writer, which by itself begins with removing what an earlier process wrote."""

    def __init__(self, log_dir: str, steps: int) -> None:
        self._steps = steps
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            kept = [row for row in reader if _is_before(row, self._steps)]
        if not kept:
            path.unlink()
            return
        self.metrics_keys = list(reader.fieldnames or ())
        with write_atomically(path) as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(kept)


def _is_before(row: Mapping[str, str | None], steps: int) -> bool:
    """Whether a whole row is of the first ``steps`` steps, which Lightning counts from 0."""
    step = row.get("step") or ""
    return None not in row.values() and step.isdecimal() and int(step) < steps
