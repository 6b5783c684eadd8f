"""A run's settings: where they lie, recipes, Hydra's composition, checks, and objects from them."""

from pathlib import Path


def conf_dir() -> Path:
    """The ``conf`` folder: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
