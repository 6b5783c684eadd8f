"""Memory of a large gradient, used again in the next step: fresh pages cost time."""

import contextlib
import mmap
import sys

import torch
from torch import Tensor

LARGE = 32 << 20
"""Bytes from which the C library gives freed memory back to the system."""

_last: list[mmap.mmap] = []


def _references(pages: mmap.mmap) -> int:
    return sys.getrefcount(pages)


_UNUSED = _references(mmap.mmap(-1, 1))
"""References to pages that no tensor has, but for a variable's."""


def empty_like(tensor: Tensor) -> Tensor:
    """An uninitialised, contiguous tensor on the CPU.

    A large one reuses the pages of the previous large one, if that is gone and was of this size;
    the last pages are kept until the process ends. They are huge pages where the system has them.
    """
    size = tensor.numel() * tensor.element_size()
    if size < LARGE:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    pages = _last.pop() if _last else None
    if pages is None or len(pages) != size or _references(pages) > _UNUSED + 1:  # a tensor has it
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a system without huge pages
                pages.madvise(mmap.MADV_HUGEPAGE)
    _last.append(pages)
    return torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
