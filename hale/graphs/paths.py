"""Which files a path stands for: the three splits in a folder, or files to be split."""

import logging
from pathlib import Path

from hale.errors import DatasetError
from hale.graphs.reading import SPLITS
from hale.graphs.triple_file import FORMATS, FORMATS_READ, STDIN, Form, format_of

log = logging.getLogger(__name__)


def as_path(given: object) -> Path:
    """The path that a setting names.

    Hydra reads ``2024``, ``1e3``, ``true`` and ``nan`` as values; the entry of the working folder
    whose name has this value is meant.

    Raises:
        DatasetError: no path.
    """
    if isinstance(given, str | Path):
        path = Path(given)
        try:
            return path if path.exists() else path.expanduser()
        except RuntimeError as error:  # a ~user that there is not
            raise DatasetError(f"{path} does not exist: {error}") from None
        except OSError:
            return path  # which is refused where it is read
    if isinstance(given, bool | int | float):
        for entry in sorted(Path().iterdir()):
            if _value(entry.name) == _value(str(given)):
                return entry
        raise DatasetError(
            f"{given} does not exist; write a path that looks like a number as ./NAME"
        )
    raise DatasetError(f"path must be a file, a folder or - for standard input, got {given!r}")


def _value(name: str) -> object:
    """The value as which a name is read, or the name in lower case."""
    for read in (int, float):
        try:
            number = read(name)
        except ValueError:
            continue
        return number if number == number else "nan"
    return name.lower()


def find_files(path: Path, form: Form) -> dict[str, Path] | list[Path]:
    """The files of the three splits by name, or the files whose triples are to be split.

    Raises:
        DatasetError: there is nothing to read, or a split is missing or there twice.
    """
    if str(path) == STDIN:
        return [path]
    try:
        if not path.exists():
            raise DatasetError(f"{path} does not exist: give a file or a folder of triples")
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    readable = [file for file in files if form.format or format_of(file)]
    splits = {split: [file for file in readable if _stem(file) == split] for split in SPLITS}
    if any(splits.values()):
        return {split: _only(path, split, found) for split, found in splits.items()}
    if not readable:
        raise DatasetError(
            f"{path} is a folder without train, valid and test or other files of triples: "
            f"{FORMATS_READ}"
        )
    if others := [file.name for file in files if file not in readable]:
        log.warning("%s: not read, for their suffix: %s", path, ", ".join(others))
    return readable


def _only(folder: Path, split: str, found: list[Path]) -> Path:
    if not found:
        raise DatasetError(f"{folder} has no {split}.txt or {split}.tsv (or another format)")
    if len(found) > 1:
        found.sort(key=lambda file: FORMATS.index(format_of(file) or FORMATS[0]))
        raise DatasetError(f"{folder} has both {found[0].name} and {found[1].name}: remove one")
    return found[0]


def _stem(file: Path) -> str:
    return file.name.split(".")[0]
