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
# # Activations and the loss
#
# Figure 1 of the paper, and what $\beta$, $\gamma$, $\alpha$ and $\lambda$ do. Nothing is trained.

# %%
import matplotlib.pyplot as plt
import torch

from hale.graphs.batches import QueryBatch
from hale.graphs.queries import QueryIndex
from hale.losses.query_sampling import QuerySampling
from hale.scoring.activations import Artanh, Halin, Hanon, Temperature, XExp
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table

# %% [markdown]
# An activation $h$ hardens distances: the score of a candidate is $-h(x)$. Near ones are pulled
# little, middling ones are pushed, and beyond the bound $\gamma$ nothing moves any more.

# %%
distance = torch.linspace(0, 3, 400)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for activation in (Hanon(), Halin(), XExp(), Artanh(), Temperature()):
    left.plot(distance, activation(distance), label=type(activation).__name__)
left.set(xlabel="distance x", ylabel="h(x)", ylim=(0, 12))
left.legend()
for beta, gamma in ((3, 10), (6, 10), (3, 5)):
    right.plot(distance, Hanon(beta, gamma)(distance), label=rf"$\beta={beta}, \gamma={gamma}$")
right.set(xlabel="distance x", ylabel="Hanon")
right.legend()

# %% [markdown]
# The gradient of a candidate's share in the LogSumExp is its softmax weight times $h'(x)$. Hanon
# concentrates it on candidates that are near but not nearest: the hard ones.

# %%
figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
for activation in (Hanon(), Hanon(6.0, 10.0), Temperature()):
    x = distance.clone().requires_grad_()
    (-activation(x)).logsumexp(0).backward()
    axes.plot(distance, -x.grad, label=str(activation))
axes.set(xlabel="distance x", ylabel="push")
axes.legend(fontsize=7)

# %% [markdown]
# The loss aligns all positives of a batch and spreads a share $\alpha$ of its queries against all
# entities, with weight $\lambda$. Squaring the activated distance lets near positives rest. Here
# are its parts on random vectors, as $\alpha$ grows: the mean is the same, its spread over batches
# and its cost are what $\alpha$ changes.

# %%
torch.manual_seed(0)
entities, relations, dim, size = 2000, 4, 16, 512
entity_ED = torch.randn(entities, dim) / (2 * dim) ** 0.5
entity_T, relation_T, target_T = (
    torch.randint(n, (size * 20,)) for n in (entities, relations, entities)
)
answers = QueryIndex(entity_T, relation_T, target_T, entities, relations)
for alpha in (0.02, 0.1, 0.5, 1.0):
    loss = QuerySampling(alpha=alpha, weight=1.0)
    found, table = [], Table(entity_ED)
    for rows in torch.arange(size * 20).split(size):
        query_BD = entity_ED[entity_T[rows]] + 0.05 * torch.randn(size, dim)
        scores = ScoreMatrix(query_BD, torch.ones(size), table, SquaredEuclidean(), Hanon())
        batch = QueryBatch(entity_T[rows], relation_T[rows], target_T[rows], answers)
        found.append(loss(scores, batch)["uniformity"])
    uniformity = torch.stack(found)
    print(f"alpha {alpha:4}: uniformity {uniformity.mean():.4f} +- {uniformity.std():.4f}")

# %% [markdown]
# $\lambda$ weighs the two: a large one spreads entities, a small one pulls answers together.

# %%
for weight in (0.5, 1.0, 2.0):
    parts = QuerySampling(alpha=0.1, weight=weight)(scores, batch)
    print(f"lambda {weight}:", {name: round(float(value), 3) for name, value in parts.items()})
