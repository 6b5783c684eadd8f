"""The kernels in C: compiled for this machine on first use, called through ctypes.

There is a library for each comparator and activation; what its functions share is here. Their
method and its measurements are in docs/kernel.md.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hale.scoring.activations import Activation, Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import Comparator, NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels.compile import CompileError, shared_library

SOURCES = Path(__file__).with_name("c")
Inputs = tuple[Tensor, Tensor, Tensor]

_INT, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Sweep(ctypes.Structure):
    """``struct sweep`` of the C source."""

    _fields_ = [
        *((name, _INT) for name in ("rows", "entities", "dim", "threads")),
        *((name, _POINTER) for name in ("query", "scale", "entity")),
        *((name, _FLOAT) for name in ("norms", "product", "floor", "first", "second")),
        *((name, _POINTER) for name in ("known_start", "known_stop", "known")),
        *((name, _POINTER) for name in ("weights", "tape", "lse", "upstream")),
        *((name, _POINTER) for name in ("query_gradient", "scale_gradient", "entity_gradient")),
        *((name, _INT) for name in ("accumulate", "columns")),
        *((name, _POINTER) for name in ("chosen", "score", "derivatives")),
    ]


class Kernel(NamedTuple):
    """The library for a comparator and an activation, and their numbers."""

    library: ctypes.CDLL
    numbers: tuple[float, ...]

    def sweep(self, inputs: Inputs, rows: slice = slice(None), **fields: int) -> Sweep:
        """The C functions' arguments for some rows of the queries; the caller keeps them alive."""
        query_ND, scale_N, entity_ED = inputs
        query_ND, scale_N = query_ND[rows], scale_N[rows]
        return Sweep(
            len(query_ND),
            *entity_ED.shape,
            torch.get_num_threads(),
            query_ND.data_ptr(),
            scale_N.data_ptr(),
            entity_ED.data_ptr(),
            *self.numbers,
            **fields,
        )


_COMPARATORS: dict[type, tuple[tuple[str, ...], tuple[float, float, float]]] = {
    SquaredEuclidean: ((), (1.0, -2.0, 0.0)),
    NegativeDot: ((), (0.0, -1.0, -torch.inf)),
    Poincare: (("COMPARATOR_POINCARE",), (0.0, 0.0, 0.0)),
}
"""Definitions; factors of the squared norms and of the dot product, and the floor."""

_ACTIVATIONS: dict[type, tuple[str, Callable[[Any], tuple[float, float]]]] = {
    Identity: ("linear", lambda h: (1.0, 0.0)),
    Temperature: ("linear", lambda h: (1 / h.temperature, 0.0)),
    Hanon: ("hanon", lambda h: (h.beta, h.gamma)),
    Halin: ("halin", lambda h: (h.beta, h.gamma)),
    XExp: ("xexp", lambda h: (h.limit, 0.0)),
    Artanh: ("artanh", lambda h: (0.0, 0.0)),
}
"""Function in C and its parameters; of these very types, since subclasses are other functions."""

_MOST_LIMIT = 60.0
"""Largest ``limit`` of XExp whose slopes are finite in float32."""


def find_kernel(comparator: Comparator, activation: Activation) -> Kernel | str:
    """The kernel, compiled if it was not yet, or why there is none."""
    known = type(comparator) in _COMPARATORS and type(activation) in _ACTIVATIONS
    if not known or (isinstance(activation, XExp) and activation.limit > _MOST_LIMIT):
        return f"the native kernel does not know {activation} of {comparator}"
    defines, factors = _COMPARATORS[type(comparator)]
    name, parameters = _ACTIVATIONS[type(activation)]
    library = _library((*defines, f"ACTIVATION={name}"))
    if isinstance(library, str):
        return library
    return Kernel(library, (*factors, *parameters(activation)))


@cache
def _library(defines: tuple[str, ...]) -> ctypes.CDLL | str:
    try:
        library = ctypes.CDLL(str(shared_library(SOURCES, defines)))
    except (CompileError, OSError) as error:
        return f"the native kernel is not available: {error}"
    for name in ("forward", "backward", "chosen", "chosen_backward"):
        getattr(library, f"hale_{name}").argtypes = [ctypes.POINTER(Sweep)]
    sizes = {"tape_floats": 2, "weight_bytes": 2, "most_rows": 3, "derivative_floats": 1}
    for name, arguments in sizes.items():
        function = getattr(library, f"hale_{name}")
        function.argtypes, function.restype = [_INT] * arguments, _INT
    return library


def unavailable(inputs: Inputs, comparator: Comparator, activation: Activation) -> str | None:
    """Why the kernels cannot take these tensors, in one line; else None, and they are compiled."""
    for tensor in inputs:
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            return f"the native kernel takes float32 on cpu, not {tensor.dtype} on {tensor.device}"
    kernel = find_kernel(comparator, activation)
    return kernel if isinstance(kernel, str) else None
