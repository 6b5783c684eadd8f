"""Models of graphs that grow: trained rows are kept, and new entities start near their neighbours.

The answer to a query lies where the model maps the query, so a new entity starts at the mean of
its queries' vectors: of (head, relation, ?) for each triple in which it is the tail, and of
(tail, reciprocal relation, ?) for each in which it is the head. An entity of which all neighbours
are new follows when these have their places.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hale.models.base import QueryModel
from hale.models.hyperbolic import HyperbolicModel, log0

QUERIES_AT_ONCE = 65_536
TINY = 1e-12


def row_kinds(make: Callable[[int, int], QueryModel]) -> dict[str, str]:
    """Whether a tensor of a model has a row per ``entity`` or per ``relation``, by its name.

    Args:
        make: the model for numbers of entities and relations, reciprocal ones included.
    """
    with torch.device("meta"):
        base, entity, relation = (
            {name: value.shape for name, value in make(*sizes).state_dict().items()}
            for sizes in ((2, 2), (3, 2), (2, 4))
        )
    kinds = {name: "entity" for name, shape in base.items() if entity[name] != shape}
    return kinds | {name: "relation" for name, shape in base.items() if relation[name] != shape}


def carry(old: Tensor, new: Tensor, kind: str | None) -> Tensor:
    """``new`` with the rows of ``old`` in their places; ``old`` itself if it has no such rows.

    Relations are followed by their reciprocals, so those of new relations lie in between.

    Args:
        old: of the smaller model.
        new: of the larger model.
        kind: of its rows, from :func:`row_kinds`.
    """
    if kind is None:
        return old.clone()
    carried = new.clone()
    if kind == "entity":
        carried[: len(old)] = old
    else:
        half = len(old) // 2
        carried[:half] = old[:half]
        carried[len(new) // 2 :][:half] = old[half:]
    return carried


def grow_model(
    model: QueryModel, old: Mapping[str, Tensor], kinds: Mapping[str, str], query_T3: Tensor
) -> None:
    """Give a fresh model the tensors of a smaller one, and new entities their places.

    Args:
        model: of the grown graph; changed in place.
        old: tensors of the model of the graph before, by name.
        kinds: from :func:`row_kinds`.
        query_T3: training queries (entity, relation) of the grown graph and their answers.
    """
    state = model.state_dict()
    carried = {name: carry(old[name], value, kinds.get(name)) for name, value in state.items()}
    model.load_state_dict(carried)
    relation = next((name for name, kind in kinds.items() if kind == "relation"), None)
    old_relations = len(old[relation]) // 2 if relation else model.num_relations // 2
    place_entities(model, query_T3, len(old["entity"]), old_relations)


@torch.no_grad()
def place_entities(
    model: QueryModel, query_T3: Tensor, old_entities: int, old_relations: int
) -> None:
    """Move the vectors of new entities to the means of their queries' vectors, in place.

    Queries of new relations are left out. An entity without a path of other relations to an old
    entity keeps its vector.

    Args:
        model: in which the first entities and relations are trained.
        query_T3: training queries (entity, relation) and their answers.
        old_entities: number of trained entities.
        old_relations: number of trained relations, without reciprocal ones.
    """
    training = model.training
    model.eval()
    placed_E = torch.arange(model.num_entities, device=model.entity.device) < old_entities
    is_old_T = query_T3[:, 1] % (model.num_relations // 2) < old_relations
    query_T3 = query_T3[is_old_T & ~placed_E[query_T3[:, 2]]]
    while True:
        ready_T = placed_E[query_T3[:, 0]]
        if not ready_T.any():
            break
        found_F, vector_FD = _means(model, query_T3[ready_T], old_entities)
        model.entity[found_F] = vector_FD
        placed_E[found_F] = True
        query_T3 = query_T3[~placed_E[query_T3[:, 2]]]
    model.train(training)


def _means(model: QueryModel, query_T3: Tensor, old_entities: int) -> tuple[Tensor, Tensor]:
    """The distinct answers of queries, and the mean of the vectors of each one's queries.

    Their lengths are those of trained vectors on average: means are shorter, and near the origin
    a vector is a neighbour of too many queries. Of a dot product only the direction is known.
    """
    found_F, row_T = torch.unique(query_T3[:, 2], return_inverse=True)
    sum_FD = model.entity.new_zeros(len(found_F), model.dim)
    for start in range(0, len(query_T3), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        entity_B, relation_B, _ = query_T3[rows].unbind(1)
        sum_FD.index_add_(0, row_T[rows], _answers(model, entity_B, relation_B))
    mean_FD = sum_FD / row_T.bincount()[:, None]
    length = torch.linalg.vector_norm(model.entity[:old_entities], dim=1).mean()
    own_F1 = torch.linalg.vector_norm(mean_FD, dim=1, keepdim=True)
    return found_F, mean_FD * (length / own_F1.clamp(min=TINY))


def _answers(model: QueryModel, entity_B: Tensor, relation_B: Tensor) -> Tensor:
    """The entity vectors that queries are nearest to, ``vector_BD``."""
    query_BD = model.query(model.entity[entity_B], relation_B)[:, : model.dim]
    if isinstance(model, HyperbolicModel):
        return log0(query_BD, model.scale(relation_B)[:, None])
    return query_BD
