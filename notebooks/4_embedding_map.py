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
# # A map of the embeddings
#
# Figure 3 of the paper in small: t-SNE of entity vectors after training by HaLE and by sampled
# negatives. People are coloured by surname, which training does not see.

# %%
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.manifold import TSNE

import hale

FAST = os.environ.get("HALE_FAST") == "1"
BUDGET = ["budget.seconds=null", "budget.steps=20"] if FAST else ["budget.seconds=20"]
STRATEGIES = ("hale", "sam_neg")

# %%
sweep = Path("outputs/fast" if FAST else "outputs") / "map"
command = [
    sys.executable, "-m", "hale.run", "-m", "model=rote", f"strategy={','.join(STRATEGIES)}",
    "logger=none", "test=false", f"hydra.sweep.dir={sweep}", *BUDGET,
    "hydra.sweep.subdir=${hydra:runtime.choices.strategy}",
]  # fmt: skip
done = subprocess.run(command, capture_output=True, text=True)
print(done.stdout, done.stderr)
done.check_returncode()

# %%
shown = 150 if FAST else 1500
figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for axes, strategy in zip(panels, STRATEGIES, strict=True):
    model = hale.load(sweep / strategy)
    vectors = model.embeddings()
    names = list(vectors)[:shown]
    surnames = [name.split()[1] for name in names]
    common = [surname for surname, _ in Counter(surnames).most_common(8)]
    at = TSNE(init="pca", random_state=0).fit_transform(np.stack([vectors[n] for n in names]))
    axes.scatter(*at.T, s=4, color="0.8")
    for surname in common:
        here = np.array([surname == other for other in surnames])
        axes.scatter(*at[here].T, s=8, label=surname)
    mrr = model.record["valid/mrr"]
    axes.set(title=f"{strategy}: valid MRR {mrr:.3f}", xticks=[], yticks=[])
panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
