"""The processes of one run: how they are started, and what they tell each other.

Only this module imports ``torch.distributed``. A command that asks for several devices starts
itself again, once per device, through ``torch.distributed.launcher``, which is what ``torchrun``
uses; with ``torchrun`` it is started that way by the user. The first process decides, writes and
prints; the others follow it. A run on one device has one process, to which all this does nothing.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from hale.errors import EndedError, HaleError
from hale.settings.trainer import is_worker

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""After which a process that waits for another gives up. The first one's measurements before
training are waited for, too."""
ENDED = (
    "another process of this run has ended: start the run again to continue from its last "
    "checkpoint"
)


def count() -> int:
    """How many processes train; 1 outside :func:`joined`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that decides, writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Connect with the other processes of the run, if there are any, while the block runs.

    Raises:
        HaleError: one of the others has ended.
    """
    if not is_worker(os.environ) or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise HaleError(ENDED) from error
        raise
    finally:
        # After an error NCCL would wait for processes that have ended; Gloo does not, and aborts
        # at exit where its threads still run.
        if sys.exc_info()[0] is None or not torch.cuda.is_available():
            dist.destroy_process_group()


def of_first(value: T) -> T:
    """What the first process has; a collective."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """What each process has, by rank; a collective."""
    values: list[Any] = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def seconds_of_first(seconds: float) -> float:
    """The first process's reading of a clock; a collective of one number."""
    if count() == 1:
        return seconds
    reading = torch.tensor(seconds, dtype=torch.float64)
    dist.broadcast(reading, src=0)
    return reading.item()


def mean(value_X: torch.Tensor) -> torch.Tensor:
    """The mean over processes; a collective."""
    if count() == 1:
        return value_X
    value_X = value_X.clone()
    dist.all_reduce(value_X)
    return value_X / count()


def wait() -> None:
    """Until all processes are here; a collective."""
    if count() > 1:
        dist.barrier()


class OwnSigterm(pl.Callback):
    """Lets SIGTERM end one of several processes as it did before training.

    Lightning's handler would first wait for the other processes, whatever they are doing.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the handler from before."""
        main = threading.current_thread() is threading.main_thread()
        if main and count() > 1 and self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def start(arguments: Sequence[str], processes: int, threads: int | None) -> None:
    """Run ``python ARGUMENTS`` in several processes of this machine, and wait for them.

    Args:
        arguments: of Python.
        processes: how many.
        threads: CPU threads of each; None shares the cores evenly.

    Raises:
        HaleError: one of them was killed.
        EndedError: one failed, and the first has said why.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _quiet_launcher()
    threads = threads or max(1, torch.get_num_threads() // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", run_id="hale", max_restarts=0, monitor_interval=0.2,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise HaleError(
                f"process {rank} of {processes} was killed by signal {-failure.exitcode}: start "
                "the run again to continue from its last checkpoint"
            ) from None
        raise EndedError(1) from None
    except SignalException as error:
        raise EndedError(128 + error.sigval) from None


def _quiet_launcher() -> None:
    """Silence the launcher's reports, which repeat what the processes say."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
