"""Libraries of the C kernels, compiled for this machine on first use, and bound by ctypes.

Each pair of comparator and activation has a library of its own.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hale.errors import ArgumentError
from hale.scoring.activations import Activation, Artanh, Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels.compile import CompileError, shared_library
from hale.scoring.kernels.parameters import NONE, parameters

SOURCES = Path(__file__).with_name("c")

_INT, _FLOAT, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Sweep(ctypes.Structure):
    """``struct sweep`` of the C source."""

    _fields_ = [
        *((name, _INT) for name in ("rows", "entities", "dim", "threads")),
        *((name, _POINTER) for name in ("query", "scale", "entity")),
        *((name, _FLOAT) for name in ("norms", "product", "floor", *NONE)),
        *((name, _POINTER) for name in ("known_start", "known_stop", "known", "narrow_known")),
        *((name, _POINTER) for name in ("order", "place", "log_weight")),
        *((name, _POINTER) for name in ("weights", "tape", "lse", "upstream")),
        *((name, _POINTER) for name in ("query_gradient", "scale_gradient", "entity_gradient")),
        *((name, _INT) for name in ("accumulate", "columns")),
        *((name, _POINTER) for name in ("chosen", "score", "derivatives")),
    ]


class Kernel(NamedTuple):
    """The library for a comparator and an activation, and the parameters of the two, by name."""

    library: ctypes.CDLL
    parameters: dict[str, float]


Inputs = tuple[Tensor, Tensor, Tensor]
"""Queries, their scales, entities."""


def require_shapes(query_ND: Tensor, scale_N: Tensor, entity_ED: Tensor, *rows: Tensor) -> None:
    """Raise ArgumentError for shapes that do not go together.

    ``rows`` are tensors with a row for each query.
    """
    count = len(query_ND)
    for tensor in (scale_N, *rows):
        if tensor.shape[:1] != (count,):
            raise ArgumentError(
                f"{count} queries need tensors of {count} rows, got one of {tuple(tensor.shape)}"
            )
    shapes = [tuple(tensor.shape) for tensor in (query_ND, scale_N, entity_ED)]
    if list(map(len, shapes)) != [2, 1, 2] or shapes[0][1] != shapes[2][1]:
        raise ArgumentError(
            "queries (N, D), scales (N) and entities (E, D) are needed, got {}, {} and {}".format(
                *shapes
            )
        )


def arguments_of(kernel: Kernel, inputs: Inputs, rows: slice = slice(None), **fields: int) -> Sweep:
    """The C functions' arguments for some queries; the caller keeps the tensors alive."""
    query_ND, scale_N, entity_ED = inputs
    query_ND, scale_N = query_ND[rows], scale_N[rows]
    tensors = (query_ND, scale_N, entity_ED)
    return Sweep(
        len(query_ND), *entity_ED.shape, torch.get_num_threads(),
        *(tensor.data_ptr() for tensor in tensors), **kernel.parameters, **fields,
    )  # fmt: skip


COMPARATORS: dict[type, tuple[tuple[str, ...], dict[str, float]]] = {
    SquaredEuclidean: ((), {"norms": 1.0, "product": -2.0, "floor": 0.0}),
    NegativeDot: ((), {"norms": 0.0, "product": -1.0, "floor": -torch.inf}),
    Poincare: (("COMPARATOR_POINCARE",), {"norms": 0.0, "product": 0.0, "floor": 0.0}),
}
"""Macros to define; coefficients of the squared norms and of the dot product, and the minimum."""

ACTIVATIONS: dict[type, str] = {
    Identity: "linear",
    Temperature: "linear",
    Hanon: "hanon",
    Halin: "halin",
    XExp: "xexp",
    Artanh: "artanh",
}
"""Name of the C function. A subclass may be another function, so it is not looked up here."""

MAX_LIMIT = 60.0
"""Largest ``limit`` of XExp whose derivatives are finite in float32."""


@cache
def load(comparator: type, activation: Activation) -> Kernel | str:
    """The kernel of a pair in the tables above, compiled if necessary, or why there is none."""
    defines, coefficients = COMPARATORS[comparator]
    library = _library((*defines, f"ACTIVATION={ACTIVATIONS[type(activation)]}"))
    if isinstance(library, str):
        return library
    return Kernel(library, coefficients | parameters(activation))


@cache
def _library(defines: tuple[str, ...]) -> ctypes.CDLL | str:
    try:
        library = ctypes.CDLL(str(shared_library(SOURCES, defines)))
    except (CompileError, OSError) as error:
        return f"the native kernel is not available: {error}"
    for name in ("forward", "backward", "chosen", "chosen_backward", "weight_bytes"):
        getattr(library, f"hale_{name}").argtypes = [ctypes.POINTER(Sweep)]
    library.hale_weight_bytes.restype = _INT
    sizes = {
        "tape_floats": (_INT, _INT),
        "most_rows": (_INT, _INT, ctypes.c_double),
        "derivative_floats": (_INT,),
    }
    for name, arguments in sizes.items():
        function = getattr(library, f"hale_{name}")
        function.argtypes, function.restype = arguments, _INT
    for name in ("multiply_add", "powers"):
        function = getattr(library, f"hale_{name}")
        function.argtypes, function.restype = (_INT, ctypes.POINTER(_FLOAT)), _INT
    library.hale_variant.argtypes, library.hale_variant.restype = [], ctypes.c_char_p
    return library
