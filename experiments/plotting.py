"""The look of all figures: print size, and colours that colour-blind readers can distinguish."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.records import Record
from hale.runs.report.colors import PALETTE

mpl.use("Agg")

COLORS = (PALETTE[1], PALETTE[0], *PALETTE[2:])
"""hale's palette with its two strongest colours swapped: the first is HaLE's in every figure."""

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""One for each line of a panel, so that lines differ in more than colour."""

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


def origin(records: Iterable[Record]) -> str:
    """The seeds and hardware of a figure's runs, for its caption."""
    shown = list(records)
    if not shown:
        return "no runs"
    seeds = sorted({record.seed for record in shown})
    hardware = sorted({record.hardware for record in shown})
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; {'; '.join(hardware)}"


def caption(figure: Figure, text: str) -> None:
    """Write a line below everything else of a figure."""
    figure.supxlabel(text, fontsize=7, color="0.3")


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` with the suffixes ``.png`` and ``.pdf``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".pdf"):
        target = path.parent / f"{path.name}{suffix}"
        figure.savefig(target, dpi=200, metadata={"CreationDate": None} if suffix == ".pdf" else {})
        print(target)
