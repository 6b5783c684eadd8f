"""One writer per folder: a run's folder is locked while something writes it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hale.errors import HaleError

LOCK_FILE = ".lock"
"""An empty file in the folder. The lock is on the open file, so it ends with the process that holds
it, however that ends; the file stays."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that has no locks."""


class LockedError(HaleError):
    """Another process, or another part of this one, writes the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist.

    Where the file system has no locks, a line on stderr says so and the block runs all the same.

    Raises:
        LockedError: the folder is locked.
        HaleError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(blocking=False)
    except Timeout:
        raise LockedError(
            f"{folder} is being written by another run: wait until that has ended, or choose "
            "another folder"
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise HaleError(
                f"cannot write to the folder {folder} ({error.strerror}): choose another"
            ) from error
        print(
            f"warning: {folder} is on a file system without locks ({error.strerror}): start no "
            "second run in it",
            file=sys.stderr,
        )
        yield
        return
    try:
        yield
    finally:
        lock.release()
