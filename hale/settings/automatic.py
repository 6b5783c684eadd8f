"""The automatic recipe: settings chosen from what is known of a graph before training.

:func:`facts` counts, :func:`combination` chooses the config groups that the user left open, and
:func:`values` the numbers. Each choice says why it was made; docs/own-data.md has the measurements
behind the rules. Values rank below a strategy, an experiment and the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.settings import conf_dir
from hale.settings.recipe import Rule, deciding_rules, read_rules

SMALL = 5_000
"""Entities below which a bilinear model with the full softmax is trained."""
PAIRS = 10_000_000
"""Pairs of a query and an entity that a step of HaLE compares, at most."""
QUERIES = (64, 410)
"""The fewest and the most queries of a step that are compared with all entities."""
BATCHES = (512, 8_192)
"""The smallest and the largest batch."""


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


def facts(graph: KnowledgeGraph) -> Facts:
    """Count what the rules depend on."""
    query_T3 = reciprocal(graph.train, graph.num_relations)
    entity_T, relation_T, answer_T = query_T3.unbind(1)
    query_T = entity_T * (2 * graph.num_relations) + relation_T
    head_T, tail_T = graph.train[:, 0], graph.train[:, 2]
    key_T, reverse_T = (
        (a * graph.num_relations + graph.train[:, 1]) * graph.num_entities + b
        for a, b in ((head_T, tail_T), (tail_T, head_T))
    )
    symmetric_T = torch.isin(reverse_T, key_T) & (head_T != tail_T)
    return Facts(
        graph.num_entities,
        graph.num_relations,
        len(graph.train),
        len(answer_T) / len(torch.unique(query_T)),
        float(symmetric_T.float().mean()),
    )


def combination(known: Facts, fixed: Mapping[str, str]) -> list[Choice]:
    """Choices of model, loss, activation and optimizer, for the groups that are not ``fixed``.

    A fixed model or loss decides what suits it: dot products are trained by the full softmax with
    Adagrad, distances by HaLE with Adam.
    """
    bilinear = {"complex", "rescal", "distmult_dot", "conve", "tucker"}
    small = known.entities < SMALL
    size = f"{known.entities:,} entities are {'fewer' if small else 'no fewer'} than {SMALL:,}"
    full = fixed.get("model") in bilinear or ("model" not in fixed and small)
    if fixed.get("loss", "all_neg") != "all_neg":
        full = False
    chosen = (
        {"model": "complex", "loss": "all_neg", "activation": "identity", "optimizer": "adagrad"}
        if full
        else {"model": "mure", "loss": "hale", "activation": "hanon", "optimizer": "adam"}
    )
    suits = f"suits {fixed['model']}" if "model" in fixed else size
    return [Choice(g, c, suits) for g, c in chosen.items() if g not in fixed]


def values(known: Facts, chosen: Mapping[str, str], dim: int, steps: float | None) -> list[Choice]:
    """Values for a combination of choices.

    Args:
        known: of the graph.
        chosen: the choice of each config group.
        dim: the embedding dimension.
        steps: that the budget holds; None if that is not known yet.
    """
    rules = deciding_rules(_rules(), chosen, dim)
    fixed = [
        Choice(name, rule.values[name], f"conf/recipe/auto.yaml: {rule}")
        for name, rule in rules.items()
    ]
    return fixed + (_hale(known) if chosen.get("loss") == "hale" else [])


@cache
def _rules() -> list[Rule]:
    return read_rules(conf_dir() / "recipe" / "auto.yaml")


def _hale(known: Facts) -> list[Choice]:
    """Batch size and sampled queries of HaLE."""
    least, most = BATCHES
    batch = least
    while batch < most and 2 * batch <= known.triples / 2:
        batch *= 2
    queries = min(max(PAIRS // known.entities, QUERIES[0]), QUERIES[1])
    alpha = min(0.2, queries / batch)
    return [
        Choice("data.batch_size", batch, f"a power of two, at most {most:,} and half of train"),
        Choice(
            "loss.alpha", round(alpha, 4),
            f"{round(alpha * batch)} queries a step against {known.entities:,} entities",
        ),
    ]  # fmt: skip
