"""Tensors that travel between processes, or of which each process has some rows.

Collectives that take part in the computation of gradients are made of one exchange, PyTorch's
``all_to_all_single``, which takes any number of rows, also none, and runs on Gloo and NCCL alike.

    W  processes     B  rows of this process     N  rows of all processes, in the order of ranks
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from hale.distributed.processes import process_count, rank


def total(value_X: Tensor) -> Tensor:
    """The sum over processes; a collective, not differentiable."""
    if process_count() > 1:
        value_X = value_X.clone()
        dist.all_reduce(value_X)
    return value_X


def mean(value_X: Tensor) -> Tensor:
    """The mean over processes; a collective, not differentiable."""
    return total(value_X) / process_count()


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


def distribute(row_SX: Tensor, shape: torch.Size) -> Tensor:
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
