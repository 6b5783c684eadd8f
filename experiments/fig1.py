"""Figure 1, the activations: ``python -m experiments.fig1 [FOLDER]``."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from experiments.plotting import COLORS, DASHES, new_figure, save
from hale.scoring.activations import Artanh, Halin, Hanon, Temperature, XExp

CURVES: tuple[tuple[str, Callable[[Tensor], Tensor], float], ...] = (
    (r"Hanon, $\beta=3$, $\gamma=10$", Hanon(3.0, 10.0), 3.0),
    (r"Halin, $\beta=10$, $\gamma=10$", Halin(10.0, 10.0), 3.0),
    ("$x\\,e^x$", XExp(), 3.0),
    (r"$2\,\mathrm{artanh}(x)$", lambda x_N: 2 * torch.atanh(x_N), 0.999),
    ("$2x$ (temperature)", Temperature(), 3.0),
    (r"$2\,\mathrm{artanh}(x/(1+x))$", Artanh(), 3.0),
)
"""Label, function, and the end of the range in which it is drawn.

2 artanh(x) has a pole at 1; in training, its argument is the normalised distance x / (1 + x).
"""


def draw(path: Path) -> None:
    """Draw the curves over distances from 0 to 3."""
    figure = new_figure(3.5, 3.2)
    axes = figure.subplots()
    for i, (label, activation, end) in enumerate(CURVES):
        x_N = torch.linspace(0, end, 600, dtype=torch.float64)
        style = DASHES[i % len(DASHES)]
        h_N = activation(x_N)
        axes.plot(x_N.numpy(), h_N.numpy(), color=COLORS[i], linestyle=style, label=label)
    axes.axhline(10, color="0.6", linewidth=0.7, zorder=0)
    axes.annotate(r"bound $\gamma$", (0.02, 10.1), color="0.4", fontsize=7)
    axes.set(xlim=(0, 3), ylim=(0, 12), xlabel="distance $x$", ylabel="activation $h(x)$")
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, path)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "results") / "fig1")
