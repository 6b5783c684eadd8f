"""The automatic recipe: settings chosen from what is known of a graph before training.

:func:`facts` counts, :func:`combination` chooses the config groups that the user left open, and
:func:`values` the numbers. Each choice says why it was made; docs/own-data.md has the measurements
behind the rules. Values rank below a strategy, an experiment and the command line.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.statistics import relation_counts
from hale.settings import conf_dir
from hale.settings.recipe import Rule, deciding_rules, read_rules

BILINEAR = ("complex", "rescal", "distmult_dot", "conve", "tucker")
"""Models compared by dot product, which the full softmax trains best."""
SMALL = 2_500
"""Entities below which such a model is trained, unless answers are a large share of them."""
WIDE = 128
"""Dimensions from which such a model is trained: in 32, distances do better on CoDEx-S."""
CROWDED = 0.1
"""Answers per query, as a share of all entities, above which distances, MuRE's, do better."""
SPARSE = 2.25
"""Answers per query below which a graph is sparse: WN18RR has 1.7, FB15k-237 3.6."""
PAIRS = 10_000_000
"""Pairs of a query and an entity that a step of HaLE compares, at most."""
QUERIES = (64, 410)
"""The fewest and the most queries of a step that are compared with all entities."""
SMALLEST_BATCH = 512
SCALED = ("compounde", "distmult", "mure", "rotate", "rote", "rotl")
"""Models whose relation scale may undo the norms of entities."""
WEIGHTS = (0.5, 8.0)
"""Bounds of the loss weight."""
EPOCHS = 56
"""The loss weight is at least this number over the epochs, up to 3."""


@dataclass(frozen=True)
class Facts:
    """What the rules depend on.

    Args:
        entities: E.
        relations: R.
        triples: of train.
        answers: mean number of training answers per query (entity, relation), both directions.
        symmetric: share of training triples whose reverse is in train under the same relation.
    """

    entities: int
    relations: int
    triples: int
    answers: float
    symmetric: float


@dataclass(frozen=True)
class Choice:
    """A config group's choice or a setting's value, and why."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """What a search tries in place of the rules' choice.

    Args:
        choices: of config groups.
        factors: on the rules' values.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """A name for tables and folders."""
        return "_".join(
            [*self.choices.values(), *(f"{name}x{by:g}" for name, by in self.factors.items())]
        )


def candidates(fixed: Mapping[str, str], dim: int | None = None) -> list[Candidate]:
    """What a search tries: models, and a stronger uniformity for those trained with HaLE.

    Args:
        fixed: choices that the user has made, by group.
        dim: the embedding dimension, if the user has chosen one.
    """
    models = ["compounde", "mure", "complex", "rescal"]
    if "model" in fixed:
        models = [fixed["model"]]
    elif _odd(dim):
        models = ["mure", "rescal"]
    stronger = {"loss.weight": 2.0}
    loss = fixed.get("loss", "hale")
    return [
        Candidate({"model": model}, factors)
        for model in models
        for factors in ({}, stronger)
        if not factors or (model not in BILINEAR and loss == "hale")
    ]


def facts(graph: KnowledgeGraph) -> Facts:
    """Count what the rules depend on."""
    _, heads_R, tails_R, symmetric_R = relation_counts(graph)
    loops = int((graph.train[:, 0] == graph.train[:, 2]).sum())
    triples = len(graph.train)
    return Facts(
        graph.num_entities,
        graph.num_relations,
        triples,
        2 * triples / int(heads_R.sum() + tails_R.sum()),
        (int(symmetric_R.sum()) - loops) / triples,
    )


def combination(known: Facts, fixed: Mapping[str, str], dim: int | None = None) -> list[Choice]:
    """Choices of model, loss, activation and optimizer, for the groups that are not ``fixed``.

    A fixed model or loss decides what suits it: dot products are trained by the full softmax with
    Adagrad, distances by HaLE with Adam.

    Args:
        known: of the graph.
        fixed: choices that the user has made, by group.
        dim: the embedding dimension, if the user has chosen one.
    """
    crowded = known.answers > CROWDED * known.entities
    narrow, odd = dim is not None and dim < WIDE, _odd(dim)
    bilinear = known.entities < SMALL and not (crowded or narrow or odd)
    size = f"{known.entities:,} entities are {'fewer' if known.entities < SMALL else 'no fewer'}"
    why = f"{size} than {SMALL:,}" + (f", a query has {known.answers:.1f} answers" * crowded)
    why += f", {dim} dimensions are fewer than {WIDE}" * narrow + f", {dim} is odd" * odd
    if "model" in fixed:
        bilinear, why = fixed["model"] in BILINEAR, f"suits {fixed['model']}"
    elif fixed.get("loss", "all_neg") != "all_neg":
        bilinear, why = False, f"suits {fixed['loss']}"
    distance = "mure" if crowded or odd else "compounde"
    chosen = [
        Choice("model", "complex" if bilinear else distance, why),
        Choice("loss", "all_neg" if bilinear else "hale", why),
        Choice("activation", "identity" if bilinear else "hanon", why),
        Choice("optimizer", "adagrad" if bilinear else "adam", why),
    ]
    return [choice for choice in chosen if choice.name not in fixed]


def values(known: Facts, chosen: Mapping[str, str], dim: int, steps: int | None) -> list[Choice]:
    """Values for a combination of choices.

    Args:
        known: of the graph.
        chosen: the choice of each config group.
        dim: the embedding dimension.
        steps: that the budget holds; None if that is not known yet.
    """
    rules = deciding_rules(_rules(), chosen, dim)
    found = {
        name: Choice(name, rule.values[name], f"conf/recipe/auto.yaml: {rule}")
        for name, rule in rules.items()
    }
    if chosen.get("loss") == "hale":
        found |= {choice.name: choice for choice in _hale(known, chosen, steps)}
    return list(found.values())


def loss_weight(known: Facts, epochs: float) -> Choice:
    """The loss weight for a graph and a number of epochs."""
    weight, why = known.answers - 1, f"answers per query, {known.answers:.1f}, less 1"
    if weight < min(3.0, EPOCHS / epochs):
        weight, why = min(3.0, EPOCHS / epochs), f"{epochs:.0f} epochs; more in fewer, up to 3"
    return Choice("loss.weight", round(min(max(weight, WEIGHTS[0]), WEIGHTS[1]), 2), why)


def _odd(dim: int | None) -> bool:
    """Whether only models that do not rotate planes of two coordinates take that dimension."""
    return dim is not None and dim % 2 == 1


@cache
def _rules() -> list[Rule]:
    return read_rules(conf_dir() / "recipe" / "auto.yaml")


def _hale(known: Facts, chosen: Mapping[str, str], steps: int | None) -> Iterator[Choice]:
    """What HaLE's values depend on beside the combination."""
    sparse = known.answers < SPARSE
    graph = f"{known.answers:.1f} answers per query, {'' if sparse else 'not '}fewer than {SPARSE}"
    most = 16_384 if sparse else 8_192
    batch = SMALLEST_BATCH
    while batch < most and 2 * batch <= known.triples / 2:
        batch *= 2
    yield Choice("data.batch_size", batch, f"at most {most:,} and half of train; {graph}")
    queries = min(max(PAIRS // known.entities, QUERIES[0]), QUERIES[1])
    share = round(min(0.2, queries / batch), 4)
    compared = f"{round(share * batch)} queries a step against {known.entities:,} entities"
    yield Choice("loss.alpha", share, compared)
    yield loss_weight(known, (steps or 1_000) * batch / (2 * known.triples))
    yield Choice("loss.mask_known", not sparse, graph)
    if chosen.get("activation") == "hanon":
        yield Choice("activation.beta", 2.0 if sparse else 1.5, graph)
        yield Choice("activation.gamma", 8.0 if sparse else 10.0, graph)
    if chosen.get("optimizer") == "adam" and sparse:
        yield Choice("optimizer.weight_decay", 1e-5, graph)
    if chosen.get("model") in SCALED and not sparse:
        why = "the scale and the norms of entities undo each other"
        yield Choice("model.scale_lr_multiplier", 0.1, why)
