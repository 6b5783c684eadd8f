"""Where the model of a run lies, answered without loading anything."""

import shlex
from pathlib import Path

from hale.errors import HaleError

CONFIG = "config.json"
"""The file by which a model folder is known (:mod:`hale.runs.model_folder`)."""


class ModelFolderError(HaleError):
    """A folder that no model can be loaded from; the message says what, where and how to fix it."""


def find_model(path: str | Path) -> Path:
    """The model folder that ``path`` is or, if it is a run's folder, contains.

    Raises:
        ModelFolderError: it is neither.
    """
    path = Path(path)
    if path.parts[:1] and path.parts[0].startswith("~") and not path.exists():
        try:
            path = path.expanduser()
        except RuntimeError as error:  # no such user, or one without a home
            raise ModelFolderError(f"{path} is not a folder: {error}") from error
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.is_dir():
        raise ModelFolderError(
            f"{path} is not a folder: give a run's folder or the model folder in it"
        )
    if (path / "checkpoints").is_dir():
        raise ModelFolderError(
            f"{path} is an unfinished run without a model: finish it with hale resume "
            f"{shlex.quote(str(path))}"
        )
    raise ModelFolderError(
        f"{path} has no trained model ({CONFIG} is missing): give a run's folder or the model "
        "folder in it"
    )
