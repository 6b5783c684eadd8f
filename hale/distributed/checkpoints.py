"""Checkpoints in folders to which each process writes its rows, and the rows of all in turn."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hale.distributed.processes import is_first, process_count, rank
from hale.distributed.tensors import is_distributed, own_rows
from hale.errors import HaleError

DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
"""Names of the types in a safetensors file."""
BLOCK_BYTES = 16 << 20
"""Bytes of a table that are sent to the first process at a time."""


def require_complete(folder: Path) -> None:
    """Raise HaleError if a file of a checkpoint folder is missing or shorter than it was."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    try:
        found = FileSystemReader(folder).read_metadata().storage_data.values()
        parts = {(part.relative_path, part.offset + part.length) for part in found}
    except Exception as error:  # a damaged file fails in many ways
        raise HaleError(
            f"{folder} is not a whole checkpoint ({type(error).__name__} in .metadata): start in a "
            "new folder"
        ) from error
    for name, end in sorted(parts):
        path = folder / name
        if not path.is_file() or path.stat().st_size < end:
            raise HaleError(
                f"{path}, a part of the run's checkpoint, is missing or cut short: copy it again, "
                "or start in a new folder"
            )


def load_weights(module: nn.Module, folder: Path) -> None:
    """Read a module's tensors, of a distributed one the rows of this process; a collective."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    state = {"state_dict": get_model_state_dict(module)}
    load(state, checkpoint_id=folder)
    module.load_state_dict(state["state_dict"])


@torch.no_grad()
def rows_of_all(tensor: Tensor) -> Iterator[Tensor]:
    """Blocks of rows of a tensor, in order, on the CPU of the first process; a collective.

    Of a distributed tensor each process sends its own, so that none has more than a block of
    another's. All processes must exhaust the iterator; the others get empty blocks.
    """
    if not is_distributed(tensor):
        yield tensor.detach().cpu().contiguous()
        return
    row_SX = own_rows(tensor).detach()
    part = -(-len(tensor) // process_count())
    block = max(1, BLOCK_BYTES // (row_SX.element_size() * max(1, row_SX[:1].numel())))
    for owner in range(process_count()):
        stop = min(part, len(tensor) - owner * part)
        for start in range(0, stop, block):
            rows = min(block, stop - start)
            block_RX = row_SX[start : start + rows] if owner == rank() else None
            yield _sent(block_RX, owner, row_SX, rows).cpu().contiguous()


def _sent(block_RX: Tensor | None, owner: int, like: Tensor, rows: int) -> Tensor:
    """A block of the process that owns it, received by the first; empty in the others."""
    if owner == 0:
        return like[:0] if block_RX is None else block_RX
    if block_RX is not None:
        dist.send(block_RX.contiguous(), 0)
    if not is_first():
        return like[:0]
    received = like.new_empty(rows, *like.shape[1:])
    dist.recv(received, owner)
    return received


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file in the first process, from blocks of rows: no tensor is whole there.

    A collective if tensors are distributed; the other processes exhaust :func:`rows_of_all`.
    """
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        where = {"shape": list(tensor.shape), "data_offsets": [start, end]}
        header[name] = {"dtype": DTYPES[tensor.dtype], **where}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for block in rows_of_all(tensor):
                file.write(block.numpy().data)
