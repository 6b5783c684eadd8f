"""Triples of tables in memory and of Parquet and Arrow files, and of rows of Python objects.

Names are text. Whole numbers are taken as their decimal text, so that a column of ids gives the
same graph as the TSV of it; everything else is refused.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import IO, Any

from hale.errors import DatasetError, first_line
from hale.graphs.columns import Columns, Layout
from hale.graphs.named_triples import NamedTriples

BLOCK_ROWS = 1 << 16
"""Rows in a block."""
ARROW_FILE = b"ARROW1"
"""With which an Arrow file begins; a stream does not."""


def rows_or_frame(rows: object, what: str, columns: Columns) -> Iterator[NamedTriples]:
    """Triples of a pandas, polars or Arrow frame, or of an iterable of rows.

    Args:
        rows: what was given.
        what: the name of the argument, for messages; places are ``what[7]``, counted from 0.
        columns: which of a frame are taken; of rows, by position.

    Raises:
        DatasetError: a name that is neither text nor a whole number, or not a row of three.
    """
    import narwhals as nw

    try:
        frame = nw.from_native(rows, pass_through=True)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
    except nw.exceptions.DuplicateError as error:
        raise DatasetError(f"{what}: {' '.join(str(error).split())}") from None
    if isinstance(frame, nw.DataFrame):
        return _frame_blocks([frame], what, columns, lambda at: f"{what}[{at}]")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise DatasetError(
            f"{what} must be rows (head, relation, tail) or a pandas, polars or Arrow frame, got "
            f"{type(rows).__name__}"
        )
    return _row_blocks(iter(rows), what, columns)


def parquet_blocks(file: IO[bytes], where: str, columns: Columns) -> Iterator[NamedTriples]:
    """Triples of a Parquet file.

    Raises:
        DatasetError: not such a file, or as :func:`rows_or_frame`.
    """
    return _batch_blocks(_parquet_batches, file, where, columns, "Parquet")


def arrow_blocks(file: IO[bytes], where: str, columns: Columns) -> Iterator[NamedTriples]:
    """Triples of an Arrow IPC file (Feather) or stream.

    Raises:
        DatasetError: not such a file, or as :func:`rows_or_frame`.
    """
    return _batch_blocks(_arrow_batches, file, where, columns, "Arrow")


def _parquet_batches(source: Any) -> Iterator[Any]:
    parquet = importlib.import_module("pyarrow.parquet")
    yield from parquet.ParquetFile(source).iter_batches(BLOCK_ROWS)


def _arrow_batches(source: Any) -> Iterator[Any]:
    ipc = importlib.import_module("pyarrow.ipc")
    magic = source.read(len(ARROW_FILE))
    source.seek(0)
    if magic == ARROW_FILE:
        opened = ipc.open_file(source)
        yield from map(opened.get_batch, range(opened.num_record_batches))
    else:
        yield from ipc.open_stream(source)


def _batch_blocks(
    batches: Callable[[Any], Iterator[Any]], file: IO[bytes], where: str, columns: Columns,
    name: str,
) -> Iterator[NamedTriples]:  # fmt: skip
    """Triples of record batches, read from a file's content by pyarrow."""
    import narwhals as nw

    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError:
        raise DatasetError(f"{where} needs pyarrow: pip install pyarrow") from None
    source = pyarrow.BufferReader(file.read())
    frames = (
        nw.from_native(pyarrow.Table.from_batches([batch]), eager_only=True)
        for batch in batches(source)
    )
    try:
        yield from _frame_blocks(frames, where, columns, lambda at: f"{where}: row {at} (from 0)")
    except nw.exceptions.DuplicateError as error:
        raise DatasetError(f"{where}: {' '.join(str(error).split())}") from None
    except (pyarrow.ArrowException, OSError) as error:
        reason = first_line(error)
        raise DatasetError(f"{where} is damaged or not a {name} file ({reason})") from None


def _frame_blocks(
    frames: Iterable[Any], where: str, columns: Columns, place: Callable[[int], str]
) -> Iterator[NamedTriples]:
    layout: Layout | None = None
    first = 0
    for whole in frames:
        layout = layout or columns.of_names([str(name) for name in whole.columns], where)
        for start in range(0, len(whole), BLOCK_ROWS):
            frame = whole[start : start + BLOCK_ROWS]
            here = partial(_moved, place, first)
            head, relation, tail = (_names(frame[:, at], where, here) for at in layout.triple)
            weight = None if layout.weight is None else frame[:, layout.weight].to_list()
            yield NamedTriples(head, relation, tail, weight, here)
            first += len(frame)


def _moved(place: Callable[[int], str], first: int, at: int) -> str:
    return place(first + at)


def _names(series: Any, where: str, place: Callable[[int], str]) -> list[str]:
    """A column as names."""
    import narwhals as nw

    kind = series.dtype
    if isinstance(kind, nw.Categorical | nw.Enum):
        series = series.cast(nw.String)
    elif not (kind == nw.String or kind == nw.Object or kind.is_integer()):
        raise DatasetError(
            f"{where}: column '{series.name}' is {kind}: names must be text or whole numbers, "
            "convert it"
        )
    values = series.to_list()
    types = set(map(type, values))  # of pandas' objects, whose type is guessed from the first
    if types <= {str} or types <= {int}:
        return values if types <= {str} else list(map(str, values))
    return [_name(value, f"column '{series.name}'", place, at) for at, value in enumerate(values)]


def _name(value: object, what: str, place: Callable[[int], str], at: int) -> str:
    if type(value) is str:
        return value
    if isinstance(value, str):  # numpy's
        return str(value)
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return str(int(value))
    missing = type(value).__name__ in ("NoneType", "NAType", "NaTType") or value != value
    kind = f"a {type(value).__name__}"
    raise DatasetError(
        f"{place(at)}: {what} is {'missing' if missing else kind}: names must be text or whole "
        "numbers"
    )


def _row_blocks(rows: Iterator[Any], what: str, columns: Columns) -> Iterator[NamedTriples]:
    if columns.named:
        raise DatasetError(f"{what} are rows without column names: give columns by position")
    layout: Layout | None = None
    first = 0
    while block := list(islice(rows, BLOCK_ROWS)):

        def place(at: int, first: int = first) -> str:
            return f"{what}[{at + first}]"

        for at, row in enumerate(block):
            _require_row(row, place(at), layout, columns)
            layout = layout or _row_layout(len(row), place(at), columns)
        assert layout is not None
        head, relation, tail = (
            [_name(row[i], part, place, at) for at, row in enumerate(block)]
            for part, i in zip(("head", "relation", "tail"), layout.triple, strict=True)
        )
        weight = None if layout.weight is None else [row[layout.weight] for row in block]
        yield NamedTriples(head, relation, tail, weight, place)
        first += len(block)


def _row_layout(width: int, place: str, columns: Columns) -> Layout:
    layout = columns.of_first_row([""] * width, place, headed=False)
    if layout.width != width:
        raise DatasetError(f"{place} has {width} members: {_WANTED}")
    return layout


_WANTED = "a row is (head, relation, tail); of longer ones choose by columns and weight"


def _require_row(row: Any, place: str, layout: Layout | None, columns: Columns) -> None:
    plain = isinstance(row, Sequence) or type(row).__name__ == "ndarray"
    if not plain or isinstance(row, str | bytes):
        raise DatasetError(f"{place} is a {type(row).__name__}: {_WANTED}")
    if layout is not None and len(row) != layout.width:
        raise DatasetError(f"{place} has {len(row)} members, not {layout.width}: {_WANTED}")
