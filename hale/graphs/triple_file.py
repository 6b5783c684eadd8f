r"""Files of triples, line by line: TSV and N-Triples, plain or compressed.

``.txt`` and ``.tsv``
    UTF-8; head, relation and tail separated by tabs; no header. Fields are names, taken verbatim,
    including numbers.
``.nt``
    N-Triples. IRIs are named without their angle brackets; blank nodes and literals are named
    verbatim, with quotes and escapes. Comments and empty lines are skipped.

All may be compressed: ``.gz``, or ``.zst`` if ``backports.zstd`` is installed. A byte order mark
and CRLF line endings are stripped.
"""

import gzip
import importlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from hale.errors import DatasetError

FORMATS = (".txt", ".tsv", ".nt")
COMPRESSED = ("", ".gz", ".zst")
SUFFIXES = tuple(form + compression for form in FORMATS for compression in COMPRESSED)
FORMATS_READ = (
    ".tsv and .txt (head, relation and tail separated by tabs, without a header) and .nt "
    "(N-Triples) are read, also as .gz or .zst; convert it to one of them, for example CSV with "
    'pandas.read_csv(...).to_csv("graph.tsv", sep="\\t", header=False, index=False)'
)
"""What to do with a file of another format."""
MAX_LINE_BYTES = 1 << 16
"""Longer lines are refused, so that a file of another kind cannot fill the memory."""

Names = tuple[bytes, bytes, bytes]

_IRI, _BLANK = rb"<[^<>\x00-\x20]*>", rb"_:[^\s<>\"]+"
_LITERAL = rb'"(?:[^"\\]|\\.)*"(?:@[A-Za-z0-9-]+|\^\^' + _IRI + rb")?"
_SUBJECT, _OBJECT = rb"|".join((_IRI, _BLANK)), rb"|".join((_IRI, _BLANK, _LITERAL))
_STATEMENT = re.compile(rb"\s*(%b)\s*(%b)\s*(%b)\s*\.\s*(?:#.*)?" % (_SUBJECT, _IRI, _OBJECT))
_NOTHING = re.compile(rb"\s*(?:#.*)?")


def numbered_triples(path: Path) -> Iterator[tuple[int, Names]]:
    """Line number, and head, relation and tail, of each triple of a file; names are raw bytes.

    Raises:
        DatasetError: a malformed line, a damaged file, or one that cannot be read.
    """
    parse = _parse_nt if ".nt" in path.suffixes[-2:] else _parse_tsv
    damage: tuple[type[Exception], ...] = ()
    try:
        opened, damage = _open(path)
        with opened as file:
            for number, line in enumerate(_lines(file), 1):
                if len(line) > MAX_LINE_BYTES:
                    raise DatasetError(
                        f"{path}:{number}: line is longer than {MAX_LINE_BYTES} bytes"
                    )
                try:
                    triple = parse(line)
                except ValueError as error:
                    raise DatasetError(f"{path}:{number}: {error}") from None
                if triple is not None:
                    yield number, triple
    except damage as error:
        raise DatasetError(f"{path} is damaged or truncated ({error}): copy it again") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse_tsv(line: bytes) -> Names:
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(_wrong_fields(line, len(fields)))
    return fields[0], fields[1], fields[2]


def _wrong_fields(line: bytes, count: int) -> str:
    """What is wrong with a line that has another number of fields than three."""
    if not line.strip():
        return "empty line: remove it"
    found = f"got {count} tab-separated field{'s' * (count != 1)} instead of 3"
    for separator, name in ((b",", "commas"), (b";", "semicolons"), (b" ", "spaces")):
        if count == 1 and separator in line.strip():
            return f"{found}: head, relation and tail must be separated by tabs, not by {name}"
    return f"{found}: head, relation and tail must be separated by tabs"


def _parse_nt(line: bytes) -> Names | None:
    if _NOTHING.fullmatch(line):
        return None
    match = _STATEMENT.fullmatch(line)
    if match is None:
        raise ValueError("not an N-Triples statement, <subject> <predicate> <object> .")
    head, relation, tail = (
        term[1:-1] if term.startswith(b"<") else term for term in match.groups()
    )
    return head, relation, tail


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines without byte order mark and line ending; none is read far beyond the bound."""
    mark = b"\xef\xbb\xbf"
    while line := file.readline(MAX_LINE_BYTES + 8):
        yield line.removeprefix(mark).rstrip(b"\r\n")
        mark = b""


def _open(path: Path) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    """The decompressed file, and the errors that reading it raises if it is damaged."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path)), (EOFError, zlib.error, gzip.BadGzipFile)
    if path.suffix == ".zst":
        try:
            zstd = importlib.import_module("backports.zstd")
        except ImportError:
            raise DatasetError(
                f"{path} needs zstd: pip install backports.zstd, or decompress the file"
            ) from None
        return cast(BinaryIO, zstd.open(path)), (EOFError, zstd.ZstdError)
    return path.open("rb"), ()
