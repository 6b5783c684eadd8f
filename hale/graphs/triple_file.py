r"""Files of triples by their format, plain or compressed.

===================  ==========================================================================
``.txt`` ``.tsv``    head, relation and tail separated by tabs; fields are taken verbatim
``.csv``             comma-separated fields under a header
``.parquet``         a table, by pyarrow; also ``.arrow`` and ``.feather``
``.ttl`` ``.nt``     RDF, by pyoxigraph; also ``.nq``, ``.trig``, ``.rdf``, ``.xml`` and ``.jsonld``
===================  ==========================================================================

The last suffix decides. All may be compressed: ``.gz``, or ``.zst`` if ``backports.zstd`` is
installed.
"""

import gzip
import importlib
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from hale.errors import ArgumentError, DatasetError
from hale.graphs import delimited, frames, rdf
from hale.graphs.columns import Columns
from hale.graphs.named_triples import NamedTriples

TABLES = {
    "txt": delimited.tsv_blocks, "tsv": delimited.tsv_blocks, "csv": delimited.csv_blocks,
    "parquet": frames.parquet_blocks, "arrow": frames.arrow_blocks, "feather": frames.arrow_blocks,
}  # fmt: skip
FORMATS = (*TABLES, *rdf.SYNTAXES)
FORMATS_READ = (
    ".tsv and .txt (tab-separated), .csv, .parquet, .arrow, .feather and RDF (.ttl, .nt, .nq, "
    ".trig, .rdf, .xml, .jsonld) are read, also as .gz or .zst"
)
STDIN = "-"
"""The path that stands for standard input."""


@dataclass(frozen=True)
class Form:
    """How triples are written.

    Args:
        columns: of a table.
        format: one of :data:`FORMATS`; the file's suffix if not given.
        literals: what to do with an RDF triple whose object is a literal, ``drop`` or ``keep``.

    Raises:
        ArgumentError: an unknown value.
    """

    columns: Columns = field(default_factory=Columns)
    format: str | None = None
    literals: rdf.Literals = "drop"

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise ArgumentError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.literals not in ("drop", "keep"):
            raise ArgumentError(f"literals must be drop or keep, got {self.literals!r}")


def format_of(path: Path) -> str | None:
    """The format that the last suffix but that of compression names, if it is one."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in ([".gz"], [".zst"]):
        suffixes.pop()
    last = suffixes[-1][1:] if suffixes else ""
    return last if last in FORMATS else None


def require_columns(files: Mapping[str, Path] | Sequence[Path], form: Form) -> None:
    """Refuse a choice of columns where all files are RDF, which has none.

    Raises:
        DatasetError: columns or a weight are chosen, and no file is a table.
    """
    paths = list(files.values()) if isinstance(files, Mapping) else files
    formats = [_format(path, form) for path in paths]
    if form.columns != Columns() and not any(name not in rdf.SYNTAXES for name in formats):
        raise DatasetError(
            f"{paths[0]} is RDF, which has no columns: leave out dataset.columns and dataset.weight"
        )


def _format(path: Path, form: Form) -> str | None:
    return form.format or ("tsv" if str(path) == STDIN else format_of(path))


def table_form(path: Path) -> Form:
    """The form of a file of triples or queries on a command line: TSV unless its suffix tells."""
    return Form(format=format_of(path) or "tsv")


def read_blocks(path: Path, form: Form) -> Iterator[NamedTriples]:
    """The triples of a file, or of standard input, whose format is TSV unless given.

    Raises:
        DatasetError: an unknown format, malformed content, a damaged file, or one that cannot be
            read.
    """
    chosen = _format(path, form)
    if chosen is None:
        raise DatasetError(
            f"{path} has an unknown format: {FORMATS_READ}; dataset.format=tsv names that of a "
            "file without such a suffix"
        )
    where = "standard input" if str(path) == STDIN else str(path)
    damage: tuple[type[Exception], ...] = ()
    try:
        opened, damage = _open(path)
        with opened as file:
            if chosen in TABLES:
                yield from TABLES[chosen](file, where, form.columns)
            else:
                yield from rdf.rdf_blocks(file, where, chosen, form.literals)
    except damage as error:
        raise DatasetError(f"{where} is damaged or truncated ({error}): copy it again") from error
    except OSError as error:
        raise DatasetError(f"{where} cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> tuple[AbstractContextManager[IO[bytes]], tuple[type[Exception], ...]]:
    """The decompressed file, and the errors that reading it raises if it is damaged."""
    if str(path) == STDIN:
        return nullcontext(sys.stdin.buffer), ()
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path)), (EOFError, zlib.error, gzip.BadGzipFile)
    if path.suffix.lower() == ".zst":
        try:
            zstd = importlib.import_module("backports.zstd")
        except ImportError:
            raise DatasetError(
                f"{path} needs zstd: pip install backports.zstd, or decompress the file"
            ) from None
        return cast(IO[bytes], zstd.open(path)), (EOFError, zstd.ZstdError)
    return path.open("rb"), ()
