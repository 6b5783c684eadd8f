"""Trained models that a student learns from (:mod:`hale.losses.distillation`)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.models.base import QueryModel
from hale.runs.model_folder import read_model
from hale.scoring.activations import Activation


class TrainedTeacher(nn.Module):
    """A trained model, asked by the ids of another graph; it follows them to their device.

    Args:
        model: in evaluation mode.
        activation: the one that it was trained with.
        entity_E: the model's id of each of the other graph's entities.
        relation_R: the same of relations, reciprocal ones included.
        train_seconds: of its training.
    """

    entity_E: Tensor
    relation_R: Tensor

    def __init__(
        self,
        model: QueryModel,
        activation: Activation,
        entity_E: Tensor,
        relation_R: Tensor,
        train_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.activation, self.train_seconds = model, activation, train_seconds
        self.register_buffer("entity_E", entity_E)
        self.register_buffer("relation_R", relation_R)

    @torch.no_grad()
    def scores(self, entity_B: Tensor, relation_B: Tensor, candidate_BX: Tensor) -> Tensor:
        """Its scores of chosen entities, ``score_BX``, without a gradient."""
        self.to(entity_B.device)
        query = self.entity_E[entity_B], self.relation_R[relation_B]
        return self.model.scores(*query, self.activation).at(self.entity_E[candidate_BX])


def read_teachers(folders: Sequence[str], graph: KnowledgeGraph) -> list[TrainedTeacher]:
    """The models of some folders, asked by the ids of ``graph``; names decide which is which.

    Raises:
        HaleError: a folder has no model, or one of a graph that lacks a name of ``graph``.
    """
    return [_read_teacher(folder, graph) for folder in folders]


def _read_teacher(folder: str, graph: KnowledgeGraph) -> TrainedTeacher:
    model, activation, own, record = read_model(Path(folder))
    where = f"loss.teachers: {folder}, trained on {own.name},"
    entity_E = _ids(where, "entity", graph.entities, own.entities)
    relation_R = _ids(where, "relation", graph.relations, own.relations)
    both_R = torch.cat((relation_R, relation_R + own.num_relations))
    return TrainedTeacher(model, activation, entity_E, both_R, float(record["train_seconds"]))


def _ids(where: str, kind: str, names: Sequence[str], own: Sequence[str]) -> Tensor:
    id_of = {name: i for i, name in enumerate(own)}
    missing = [name for name in names if name not in id_of]
    if missing:
        raise HaleError(
            f"{where} lacks {len(missing):,} of the {len(names):,} {kind} names, such as "
            f"{missing[0]}: give a model that was trained on the same graph"
        )
    return torch.tensor([id_of[name] for name in names])


def teacher_seconds(loss: object) -> dict[str, float]:
    """``teacher_seconds``, of the training of all teachers of a loss; empty if it has none."""
    teachers = [t for t in getattr(loss, "teachers", ()) if isinstance(t, TrainedTeacher)]
    return {"teacher_seconds": sum(t.train_seconds for t in teachers)} if teachers else {}
