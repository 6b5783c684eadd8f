"""The C kernels for processors that this machine is not, cross-compiled by zig: under qemu's
emulation of a process, or as they are for the oldest processor of this machine's kind."""

import importlib.util
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_candidates import some
from test_entity_logsumexp import differentiate, draw, mask, relative

from hale.scoring.activations import Hanon, Identity, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels.binding import ACTIVATIONS, COMPARATORS, SOURCES
from hale.scoring.kernels.compile import FLAGS
from hale.scoring.kernels.parameters import NONE, parameters
from hale.scoring.kernels.reference import reference_logsumexp, reference_scores
from hale.scoring.table import Table

if importlib.util.find_spec("ziglang") is None:
    pytest.skip("ziglang is not installed", allow_module_level=True)

ROWS, ENTITIES, DIM, COLUMNS = 37, 301, 20, 3
PROCESSORS = {"neon": ("aarch64", "qemu-aarch64"), "sse2": ("x86_64", "")}
"""By the kernels' name of the instructions: the architecture and its emulator, if it needs one."""
PAIRS = [(SquaredEuclidean(), Hanon()), (NegativeDot(), Identity()), (Poincare(), XExp(limit=2.0))]


def program(processor: str, comparator, activation, folder: Path) -> list[str]:
    """The command of a program that runs a pair's kernels."""
    architecture, emulator = PROCESSORS[processor]
    if emulator and not shutil.which(emulator):
        pytest.skip(f"{emulator} is not installed")
    if not emulator and platform.machine() != architecture:
        pytest.skip(f"this machine is not {architecture}")
    defines = (*COMPARATORS[type(comparator)][0], f"ACTIVATION={ACTIVATIONS[type(activation)]}")
    target = folder / "program"
    command = [
        sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-musl", *FLAGS,
        *(f"-D{define}" for define in defines), str(Path(__file__).with_name("emulated.c")),
        *map(str, sorted(SOURCES.glob("*.c"))), "-lm", "-pthread", "-o", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return [*filter(None, [emulator]), str(target)]


def packed(*arrays: torch.Tensor | None) -> bytes:
    """Each array after the number of its items, 0 for none."""
    parts = []
    for array in arrays:
        parts.append(struct.pack("q", 0 if array is None else array.numel()))
        if array is not None:
            parts.append(array.contiguous().numpy().tobytes())
    return b"".join(parts)


@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_kernels_agree_with_the_reference(processor, comparator, activation, tmp_path):
    command = program(processor, comparator, activation, tmp_path)
    inputs, weight_N = draw(ROWS, ENTITIES, DIM)
    generator = torch.Generator().manual_seed(2)
    chosen_BK = torch.randint(ENTITIES, (ROWS, COLUMNS), generator=generator)
    upstream_BK = torch.rand(ROWS, COLUMNS, generator=generator)
    every = (None, None)
    for known, candidates in (every, (mask(ROWS, ENTITIES), some(ROWS, ENTITIES, seed=1))):
        arguments = (weight_N, known, candidates, chosen_BK, upstream_BK)
        (tmp_path / "in").write_bytes(written(inputs, *arguments, comparator, activation))
        files = [str(tmp_path / "in"), str(tmp_path / "out")]
        ran = subprocess.run([*command, *files], check=True, capture_output=True, text=True)
        assert ran.stdout.strip() == processor
        found = torch.frombuffer(bytearray((tmp_path / "out").read_bytes()), dtype=torch.float32)
        results = expected(inputs, *arguments, comparator, activation)
        parts = found.split([tensor.numel() for tensor, _ in results])
        for part, (tensor, bound) in zip(parts, results, strict=True):
            assert relative(part.view(tensor.shape), tensor) < bound


def written(
    inputs, weight_N, known, candidates, chosen_BK, upstream_BK, comparator, activation
) -> bytes:
    """What the program reads."""
    constants = COMPARATORS[type(comparator)][1] | NONE | parameters(activation)
    log2 = candidates and candidates.log_weight_GC / torch.tensor(2.0).log()
    none = (None, None, None)
    return (
        struct.pack("5q", ROWS, ENTITIES, DIM, COLUMNS, len(known.answer_A) if known else 0)
        + packed(torch.tensor(list(constants.values())), *inputs)
        + packed(*((known.start_N, known.stop_N, known.answer_A) if known else none))
        + packed(*((candidates.order_E, candidates.place_E, log2) if candidates else none))
        + packed(weight_N, chosen_BK, upstream_BK)
    )


def expected(inputs, weight_N, known, candidates, chosen_BK, upstream_BK, comparator, activation):
    """What the program writes, by the reference in float64, and how far it may be off."""
    doubles = [tensor.double() for tensor in inputs]
    rest = (comparator, activation)
    lse_N, *gradients = differentiate(
        reference_logsumexp, doubles, weight_N.double(), *rest, known, candidates
    )
    query_BD, scale_B, entity_ED = leaves = [tensor.requires_grad_() for tensor in doubles]
    score_BK = reference_scores(query_BD, scale_B, Table(entity_ED), chosen_BK, *rest)
    (score_BK * upstream_BK).sum().backward()
    return [
        (lse_N, 2e-5), (score_BK.detach(), 2e-5), *((gradient, 1e-2) for gradient in gradients),
        *((leaf.grad, 1e-4) for leaf in leaves),
    ]  # fmt: skip
