"""Figure 2, convergence of RotE over training time: above by strategy, below by activation."""

import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.command import from_records
from experiments.plotting import COLORS, DASHES, caption, new_figure, origin, save
from experiments.records import NAMES, Record, select

DATASETS = ("fb15k237", "wn18rr", "codex_m")
DIM = 32
PANELS = {
    "training strategy": {
        "hale": "HaLE", "sam_neg": "SamNeg", "adv_neg": "AdvNeg", "all_neg": "AllNeg",
        "non_neg": "NonNeg",
    },
    "activation of HaLE": {
        "hale": "Hanon", "hale_halin": "Halin", "hale_xexp": r"$x\,e^x$",
        "hale_temperature": "$2x$", "hale_artanh": r"$2\,\mathrm{artanh}(x/(1+x))$",
    },
}  # fmt: skip
"""Rows of panels: the strategies of each, and their labels."""

METRICS = {"fig2": ("valid/hits@10", "Hits@10"), "fig2_mrr": ("valid/mrr", "MRR")}

Runs = dict[str, list[Record]]
"""Runs by strategy, those with a curve alone."""


def draw(records: list[Record], folder: Path) -> None:
    """Draw ``fig2`` (Hits@10, as in the paper) and ``fig2_mrr``, both of the valid split."""
    strategies = {strategy for panel in PANELS.values() for strategy in panel}
    runs = {dataset: _runs(records, dataset, strategies) for dataset in DATASETS}
    shown = [run for of in runs.values() for found in of.values() for run in found]
    for name, (metric, label) in METRICS.items():
        figure = new_figure(7.0, 4.8)
        grid = figure.subplots(len(PANELS), len(DATASETS), squeeze=False, sharex="col")
        for row, (title, labels) in zip(grid, PANELS.items(), strict=True):
            for axes, dataset in zip(row, DATASETS, strict=True):
                _panel(axes, runs[dataset], labels, metric)
            row[0].set_ylabel(f"valid {label}")
            row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title)
        for axes, dataset in zip(grid[0], DATASETS, strict=True):
            axes.set_title(NAMES[dataset])
            axes.set_xlim(left=first_second(runs[dataset]))
        for axes in grid[-1]:
            axes.set_xlabel("training seconds")
        caption(figure, f"RotE, {DIM} dimensions; {origin(shown)}")
        save(figure, folder / name)


def _runs(records: list[Record], dataset: str, strategies: set[str]) -> Runs:
    found = {s: select(records, dataset, s, "rote", DIM) for s in strategies}
    return {s: [record for record in of if record.run.curve] for s, of in found.items()}


def first_second(runs: Runs) -> float:
    """The earliest second at which all curves have been validated, where a fair axis starts."""
    firsts = [run.run.curve[0]["train_seconds"] for of in runs.values() for run in of]
    return max(firsts, default=0.0)


def _panel(axes: Axes, runs: Runs, labels: dict[str, str], metric: str) -> None:
    """One dataset: a line for each run, those of a strategy alike; what is missing is named."""
    missing = []
    for i, (strategy, label) in enumerate(labels.items()):
        look: dict[str, Any] = {"color": COLORS[i], "linestyle": DASHES[i]}
        axes.plot([], [], label=label, **look)
        for number, run in enumerate(runs[strategy]):
            seconds = [row["train_seconds"] for row in run.run.curve]
            values = [row[metric] for row in run.run.curve]
            axes.plot(seconds, values, zorder=3 - i / 10, alpha=0.5 if number else 1.0, **look)
        if not runs[strategy]:
            missing.append(label)
    axes.set_ylim(bottom=0)
    if missing:
        text = "not run: " + ", ".join(missing)
        axes.text(
            0.98, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6.5,
            color="0.35", wrap=True,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(from_records(__doc__, draw))
