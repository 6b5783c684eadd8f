"""Standard output that can write any text, whatever its encoding, and that a run outlives."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


def escape_unencodable() -> None:
    r"""Have stdout and stderr escape what their encoding lacks, as ``\u05d3``.

    A terminal whose locale is C or a code page would end a command with an error otherwise. A
    stdout that the shell has closed becomes one that cannot be written.
    """
    if sys.stdout is None:
        sys.stdout = _Closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def as_utf8(argument: str) -> str:
    """An argument of the command line as UTF-8, whatever the locale says of its bytes."""
    with suppress(UnicodeError):
        return os.fsencode(argument).decode("utf-8")
    return argument


def outlive_stdout() -> None:
    """Have the process go on in silence once nobody reads stdout, or its disk is full."""
    sys.stdout = Unfailing(sys.stdout, owned=True)


class Unfailing:
    """A stream that is silent once it could not be written: a run is worth more than its lines.

    Args:
        stream: to write to; None is stdout, whatever that is at the time.
        owned: whether the process ends with the stream, so that what is still in its buffer goes
            nowhere, too.
    """

    def __init__(self, stream: Any = None, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned
        self._silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    @property
    def _target(self) -> Any:
        return self._stream or sys.stdout

    def write(self, text: str) -> int:
        """Write what the encoding can, the rest as escapes."""
        encoding = getattr(self._target, "encoding", None) or "utf-8"
        self._attempt("write", text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush what can be."""
        self._attempt("flush")

    def _attempt(self, method: str, *arguments: str) -> None:
        if self._silent:
            return
        try:
            getattr(self._target, method)(*arguments)
        except (OSError, ValueError, AttributeError):  # no reader, a full disk, closed, or None
            self._silent = True
            if self._owned:
                _discard(self._target)


def _discard(stream: Any) -> None:
    """Send what is left in a stream's buffer nowhere, or Python fails to write it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Closed(io.TextIOBase):
    def write(self, text: str) -> int:
        raise OSError("stdout is closed: write to a file, as with --out")
