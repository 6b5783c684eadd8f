"""``hale export``: entity embeddings with their names, for other tools.

No file name depends on the model's contents, so nothing is written outside the folder.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import tsv_field
from hale.errors import HaleError
from hale.runs.files import write_atomically, write_bytes_atomically
from hale.runs.model_path import find_model

if TYPE_CHECKING:
    from hale.runs.trained import TrainedModel

SUMMARY = "embeddings with names: TSV, NumPy, word2vec, TensorBoard projector"
FORMATS = ("tsv", "numpy", "word2vec", "projector")
PROJECTOR_CONFIG = """embeddings {
  tensor_name: "entity"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the format and the output folder."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    parser.add_argument("--format", choices=FORMATS, default="tsv")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="the folder to write to")


def run(args: argparse.Namespace) -> None:
    """Write the files of a format and print their paths.

    Raises:
        HaleError: no model, a folder that cannot be made, or a name that the format cannot hold.
    """
    source, folder = find_model(args.model), Path(args.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaleError(
            f"cannot make the folder {folder} ({error.strerror}): choose another --out"
        ) from error
    from hale.runs.trained import load

    for file in _WRITERS[args.format](load(source), folder):
        print(folder / file)


def _tsv(model: "TrainedModel", folder: Path) -> list[str]:
    """A header, then an entity and its vector per line."""
    names = [tsv_field(name) for name in model.graph.entities]
    header = "\t".join(["entity", *map(str, range(model.model.dim))])
    lines = (f"{name}\t{line}" for name, line in zip(names, _vectors(model, "\t"), strict=True))
    _write(folder / "entities.tsv", [header], lines)
    return ["entities.tsv"]


def _numpy(model: "TrainedModel", folder: Path) -> list[str]:
    """Every parameter under its own name, and the entity and relation names in row order."""
    import numpy as np

    arrays = {name: value.cpu().numpy() for name, value in model.model.named_parameters()}
    with write_bytes_atomically(folder / "embeddings.npz") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its only keyword option is allow_pickle
    names = {"entities": model.graph.entities, "relations": model.graph.relations}
    with write_atomically(folder / "names.json") as text:
        json.dump(names, text, ensure_ascii=False, indent=0)
    return ["embeddings.npz", "names.json"]


def _word2vec(model: "TrainedModel", folder: Path) -> list[str]:
    """The text format of word2vec, whose words have no white space."""
    words, renamed = _words(model.graph.entities)
    if renamed:
        print(
            f"warning: {renamed} of {len(words)} names are those of other entities once white "
            "space is an underscore: these have _2, _3, ... at the end; lines are in the order of "
            "ids",
            file=sys.stderr,
        )
    header = f"{len(words)} {model.model.dim}"
    lines = (f"{word} {line}" for word, line in zip(words, _vectors(model, " "), strict=True))
    _write(folder / "entities.w2v.txt", [header], lines)
    return ["entities.w2v.txt"]


def _words(names: Sequence[str]) -> tuple[list[str], int]:
    """Distinct words without white space, and how many of them end in a number to be distinct.

    White space in a name becomes an underscore. A name without any is a word as it stands.
    """
    words = [re.sub(r"\s+", "_", name) or "_" for name in names]
    taken = {name for name, word in zip(names, words, strict=True) if name == word}
    last: Counter[str] = Counter()
    renamed = 0
    for row, (name, word) in enumerate(zip(names, words, strict=True)):
        if name == word:
            continue
        while words[row] in taken:
            last[word] += 1
            words[row] = f"{word}_{last[word] + 1}"
        renamed += words[row] != word
        taken.add(words[row])
    return words, renamed


def _projector(model: "TrainedModel", folder: Path) -> list[str]:
    """Files for TensorBoard's embedding projector and its website."""
    names = [tsv_field(name) for name in model.graph.entities]
    _write(folder / "vectors.tsv", [], _vectors(model, "\t"))
    _write(folder / "metadata.tsv", [], names)
    _write(folder / "projector_config.pbtxt", [], [PROJECTOR_CONFIG.rstrip()])
    return ["vectors.tsv", "metadata.tsv", "projector_config.pbtxt"]


_WRITERS: dict[str, Callable[["TrainedModel", Path], list[str]]] = {
    "tsv": _tsv, "numpy": _numpy, "word2vec": _word2vec, "projector": _projector,
}  # fmt: skip


def _vectors(model: "TrainedModel", separator: str) -> Iterable[str]:
    for vector_D in model.embeddings().values():
        yield separator.join(map(str, vector_D))


def _write(path: Path, header: list[str], lines: Iterable[str]) -> None:
    with write_atomically(path) as file:
        file.writelines(line + "\n" for line in chain(header, lines))
