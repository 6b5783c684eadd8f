"""Figure 3, entity embeddings by training strategy: t-SNE of the best checkpoints.

Weights are kept where a run was made and are not committed: a panel without them says so. The
colour of an entity is its most frequent relation.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from experiments.command import from_records
from experiments.plotting import COLORS, caption, new_figure, origin, save
from experiments.records import NAMES, Record, select
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.published import benchmark

DATASETS = ("wn18rr", "codex_m", "fb15k237")
STRATEGIES = ("non_neg", "all_neg", "sam_neg", "hale")
DIM = 32
ENTITIES = 4000
"""Entities shown of each graph, the same for all strategies."""
NAMED = 6
"""Relations with a colour of their own; the others are grey."""

WIKIDATA = {
    "P27": "country of citizenship", "P69": "educated at", "P106": "occupation", "P136": "genre",
    "P161": "cast member", "P463": "member of",
}  # fmt: skip
"""Labels of CoDEx's most frequent relations."""


def draw(records: list[Record], folder: Path) -> None:
    """Draw a row for each dataset and a column for each strategy."""
    figure = new_figure(7.0, 5.8)
    shown: list[Record] = []
    grid = figure.subplots(len(DATASETS), len(STRATEGIES), squeeze=False)
    for row, dataset in zip(grid, DATASETS, strict=True):
        row[0].set_ylabel(NAMES[dataset])
        runs = {s: select(records, dataset, s, "rote", DIM) for s in STRATEGIES}
        weights = {strategy: _weights(found) for strategy, found in runs.items()}
        graph = benchmark(dataset) if any(weights.values()) else None
        for axes, strategy in zip(row, STRATEGIES, strict=True):
            axes.set(xticks=[], yticks=[])  # t-SNE's coordinates have no meaning
            axes.spines[:].set_visible(False)
            path = weights[strategy]
            if graph is None or path is None:
                what = "weights not kept" if runs[strategy] else "not run"
                axes.text(0.5, 0.5, what, ha="center", transform=axes.transAxes, color="0.35")
            else:
                shown += runs[strategy][:1]
                _panel(axes, torch.load(path, map_location="cpu", weights_only=True), graph)
        if graph is not None:
            _legend(row[-1], graph)
    for axes, strategy in zip(grid[0], STRATEGIES, strict=True):
        axes.set_title(NAMES[strategy])
    what = "colour: an entity's most frequent relation"
    caption(figure, f"t-SNE of RotE's entities, {DIM} dimensions; {what}; {origin(shown)}")
    save(figure, folder / "fig3")


def _weights(runs: list[Record]) -> Path | None:
    """The best checkpoint of the first seed, if it was kept."""
    path = runs[0].run.path / "checkpoints" / "best.ckpt" if runs else None
    return path if path is not None and path.is_file() else None


def most_frequent_relation(graph: KnowledgeGraph) -> NDArray[np.int64]:
    """The most frequent relation of each entity, ``relation_E``; -1 for an entity in no triple.

    Only triples of the train split count.
    """
    head_T, relation_T, tail_T = graph.train.unbind(1)
    cell_T = torch.cat((head_T, tail_T)) * graph.num_relations + relation_T.repeat(2)
    cell_X, count_X = np.unique(cell_T.numpy(), return_counts=True)
    entity_X, relation_X = np.divmod(cell_X, graph.num_relations)
    best_X = np.lexsort((relation_X, -count_X, entity_X))
    entities, first = np.unique(entity_X[best_X], return_index=True)
    relation_E = np.full(graph.num_entities, -1)
    relation_E[entities] = relation_X[best_X[first]]
    return relation_E


def shown_entities(num_entities: int) -> NDArray[np.int64]:
    """The ids of the entities shown, the same in every panel of a dataset."""
    rng = np.random.default_rng(0)
    return np.sort(rng.permutation(num_entities)[:ENTITIES])


def named_relations(graph: KnowledgeGraph) -> list[int]:
    """The relations that are the most frequent one of most entities, in descending order."""
    relation_E = most_frequent_relation(graph)
    counts = np.bincount(relation_E[relation_E >= 0], minlength=graph.num_relations)
    return [int(r) for r in np.argsort(-counts, kind="stable")[:NAMED] if counts[r]]


def _panel(
    axes: Axes, checkpoint: dict[str, dict[str, torch.Tensor]], graph: KnowledgeGraph
) -> None:
    id_N = shown_entities(graph.num_entities)
    entity_ND = checkpoint["state_dict"]["model.entity"].numpy()[id_N]
    perplexity = min(30.0, (len(id_N) - 1) / 3)
    point_N2 = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(entity_ND)
    relation_N = most_frequent_relation(graph)[id_N]
    color_of = dict(zip(named_relations(graph), COLORS, strict=False))
    colors = [color_of.get(int(relation), "#C8C8C8") for relation in relation_N]
    axes.scatter(point_N2[:, 0], point_N2[:, 1], s=0.8, c=colors, linewidths=0, rasterized=True)


def _legend(axes: Axes, graph: KnowledgeGraph) -> None:
    named = named_relations(graph)
    for relation, color in zip(named, COLORS, strict=False):
        axes.scatter([], [], s=12, color=color, label=_short(graph.relations[relation]))
    if graph.num_relations > len(named):
        axes.scatter([], [], s=12, color="#C8C8C8", label="other relations")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=6, handletextpad=0.2,
        title="most frequent relation", title_fontsize=6.5,
    )  # fmt: skip


def _short(relation: str) -> str:
    """The last part of a relation's name, in words."""
    last = relation.strip("/_").split("/")[-1]
    return WIKIDATA.get(last, last.replace("_", " "))


if __name__ == "__main__":
    sys.exit(from_records(__doc__, draw))
