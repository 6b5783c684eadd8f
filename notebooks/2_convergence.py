# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Convergence
#
# Figure 2 of the paper in small: the same model under training strategies, on the training clock,
# which validation stops.

# %%
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from hale.runs.folders import find_runs

FAST = os.environ.get("HALE_FAST") == "1"
BUDGET = ["budget.seconds=null", "budget.steps=20"] if FAST else ["budget.seconds=15"]

# %% [markdown]
# One sweep: `-m` takes every combination of what commas separate.

# %%
sweep = Path("outputs/fast" if FAST else "outputs") / "strategies"
command = [
    sys.executable, "-m", "hale.run", "-m", "model=rote", "strategy=hale,sam_neg,all_neg",
    "validations=15", "logger=none", "test=false", f"hydra.sweep.dir={sweep}", *BUDGET,
]  # fmt: skip
done = subprocess.run(command, capture_output=True, text=True)
print(done.stdout, done.stderr)
done.check_returncode()

# %% [markdown]
# Each run folder keeps one row per validation.

# %%
metrics = ("valid/mrr", "valid/hits@10")
figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for run in find_runs(sweep):
    for axes, metric in zip(panels, metrics, strict=True):
        seconds = [row["train_seconds"] for row in run.curve]
        values = [row[metric] for row in run.curve]
        axes.plot(seconds, values, label=run.settings["strategy"])
for axes, metric in zip(panels, metrics, strict=True):
    axes.set(xlabel="seconds of training", ylabel=metric, ylim=(0, None))
panels[0].legend()
