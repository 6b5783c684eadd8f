"""What the processes of one run tell each other.

The first process decides, writes and prints; the others follow it. A run on one device has one
process, to which all this does nothing. A collective is called by all processes, in one order.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hale.errors import HaleError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""After which a process that waits for another gives up. The first one's measurements before
training are waited for, too."""
ENDED = (
    "another process of this run has ended: start the run again to continue from its last "
    "checkpoint"
)


def process_count() -> int:
    """How many processes train; 1 outside :func:`joined`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that decides, writes and prints."""
    return rank() == 0


@contextmanager
def joined(worker: bool) -> Iterator[None]:
    """Connect with the other processes of the run, if there are any, while the block runs.

    Args:
        worker: whether this process was started as one of several.

    Raises:
        HaleError: one of the others has ended.
    """
    if not worker or dist.is_initialized():
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
    if process_count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """What each process has, by rank; a collective."""
    values: list[Any] = [value] * process_count()
    if process_count() > 1:
        dist.all_gather_object(values, value)
    return values


def seconds_of_first(seconds: float) -> float:
    """The first process's reading of a clock; a collective of one number."""
    if process_count() == 1:
        return seconds
    reading = torch.tensor(seconds, dtype=torch.float64)
    dist.broadcast(reading, src=0)
    return reading.item()


def wait() -> None:
    """Until all processes are here; a collective."""
    if process_count() > 1:
        dist.barrier()
