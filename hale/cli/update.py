"""``hale update``: train a model further on its graph with triples added or removed."""

import argparse
import re
from itertools import count
from pathlib import Path
from typing import Any

from hale.errors import HaleError
from hale.runs.model_path import find_model
from hale.runs.record import RESULT_FILE

SUMMARY = "add triples to a trained model's graph, or remove some, and train on"
SETTING = re.compile(r"[a-z_]+(\.[a-z_0-9]+)*=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, what changes in its graph, and settings."""
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*",
        help="that differ from the run's, as budget.seconds=20 optimizer.lr=0.01",
    )  # fmt: skip
    parser.add_argument(
        "--add", metavar="TRIPLES", nargs="+", default=[],
        help="files or folders of triples for train; a folder with train, valid and test for each",
    )  # fmt: skip
    parser.add_argument(
        "--remove", metavar="TRIPLES", nargs="+", default=[], help="triples that the graph has"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", nargs="+", default=[],
        help="the update's; default: RUN-update-1, RUN-update-2, ...",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Prepare the update and train it; the same command resumes one that was interrupted.

    Raises:
        HaleError: no model, nothing that changes its graph, or settings that an update cannot have.
    """
    model = find_model(args.run)
    listed = (args.add, args.remove, args.out)  # argparse gives them the settings that follow
    words = [*args.settings, *(w for given in listed for w in given if _is_setting(w))]
    add, remove, out = ([w for w in given if not _is_setting(w)] for given in listed)
    if len(out) > 1:
        raise HaleError(f"--out takes one folder, got {' '.join(out)}")
    if not add and not remove:
        raise HaleError("nothing to update: give --add TRIPLES, --remove TRIPLES or both")
    settings = settings_of(words)
    from hale.run import reported
    from hale.runs.trained import load
    from hale.training.update import finish, prepare

    home = model.parent if model.name == "model" else model
    folder = Path(out[0]) if out else free_folder(home)
    growth = prepare(load(args.run), add, remove, folder, settings)
    finished = " (finished)" if (folder / RESULT_FILE).exists() else ""
    print(f"{args.run}: {growth}; {folder}{finished}", flush=True)
    with reported(folder):
        finish(folder)


def _is_setting(word: str) -> bool:
    return bool(SETTING.match(word)) and not Path(word).exists()


def settings_of(words: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words by key, each value read as YAML.

    Raises:
        HaleError: a word of another form.
    """
    from omegaconf import OmegaConf

    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not SETTING.match(word):
            raise HaleError(f"{word!r} is not a setting: write KEY=VALUE, as in budget.seconds=20")
        read: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
        settings[name] = read["value"]
    return settings


def free_folder(run: Path) -> Path:
    """The first of RUN-update-1, RUN-update-2, ... without a finished run.

    The updates of an update are numbered on.
    """
    found = re.fullmatch(r"(.+)-update-(\d+)", run.resolve().name)
    name, first = (found[1], int(found[2]) + 1) if found else (run.resolve().name, 1)
    candidates = (run.resolve().parent / f"{name}-update-{i}" for i in count(first))
    folder = next(folder for folder in candidates if not (folder / RESULT_FILE).exists())
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
