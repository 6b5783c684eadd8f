"""The processes of one run: how they are started, what they tell each other, and their shards.

Only this module imports ``torch.distributed``. A command that asks for several devices starts
itself again, once per device, through ``torch.distributed.launcher``, which is what ``torchrun``
uses; with ``torchrun`` it is started that way by the user. The first process decides, writes and
prints; the others follow it. A run on one device has one process, to which all this does nothing.

A collective is called by all processes in the same order. Those that take part in the computation
of gradients are made of one exchange, PyTorch's ``all_to_all_single``, which takes any number of
rows, also none, and runs on Gloo and NCCL alike.

    W  processes     B  rows of this process     N  rows of all processes, in the order of ranks
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hale.errors import EndedError, HaleError

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


def total(value_X: Tensor) -> Tensor:
    """The sum over processes; a collective, not differentiable."""
    if process_count() > 1:
        value_X = value_X.clone()
        dist.all_reduce(value_X)
    return value_X


def mean(value_X: Tensor) -> Tensor:
    """The mean over processes; a collective, not differentiable."""
    return total(value_X) / process_count()


def wait() -> None:
    """Until all processes are here; a collective."""
    if process_count() > 1:
        dist.barrier()


def exchange(row_SX: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
    """Rows for each process in turn; returns those that are for this one. A collective.

    Differentiable: the gradients of the sum of all processes' losses travel back.

    Args:
        row_SX: rows, those for the first process first.
        send: how many are for each process.
        receive: how many come from each.
    """
    if process_count() == 1:
        return row_SX
    import torch.distributed._functional_collectives as functional

    assert dist.group.WORLD is not None
    moved = functional.all_to_all_single_autograd(
        row_SX.contiguous(), list(receive), list(send), dist.group.WORLD
    )
    waited: Tensor = functional.wait_tensor(moved)  # type: ignore[no-untyped-call]  # torch's
    return waited


def counts(count: int, device: torch.device) -> list[int]:
    """The number of rows that each process has; a collective that waits for the device."""
    if process_count() == 1:
        return [count]
    own = torch.tensor([count], device=device)
    every = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(every, own)
    return torch.cat(every).tolist()


def from_all(row_BX: Tensor, count_W: Sequence[int]) -> Tensor:
    """The rows of all processes, ``row_NX``; a differentiable collective.

    Args:
        row_BX: those of this process.
        count_W: how many each process has.
    """
    processes = len(count_W)
    repeated = row_BX.repeat(processes, *[1] * (row_BX.dim() - 1))
    return exchange(repeated, [len(row_BX)] * processes, count_W)


def to_owners(row_NX: Tensor, count_W: Sequence[int]) -> Tensor:
    """What each process has for the rows of this one, ``row_WBX``; a differentiable collective.

    Args:
        row_NX: for the rows of all processes.
        count_W: how many rows each process has.
    """
    count = count_W[rank()]
    moved = exchange(row_NX, count_W, [count] * len(count_W))
    return moved.view(len(count_W), count, *row_NX.shape[1:])


def distributed(row_SX: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of this shape, of whose rows each process has its part: ``row_SX`` here."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = init_device_mesh(row_SX.device.type, (process_count(),))
    stride = (shape[1], 1)
    return DTensor.from_local(row_SX, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def is_distributed(tensor: Tensor) -> bool:
    """Whether each process has a part of the tensor."""
    return hasattr(tensor, "to_local")


def own_rows(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, as it is where there are no others; differentiable."""
    if not is_distributed(tensor):
        return tensor
    from torch.distributed.tensor import Shard

    rows: Tensor = tensor.to_local(grad_placements=[Shard(0)])  # type: ignore[attr-defined]
    return rows


def alike(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """The parameters that all processes have, and those of which each has a part.

    PyTorch's optimizers take no group of both.
    """
    parts = [p for p in parameters if is_distributed(p)]
    return [some for some in ([p for p in parameters if not is_distributed(p)], parts) if some]


def add_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum the gradients of parameters over processes; one collective."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    summed = total(torch.cat([gradient.flatten() for gradient in gradients]))
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, sum_X in zip(parameters, torch.split(summed, sizes), strict=True):
        parameter.grad = sum_X.view_as(parameter)


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
