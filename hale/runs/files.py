"""Files and folders that are written completely or not at all; damaged ones are named."""

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from hale.errors import HaleError

T = TypeVar("T")

UNFINISHED = ".unfinished"
"""How the name of a file or folder ends that is still being written."""
MOST_LINKS = 40
"""That are followed one after another, as the kernel does."""


def write_atomically(path: Path) -> AbstractContextManager[TextIO]:
    """Open a text file that replaces ``path`` when the block ends without an error.

    A reader sees the old content or the new, never a part of it, even if the writer is killed.
    """
    return _replacing(path, "w", encoding="utf-8", newline="")


def write_bytes_atomically(path: Path) -> AbstractContextManager[BinaryIO]:
    """:func:`write_atomically` for a binary file."""
    return _replacing(path, "wb")


def read_json(path: Path, make: Callable[[Any], T], advice: str) -> T | None:
    """What ``make`` makes of the content of a JSON file; None if there is no file.

    Raises:
        HaleError: a file that cannot be read, is not JSON, or of which nothing can be made; with
            the advice.
    """
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise HaleError(f"{path} is damaged ({error}): {advice}") from error


def write_output(path: Path) -> AbstractContextManager[TextIO]:
    """Open the text file that a user names as output.

    A symbolic link is followed. A regular file is replaced as :func:`write_atomically` does, and
    keeps its permissions; anything else (a pipe, a device, an open file of the process such as
    ``/dev/stdout``) is written as it stands.
    """
    return _writing(path, "", encoding="utf-8", newline="")


def write_output_bytes(path: Path) -> AbstractContextManager[BinaryIO]:
    """:func:`write_output` for a binary file."""
    return _writing(path, "b")


def _writing(path: Path, kind: str, **options: str) -> AbstractContextManager[Any]:
    opened: AbstractContextManager[Any]
    for _ in range(MOST_LINKS):
        descriptor = _own_descriptor(path)
        if descriptor is not None:
            opened = os.fdopen(os.dup(descriptor), f"w{kind}", **options)  # type: ignore[call-overload]
            return opened
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    if path.exists() and not path.is_file():
        opened = path.open(f"w{kind}", **options)  # type: ignore[call-overload]
        return opened
    return _replacing(path, f"w{kind}", **options)


def _own_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that a path like ``/proc/self/fd/1`` is."""
    if path.name.isdecimal() and path.parent.resolve() == Path(f"/proc/{os.getpid()}/fd"):
        return int(path.name)
    return None


@contextmanager
def _replacing(path: Path, mode: str, **options: str) -> Iterator[Any]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=UNFINISHED)
    try:
        # the options differ with the mode, so mypy cannot choose an overload
        with os.fdopen(handle, mode, **options) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o644)
        Path(name).replace(path)
        _sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``path`` when the block ends without an error.

    It may hold files only. An existing folder is removed first, so a kill between the two steps
    leaves neither.

    Raises:
        OSError: it cannot be written; also where a library has an exception of its own for that.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=UNFINISHED))
    try:
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)
            _sync(file)
        temporary.chmod(0o755)
        _sync(temporary)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
        _sync(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors' own exception
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed writer left in a folder or in the folders in it, one level deep."""
    for pattern in (f".*{UNFINISHED}", f"*/.*{UNFINISHED}"):
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name[:20]}."


def _sync(path: Path) -> None:
    """Have what is written in a file, or the names in a folder, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # of a file system without it
            raise
    finally:
        os.close(descriptor)
