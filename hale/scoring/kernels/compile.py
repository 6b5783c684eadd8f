"""Compiles the package's C sources for this machine, once, into the user's cache."""

import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
LINK = ("-shared", "-fPIC", "-lm", "-pthread")
TARGETS = (
    ("-march=native", "-mprefer-vector-width=512"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
"""Flags that target this processor, best first; the first that the compiler accepts are used."""


DIGITS = 32
"""Of the hashes in a library's name, each."""


class CompileError(RuntimeError):
    """There is no compiler, or it failed; the message is one line that says how to fix it."""


def shared_library(folder: Path, defines: tuple[str, ...]) -> Path:
    """The C files of ``folder`` as one library, compiled with ``-D`` for each of ``defines``.

    Libraries are cached by a hash of sources, compiler, options and processor; processes may build
    the same one concurrently. The name of a library also has the hash of its content: a damaged one
    is built anew. The cache is ``HALE_CACHE_DIR``, else ``$XDG_CACHE_HOME/hale``, else
    ``~/.cache/hale``, or a temporary folder if that is not writable or there is no home.

    Raises:
        CompileError: there is no compiler, or it failed.
    """
    compiler = find_compiler()
    options = (*FLAGS, *(f"-D{define}" for define in defines))
    text = [file.read_text() for file in sorted(folder.glob("*.[ch]"))]
    key = hashlib.sha256(repr((text, compiler, options, TARGETS, _processor())).encode())
    for cache_folder in (_cache_folder, _temporary_folder):
        try:
            kernels = cache_folder()
            kernels.mkdir(parents=True, exist_ok=True)
            name = key.hexdigest()[:DIGITS]
            return _whole(kernels, name) or _build(
                compiler, sorted(folder.glob("*.c")), options, kernels, name
            )
        except OSError as error:
            log.info("cannot cache a compiled kernel: %s", error)
    raise CompileError("no writable folder to compile into; set HALE_CACHE_DIR to one")


def _whole(kernels: Path, name: str) -> Path | None:
    """The library of this name in the cache, if its content is what it was when it was built."""
    found = kernels.glob(f"{name}-*.so")
    return next((path for path in found if path.stem == f"{name}-{_digest(path)}"), None)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


@cache
def find_compiler() -> tuple[str, ...]:
    """The command of the first C compiler found: cc, gcc, clang or the package ziglang.

    Raises:
        CompileError: none was found.
    """
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return (path,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise CompileError(
        "no C compiler found; install gcc or clang, or run: pip install -e '.[native]'"
    )


def _build(
    compiler: tuple[str, ...], sources: list[Path], options: tuple[str, ...], kernels: Path,
    name: str,
) -> Path:  # fmt: skip
    with tempfile.TemporaryDirectory(dir=kernels) as folder:
        built = Path(folder) / f"{name}.so"
        for target in TARGETS:
            command = (*compiler, *options, *target, *map(str, sources), "-o", str(built), *LINK)
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                path = kernels / f"{name}-{_digest(built)}.so"
                built.replace(path)
                return path
    lines = result.stderr.strip().splitlines() or ["no message"]
    reason = next((line for line in lines if "error" in line), lines[-1])
    raise CompileError(f"{' '.join(compiler)} failed: {reason}")


def _cache_folder() -> Path:
    if own := os.environ.get("HALE_CACHE_DIR"):
        return Path(own) / "kernels"
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "hale" / "kernels"
    try:
        return Path.home() / ".cache" / "hale" / "kernels"
    except RuntimeError as error:  # a user without an entry in passwd, and no HOME
        raise FileNotFoundError(str(error)) from error


@cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="hale-kernels-"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({x for x in lines if x.startswith(wanted)}))
