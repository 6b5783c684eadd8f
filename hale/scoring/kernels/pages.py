"""Memory of a large gradient, used again in the next step: fresh pages cost time."""

import mmap
import sys

import torch
from torch import Tensor

LARGE = 32 << 20
"""Bytes from which the C library gives freed memory back to the system."""

_last: list[mmap.mmap] = []


def empty_like(tensor: Tensor) -> Tensor:
    """An uninitialised, contiguous tensor on the CPU.

    A large one has the pages of the large one before, if nobody has that any more. They are huge
    pages where the system has them.
    """
    size = tensor.numel() * tensor.element_size()
    if size < LARGE:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    pages = _last.pop() if _last else None
    if pages is None or len(pages) != size or sys.getrefcount(pages) > 2:  # of a tensor in use
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)
    _last.append(pages)
    return torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
