"""The kernels in C: compiled for this machine on first use, called through ctypes.

Each pair of comparator and activation has a library of its own. This module loads it and holds what
its functions share; docs/kernel.md explains the method and gives measurements.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hale.scoring.activations import Activation, Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import Comparator, NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels.compile import CompileError, shared_library
from hale.scoring.kernels.parameters import NONE, parameters

SOURCES = Path(__file__).with_name("c")
Inputs = tuple[Tensor, Tensor, Tensor]

_INT, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Sweep(ctypes.Structure):
    """``struct sweep`` of the C source."""

    _fields_ = [
        *((name, _INT) for name in ("rows", "entities", "dim", "threads")),
        *((name, _POINTER) for name in ("query", "scale", "entity")),
        *((name, _FLOAT) for name in ("norms", "product", "floor", *NONE)),
        *((name, _POINTER) for name in ("known_start", "known_stop", "known")),
        *((name, _POINTER) for name in ("weights", "tape", "lse", "upstream")),
        *((name, _POINTER) for name in ("query_gradient", "scale_gradient", "entity_gradient")),
        *((name, _INT) for name in ("accumulate", "columns")),
        *((name, _POINTER) for name in ("chosen", "score", "derivatives")),
    ]


class Kernel(NamedTuple):
    """The library for a comparator and an activation, and the parameters of the two, by name."""

    library: ctypes.CDLL
    parameters: dict[str, float]

    def sweep(self, inputs: Inputs, rows: slice = slice(None), **fields: int) -> Sweep:
        """The C functions' arguments for some queries; the caller keeps the tensors alive."""
        query_ND, scale_N, entity_ED = inputs
        query_ND, scale_N = query_ND[rows], scale_N[rows]
        return Sweep(
            len(query_ND),
            *entity_ED.shape,
            torch.get_num_threads(),
            query_ND.data_ptr(),
            scale_N.data_ptr(),
            entity_ED.data_ptr(),
            **self.parameters,
            **fields,
        )


_COMPARATORS: dict[type, tuple[tuple[str, ...], dict[str, float]]] = {
    SquaredEuclidean: ((), {"norms": 1.0, "product": -2.0, "floor": 0.0}),
    NegativeDot: ((), {"norms": 0.0, "product": -1.0, "floor": -torch.inf}),
    Poincare: (("COMPARATOR_POINCARE",), {"norms": 0.0, "product": 0.0, "floor": 0.0}),
}
"""Macros to define; coefficients of the squared norms and of the dot product, and the minimum."""

_ACTIVATIONS: dict[type, str] = {
    Identity: "linear",
    Temperature: "linear",
    Hanon: "hanon",
    Halin: "halin",
    XExp: "xexp",
    Artanh: "artanh",
}
"""Name of the C function. A subclass may be another function, so it is not looked up here."""

_MAX_LIMIT = 60.0
"""Largest ``limit`` of XExp whose derivatives are finite in float32."""


def find_kernel(comparator: Comparator, activation: Activation) -> Kernel | str:
    """The kernel, compiled if necessary, or the reason why there is none."""
    supported = type(comparator) in _COMPARATORS and type(activation) in _ACTIVATIONS
    if not supported or (isinstance(activation, XExp) and activation.limit > _MAX_LIMIT):
        return f"the native kernel does not support {activation} of {comparator}"
    defines, coefficients = _COMPARATORS[type(comparator)]
    library = _library((*defines, f"ACTIVATION={_ACTIVATIONS[type(activation)]}"))
    if isinstance(library, str):
        return library
    return Kernel(library, coefficients | parameters(activation))


def variant(comparator: Comparator, activation: Activation) -> str:
    """The instructions that a kernel's library uses: ``avx2``, ``amx-bf16``; see ``c/variant.c``.

    Raises:
        RuntimeError: there is no such kernel.
    """
    kernel = find_kernel(comparator, activation)
    if isinstance(kernel, str):
        raise RuntimeError(kernel)
    name: bytes = kernel.library.hale_variant()
    return name.decode()


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
    library.hale_variant.argtypes, library.hale_variant.restype = [], ctypes.c_char_p
    return library


def unavailable(inputs: Inputs, comparator: Comparator, activation: Activation) -> str | None:
    """Why the kernels do not support these tensors, in one line; None if they do (and compile)."""
    for tensor in inputs:
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            found = f"{tensor.dtype} on {tensor.device}"
            return f"the native kernel supports float32 on cpu, not {found}"
    kernel = find_kernel(comparator, activation)
    return kernel if isinstance(kernel, str) else None
