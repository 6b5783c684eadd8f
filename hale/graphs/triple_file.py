r"""Files of triples, line by line: TSV and N-Triples, plain or compressed.

``.txt`` and ``.tsv``
    UTF-8, head, relation and tail separated by tabs, no header. Names are taken as they stand,
    numbers included.
``.nt``
    N-Triples. An IRI is named without its angle brackets; blank nodes and literals are named as
    they stand, quotes and escapes included. Comments and empty lines are left out.

Any of them may be compressed: ``.gz``, or ``.zst`` where ``backports.zstd`` is there to read it. A
byte order mark and CRLF line ends are stripped.
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
MAX_LINE_BYTES = 1 << 16
"""A longer line is no triple; the bound keeps a wrong file from filling the memory."""

Names = tuple[bytes, bytes, bytes]

_IRI, _BLANK = rb"<[^<>\x00-\x20]*>", rb"_:[^\s<>\"]+"
_LITERAL = rb'"(?:[^"\\]|\\.)*"(?:@[A-Za-z0-9-]+|\^\^' + _IRI + rb")?"
_SUBJECT, _OBJECT = rb"|".join((_IRI, _BLANK)), rb"|".join((_IRI, _BLANK, _LITERAL))
_STATEMENT = re.compile(rb"\s*(%b)\s*(%b)\s*(%b)\s*\.\s*(?:#.*)?" % (_SUBJECT, _IRI, _OBJECT))
_NOTHING = re.compile(rb"\s*(?:#.*)?")


def numbered_triples(path: Path) -> Iterator[tuple[int, Names]]:
    """Line number, and head, relation and tail, of each triple of a file; names may be any bytes.

    Raises:
        DatasetError: a line that is no triple, a damaged file, or one that cannot be read.
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
        raise DatasetError(f"{path} is damaged or cut off ({error}): copy it again") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse_tsv(line: bytes) -> Names:
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(f"got {len(fields)} tab-separated fields, want 3 (head, relation, tail)")
    return fields[0], fields[1], fields[2]


def _parse_nt(line: bytes) -> Names | None:
    if _NOTHING.fullmatch(line):
        return None
    match = _STATEMENT.fullmatch(line)
    if match is None:
        raise ValueError("no N-Triples statement: <subject> <predicate> <object> .")
    head, relation, tail = (
        term[1:-1] if term.startswith(b"<") else term for term in match.groups()
    )
    return head, relation, tail


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines without byte order mark and line end; none is read far beyond the bound."""
    mark = b"\xef\xbb\xbf"
    while line := file.readline(MAX_LINE_BYTES + 8):
        yield line.removeprefix(mark).rstrip(b"\r\n")
        mark = b""


def _open(path: Path) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    """The decompressed file, and the errors by which reading it tells of damage."""
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
