"""Figure 2, convergence of RotE on the training clock: above by strategy, below by activation."""

import sys
from pathlib import Path

from matplotlib.axes import Axes

from experiments.command import from_records
from experiments.plotting import COLORS, DASHES, new_figure, save
from experiments.records import NAMES, Record, select

DATASETS = ("fb15k237", "wn18rr", "codex_m")
PANELS = {
    "training strategy": {
        "hale": "HaLE", "sam_neg": "SamNeg", "adv_neg": "AdvNeg", "all_neg": "AllNeg",
        "non_neg": "NonNeg",
    },
    "activation of HaLE": {
        "hale": "Hanon", "hale_halin": "Halin", "hale_xexp": "$x e^x$",
        "hale_temperature": "2x", "hale_artanh": "2 artanh",
    },
}  # fmt: skip
"""Rows of panels: the strategies of each, and their labels."""

METRICS = {"fig2": ("valid/hits@10", "Hits@10"), "fig2_mrr": ("valid/mrr", "MRR")}


def draw(records: list[Record], folder: Path) -> None:
    """Draw ``fig2`` (Hits@10, as in the paper) and ``fig2_mrr``, both of the valid split."""
    for name, (metric, label) in METRICS.items():
        figure = new_figure(7.0, 4.6)
        grid = figure.subplots(len(PANELS), len(DATASETS), squeeze=False)
        for row, (title, strategies) in zip(grid, PANELS.items(), strict=True):
            for axes, dataset in zip(row, DATASETS, strict=True):
                _panel(axes, records, dataset, strategies, metric)
            row[0].set_ylabel(f"valid {label}, by {title}")
            handles, labels = row[0].get_legend_handles_labels()
            row[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes, dataset in zip(grid[0], DATASETS, strict=True):
            axes.set_title(NAMES[dataset])
        for axes in grid[-1]:
            axes.set_xlabel("training seconds")
        save(figure, folder / name)


def _panel(
    axes: Axes, records: list[Record], dataset: str, strategies: dict[str, str], metric: str
) -> None:
    """One dataset: a line for each run, those of a strategy alike; what is missing is named."""
    missing = []
    for i, (strategy, label) in enumerate(strategies.items()):
        found = select(records, dataset, strategy, "rote", 32)
        curves = [record.run.curve for record in found if record.run.curve]
        axes.plot([], [], color=COLORS[i], linestyle=DASHES[i], label=label)
        for curve in curves:
            seconds = [row["train_seconds"] for row in curve]
            values = [row[metric] for row in curve]
            axes.plot(
                seconds, values, color=COLORS[i], linestyle=DASHES[i], zorder=3 - i / 10,
                alpha=1.0 if curve is curves[0] else 0.5,
            )  # fmt: skip
        if not curves:
            missing.append(label)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    if missing:
        text = "not run: " + ", ".join(missing)
        axes.text(
            0.98, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.5,
            color="0.35", wrap=True,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(from_records(__doc__, draw))
