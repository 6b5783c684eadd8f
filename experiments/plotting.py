"""The look of all figures: print size, colours that colour-blind readers can tell apart."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.use("Agg")

COLORS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800",
)  # fmt: skip
"""Okabe and Ito (2008), the yellow darkened to be seen on white; the first is HaLE's."""

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""One for each line of a panel, so that colour is not all that tells them apart."""

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "pdf.fonttype": 42,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, in the common style."""
    mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` with the suffixes ``.png`` and ``.pdf``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".pdf"):
        target = path.parent / f"{path.name}{suffix}"
        figure.savefig(target, dpi=200, metadata={"CreationDate": None} if suffix == ".pdf" else {})
        print(target)
