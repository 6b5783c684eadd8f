"""Lines of fields: TSV, whose fields are taken verbatim, and CSV, whose fields may be quoted.

A byte order mark, CRLF line endings, and blank lines at the end of a file are skipped.
"""

import csv
from collections.abc import Iterator
from typing import IO

import numpy as np

from hale.errors import DatasetError
from hale.graphs.columns import Columns, Layout
from hale.graphs.named_triples import NamedTriples

BLOCK_BYTES = 1 << 20
"""Bytes read at once."""
MAX_LINE_BYTES = 1 << 16
"""Longer lines are refused, so that a file of another kind cannot fill the memory."""
BLOCK_ROWS = 1 << 16
"""Rows of CSV in a block."""

_NO_SEPARATORS = bytes(set(range(256)) - set(b"\t\n"))


def tsv_blocks(file: IO[bytes], where: str, columns: Columns) -> Iterator[NamedTriples]:
    """Triples of tab-separated lines.

    Raises:
        DatasetError: a malformed line, with its number.
    """
    layout: Layout | None = None
    number = 1
    for block in _whole_lines(file, where):
        if layout is None:
            first = block[: block.index(b"\n")]
            fields = first.decode(errors="replace").split("\t")
            layout = columns.of_first_row(fields, f"{where}:1", headed=False)
            if layout.header:
                block = block[len(first) + 1 :]
                number += 1
        if block:
            yield _split(block, number, where, columns, layout)
        number += block.count(b"\n")


def _split(block: bytes, number: int, where: str, columns: Columns, layout: Layout) -> NamedTriples:
    """The triples of whole lines, the first of which has the number given."""
    width = layout.width
    pattern = (b"\t" * (width - 1) + b"\n") * block.count(b"\n")
    if block.translate(None, _NO_SEPARATORS) != pattern:
        for at, line in enumerate(block.split(b"\n"), number):
            if line.count(b"\t") != width - 1:
                raise DatasetError(f"{where}:{at}: {_wrong_fields(line, width, columns)}")
    field_X = _decoded(block, number, where).replace("\n", "\t").split("\t")
    field_X.pop()
    head, relation, tail = (field_X[at::width] for at in layout.triple)
    weight = None if layout.weight is None else field_X[layout.weight :: width]
    return NamedTriples(head, relation, tail, weight, lambda at: f"{where}:{number + at}")


def _wrong_fields(line: bytes, width: int, columns: Columns) -> str:
    """What is wrong with a line that has another number of fields than ``width``."""
    count = line.count(b"\t") + 1
    if not line.strip():
        return "empty line: remove it"
    if b"\r" in line:
        return "lines end in CR alone: convert them to LF"
    if line.startswith(b"#"):
        return "a comment is not read: remove the line"
    found = f"got {count} tab-separated field{'s' * (count != 1)} instead of {width}"
    if columns.triple is not None:
        return found
    found += ": head, relation and tail must be separated by tabs"
    for separator, name in ((b",", "commas"), (b";", "semicolons"), (b" ", "spaces")):
        if count == 1 and separator in line.strip():
            csv_advice = ", or read as CSV by dataset.format=csv" if separator == b"," else ""
            return f"{found}, not by {name}{csv_advice}"
    if count > width:
        found += "; of more columns choose three by dataset.columns=[0,1,2]"
        found += "" if columns.weight is not None else " and a weight by dataset.weight=3"
    return found


def csv_blocks(file: IO[bytes], where: str, columns: Columns) -> Iterator[NamedTriples]:
    """Triples of comma-separated rows, with or without a header.

    Raises:
        DatasetError: a malformed row, with the number of its last line.
    """
    reader = csv.reader(_text_lines(file, where), strict=True)
    layout: Layout | None = None
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for row in reader:
            if layout is None:
                layout = _csv_layout(row, where, columns)
                if layout.header:
                    continue
            if len(row) != layout.width:
                raise DatasetError(f"{where}:{reader.line_num}: {_ragged(row, layout.width)}")
            rows.append(row)
            numbers.append(reader.line_num)
            if len(rows) == BLOCK_ROWS:
                yield _transposed(rows, numbers, where, layout)
                rows, numbers = [], []
    except csv.Error as error:
        raise DatasetError(
            f"{where}:{reader.line_num}: not CSV ({error}): is a quote not closed?"
        ) from None
    if rows and layout:
        yield _transposed(rows, numbers, where, layout)


def _csv_layout(row: list[str], where: str, columns: Columns) -> Layout:
    for separator, name, advice in ((";", "semicolons", "separate them by commas"),
                                    ("\t", "tabs", "set dataset.format=tsv")):  # fmt: skip
        if len(row) == 1 and separator in row[0]:
            raise DatasetError(f"{where}:1: fields are separated by {name}: {advice}")
    return columns.of_first_row(row, f"{where}:1", headed=True)


def _ragged(row: list[str], width: int) -> str:
    if not row:
        return "empty line: remove it"
    return f"got {len(row)} comma-separated field{'s' * (len(row) != 1)} instead of {width}"


def _transposed(
    rows: list[list[str]], numbers: list[int], where: str, layout: Layout
) -> NamedTriples:
    head, relation, tail = ([row[at] for row in rows] for at in layout.triple)
    weight = None if layout.weight is None else [row[layout.weight] for row in rows]
    return NamedTriples(head, relation, tail, weight, lambda at: f"{where}:{numbers[at]}")


def _text_lines(file: IO[bytes], where: str) -> Iterator[str]:
    number = 1
    for block in _whole_lines(file, where, fields=True):
        lines = _decoded(block, number, where).split("\n")[:-1]
        number += len(lines)
        yield from (line + "\n" for line in lines)


def _decoded(block: bytes, number: int, where: str) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        at = number + block.count(b"\n", 0, error.start)
        raise DatasetError(f"{where}:{at}: not UTF-8: convert the file") from None


def _whole_lines(file: IO[bytes], where: str, fields: bool = False) -> Iterator[bytes]:
    """Blocks of whole lines, each ended by LF, without what the module's docstring names.

    A CR before LF is kept if ``fields`` may have line ends of their own, as in CSV.

    Raises:
        DatasetError: a NUL byte or a line beyond the bound.
    """
    number, rest = 1, b""
    while True:
        read = file.read(BLOCK_BYTES)
        block = rest + read
        if number == 1:
            block = block.removeprefix(b"\xef\xbb\xbf")
        if not read and block.strip():
            block = block.removesuffix(b"\n").removesuffix(b"\r") + b"\n"
        if not fields and b"\r\n" in block:
            block = block.replace(b"\r\n", b"\n")
        end = _end_of_text(block)
        block, rest = block[:end], block[end:]
        _require_text(block, rest, number, where)
        if block:
            yield block
            number += block.count(b"\n")
        if not read:
            return


def _end_of_text(block: bytes) -> int:
    """Where the last whole line ends that is not blank."""
    end = block.rfind(b"\n") + 1
    return block.find(b"\n", len(block[:end].rstrip())) + 1 if block[:end].strip() else 0


def _require_text(block: bytes, rest: bytes, number: int, where: str) -> None:
    byte_X = np.frombuffer(block, np.uint8)
    end_X = np.concatenate(([-1], np.flatnonzero(byte_X == 10), [len(block) + len(rest)]))
    long_X = np.diff(end_X) > MAX_LINE_BYTES + 1
    if (nul := (block + rest).find(b"\0")) >= 0:
        at = number + block.count(b"\n", 0, nul)
        raise DatasetError(f"{where}:{at}: NUL byte: not UTF-8 text, convert the file (it may be "
                           "UTF-16)")  # fmt: skip
    if long_X.any():
        at = number + int(long_X.argmax())
        raise DatasetError(f"{where}:{at}: line is longer than {MAX_LINE_BYTES} bytes")
