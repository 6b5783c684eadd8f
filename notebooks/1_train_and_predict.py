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
# # Train and predict
#
# One run on the embedded family graph, and questions to the trained model. `HALE_FAST=1` makes
# the run a few steps long.

# %%
import os
import subprocess
import sys
from pathlib import Path

import hale

FAST = os.environ.get("HALE_FAST") == "1"
BUDGET = ["budget.seconds=null", "budget.steps=20"] if FAST else ["budget.seconds=20"]

# %% [markdown]
# A run is a command. Its folder holds `result.json`, `curve.csv`, checkpoints and the model; run
# again with the same folder, a finished run returns at once.

# %%
run = Path("outputs/fast" if FAST else "outputs") / "rotl"
command = [sys.executable, "-m", "hale.run", "model=rotl", "logger=none", *BUDGET]
done = subprocess.run([*command, f"hydra.run.dir={run}"], capture_output=True, text=True)
print(done.stdout, done.stderr)
done.check_returncode()

# %% [markdown]
# `hale.load` reads the folder; nothing in it is executed.

# %%
model = hale.load(run)
graph = model.graph
print(f"{graph.num_entities} people, {graph.num_relations} relations: {', '.join(graph.relations)}")
print(f"test MRR {model.record['test/mrr']:.3f}")

# %% [markdown]
# The head and relation of a test triple, which training never saw, and the answers to it. `known`
# says that a triple of some split holds the answer already.

# %%
head, relation, tail = graph.test[0].tolist()
print(f"{graph.entities[head]}, {graph.relations[relation]}: {graph.entities[tail]}?")
for answer in model.predict(head=graph.entities[head], relation=graph.relations[relation], k=5):
    print(f"{answer.score:8.3f}  {answer.entity}{'  (known)' if answer.known else ''}")

# %% [markdown]
# Filtered ranks of some test triples (tail, head), and people whose vectors point the same way.

# %%
print(model.rank(graph.test[:5].tolist()))
for neighbour in model.neighbours(graph.entities[head], k=5):
    print(f"{neighbour.cosine:.3f}  {neighbour.entity}")
