"""The choice of a backend, by the environment variable HALE_KERNEL or else by the device."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache

import torch

from hale.errors import HaleError

log = logging.getLogger(__name__)

_OF_DEVICE = {"cpu": "native", "cuda": "triton"}


def choose(device: torch.device, obstacles: Mapping[str, Callable[[], str | None]]) -> str:
    """``native``, ``triton`` or ``reference``.

    Args:
        device: where the tensors are.
        obstacles: for each backend that implements the operation, other than the reference, a
            function that returns in one line why it does not support this call, or None if it
            does.

    Raises:
        HaleError: HALE_KERNEL names no backend, or one that implements the operation but does not
            support this call.
    """
    forced = os.environ.get("HALE_KERNEL", "")
    if forced not in ("", "reference", *_OF_DEVICE.values()):
        raise HaleError(f"HALE_KERNEL must be reference, native or triton, got {forced!r}")
    backend = forced or _OF_DEVICE.get(device.type, "reference")
    if backend not in obstacles:
        return "reference"
    obstacle = obstacles[backend]()
    if obstacle is None:
        return backend
    if forced:
        raise HaleError(f"HALE_KERNEL={forced}: {obstacle}")
    _note(obstacle)
    return "reference"


@cache
def _note(obstacle: str) -> None:
    log.warning("%s; using the slower reference", obstacle)
