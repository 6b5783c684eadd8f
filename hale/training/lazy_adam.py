"""Adam for large tables of which a step reads few rows."""

import ctypes
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hale.errors import ArgumentError, require
from hale.scoring.kernels.compile import CompileError, shared_library

_SMALL = 65_536
"""Up to so many numbers a second thread is not worth its start."""


class LazyAdam(Optimizer):
    """Adam that leaves a row of a parameter, and its moments, as they are while its gradient is 0.

    With ``loss.candidates=near`` a step reads a small part of a large entity table, and Adam's pass
    over all of it would take most of the time. Where every row has a gradient it is Adam (Kingma
    and Ba, 2015, Algorithm 1). ``t`` counts the steps of the optimizer, not those of a row, so the
    first step of a row that is first met late is up to ``(1 - beta1) / sqrt(1 - beta2)`` times lr.

    Args:
        params: parameters or groups of them.
        lr: learning rate; not negative.
        betas: decay rates of the first and the second moment, each in [0, 1).
        eps: added to the root of the second moment; above 0.
        weight_decay: added to gradients as this multiple of the parameters; not negative.

    Raises:
        ArgumentError: an argument out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        require("lr", lr, at_least=0)
        require("eps", eps, above=0)
        require("weight_decay", weight_decay, at_least=0)
        if len(betas) != 2:
            raise ArgumentError(f"betas must be two numbers, got {betas}")
        for beta in betas:
            require("betas", beta, at_least=0, below=1)
        values = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, values)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; returns the loss of ``closure``, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        settings = (
            group["lr"] / (1 - beta1**step), beta1, beta2, group["eps"],
            1 / math.sqrt(1 - beta2**step), group["weight_decay"],
        )  # fmt: skip
        gradient = parameter.grad
        assert gradient is not None
        tensors = (parameter, gradient.contiguous(), state["exp_avg"], state["exp_avg_sq"])
        fit = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        library = _library() if fit and parameter.is_contiguous() else None
        if library is None:
            _by_rows(*tensors, *settings)
        else:
            _native(library, tensors, settings)
            torch.autograd.graph.increment_version(parameter)


def _by_rows(
    parameter: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rate: float, beta1: float,
    beta2: float, eps: float, correction: float, decay: float,
) -> None:  # fmt: skip
    """The step in PyTorch, which defines it."""
    if not parameter.dim():
        parameter, gradient, first, second = (t[None] for t in (parameter, gradient, first, second))
    others = tuple(range(1, gradient.dim()))
    (row,) = (gradient.any(others) if others else gradient != 0).nonzero(as_tuple=True)
    g = gradient[row] + decay * parameter[row]
    m = first[row].lerp(g, 1 - beta1)
    v = beta2 * second[row] + (1 - beta2) * g.square()
    first[row], second[row] = m, v
    parameter[row] -= rate * m / (v.sqrt() * correction + eps)


class _Step(ctypes.Structure):
    """``struct step`` of the C source."""

    _fields_ = [
        ("columns", ctypes.c_int64),
        *((n, ctypes.c_float) for n in ("rate", "beta1", "beta2", "eps", "correction", "decay")),
    ]


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(shared_library(Path(__file__).parent, ())))
    except (CompileError, OSError):
        return None
    pointers = [ctypes.c_void_p] * 4
    library.hale_lazy_adam.argtypes = [*pointers, ctypes.c_int64, ctypes.POINTER(_Step)]
    library.hale_lazy_adam.restype = None
    return library


def _native(library: ctypes.CDLL, tensors: tuple[Tensor, ...], settings: tuple[float, ...]) -> None:
    """The step in C, the rows shared out to threads."""
    count = len(tensors[0]) if tensors[0].dim() else 1
    if not count:
        return
    columns = tensors[0].numel() // count
    step = _Step(columns, *settings)
    threads = torch.get_num_threads() if tensors[0].numel() > _SMALL else 1
    share = -(-count // threads)

    def part(start: int) -> None:
        addresses = [tensor.data_ptr() + start * columns * 4 for tensor in tensors]
        library.hale_lazy_adam(*addresses, min(share, count - start), step)

    if threads == 1:
        part(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(0, count, share)))
