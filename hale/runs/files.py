"""Files and folders that are written completely or not at all; damaged ones are named."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from hale.errors import HaleError

T = TypeVar("T")


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
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise HaleError(f"{path} is damaged ({error}): {advice}") from error


@contextmanager
def _replacing(path: Path, mode: str, **options: str) -> Iterator[Any]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # the options differ with the mode, so mypy cannot choose an overload
        with os.fdopen(handle, mode, **options) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``path`` when the block ends without an error.

    It may hold files only. An existing folder is removed first, so a kill between the two steps
    leaves neither.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
