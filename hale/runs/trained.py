"""A trained model and the questions to ask of it, by name or by id.

::

    model = hale.load("outputs/rotl_hale_hanon_family/...")
    model.predict(head="Ada Berg", relation="mother_of", k=5, filter_known=True)

Everything here holds scores of ``QUERIES_AT_ONCE`` queries at most, and of those a chunk, so any
number of queries and entities fits into memory that holds the model.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hale.data.queries import Known, QueryBatch, QueryIndex
from hale.errors import HaleError
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.evaluation.ranking import rank_batch, top_k
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.names import resolve
from hale.models.base import QueryModel
from hale.runs.model_folder import read_model
from hale.scoring.activations import Activation, Identity
from hale.scoring.comparators import NegativeDot
from hale.scoring.matrix import ScoreMatrix
from hale.scoring.table import Table

QUERIES_AT_ONCE = 256

Name = str | int
"""A name, or an id (as an int, or as ``id:7`` where nothing is named that)."""


class Answer(NamedTuple):
    """An entity that answers a query, and whether a triple of the graph already says so."""

    entity: str
    id: int
    score: float
    known: bool


class Neighbour(NamedTuple):
    """An entity and the cosine of the angle between its vector and that of another."""

    entity: str
    id: int
    cosine: float


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with the names and triples of its graph; its methods change nothing.

    Args:
        model: in evaluation mode.
        activation: what it was trained with; scores are ``-activation(distance)``.
        graph: names, and the triples that are known.
        record: ``result.json`` of the run.
    """

    model: QueryModel
    activation: Activation
    graph: KnowledgeGraph
    record: Mapping[str, Any]

    def predict(
        self,
        *,
        relation: Name,
        head: Name | None = None,
        tail: Name | None = None,
        k: int = 10,
        filter_known: bool = False,
    ) -> list[Answer]:
        """The k best tails of (head, relation, ?), or heads of (?, relation, tail), best first.

        Args:
            relation: a relation.
            head: the given entity, if tails are asked for.
            tail: the given entity, if heads are asked for.
            k: how many answers, at most.
            filter_known: leave out entities that a triple of any split names as an answer.

        Raises:
            HaleError: an unknown name, k below 1, or not exactly one of head and tail.
        """
        query = self.query(head, relation, tail)
        return self.answers(torch.tensor([query]), k, filter_known)[0]

    def query(self, head: Name | None, relation: Name, tail: Name | None) -> tuple[int, int]:
        """Ids (entity, relation) of a query; asking for a head, the relation is a reciprocal one.

        Raises:
            HaleError: an unknown name, or not exactly one of head and tail.
        """
        given = [entity for entity in (head, tail) if entity is not None]
        if len(given) != 1:
            raise HaleError("give exactly one of head and tail: the other is what is predicted")
        at_relation = resolve("relation", self.graph.relation_id, relation)
        direction = self.graph.num_relations if head is None else 0
        return resolve("entity", self.graph.entity_id, given[0]), at_relation + direction

    def answers(
        self, query_B2: Tensor, k: int = 10, filter_known: bool = False
    ) -> list[list[Answer]]:
        """:meth:`predict` of many queries, rows as :meth:`query` makes them."""
        if k < 1:
            raise HaleError(f"k must be at least 1, got {k}")
        return [
            row
            for batch in self._batches(F.pad(query_B2, (0, 1)))
            for row in self._top(batch, k, filter_known)
        ]

    def score(self, triples: Iterable[tuple[Name, Name, Name]]) -> NDArray[np.floating[Any]]:
        """``score_T`` of triples (head, relation, tail), each as an answer to (head, relation, ?).

        Scores are at most comparable within one relation; the higher, the likelier.

        Raises:
            HaleError: an unknown name.
        """
        scores = [
            self._scores(batch).at(batch.target_B[:, None])[:, 0]
            for batch in self._batches(self.ids(triples))
        ]
        return _numpy(torch.cat(scores)) if scores else np.zeros(0, np.float32)

    def plausibility(self, triple_T3: Tensor) -> Tensor:
        """``plausibility_T`` of int64 triples: minus the mean distance, as a tail and as a head.

        What a threshold tells true triples from false ones by
        (:mod:`hale.evaluation.classification`): no activation has flattened it.
        """
        query_T3 = reciprocal(triple_T3, self.graph.num_relations)
        distances = [
            -replace(self._scores(batch), activation=Identity()).at(batch.target_B[:, None])[:, 0]
            for batch in self._batches(query_T3)
        ]
        return -torch.cat(distances).view(2, -1).mean(0).cpu() if distances else torch.zeros(0)

    def rank(self, triples: Iterable[tuple[Name, Name, Name]]) -> NDArray[np.float64]:
        """Filtered realistic ranks of triples, ``rank_T2``: of the tail, and of the head.

        1 is the best; a tie with one rival costs 1/2. The known answers of all splits are no
        rivals (:mod:`hale.evaluation.ranking`).

        Raises:
            HaleError: an unknown name.
        """
        query_T3 = reciprocal(self.ids(triples), self.graph.num_relations)
        ranks = [
            rank_batch(self._scores(batch), batch).realistic_B for batch in self._batches(query_T3)
        ]
        rank_2T = torch.cat(ranks).view(2, -1) if ranks else torch.zeros(2, 0)
        return rank_2T.T.double().cpu().numpy()

    def evaluate(self, triple_T3: Tensor) -> RankingMetrics:
        """Ranking metrics of int64 triples, both directions of each, the known ones filtered.

        Raises:
            HaleError: no triples.
        """
        if not len(triple_T3):
            raise HaleError("there are no triples to evaluate")
        metrics = RankingMetrics(2 * self.graph.num_relations).to(self._device)
        query_T3 = reciprocal(triple_T3, self.graph.num_relations)
        evaluate(self._scores, self._batches(query_T3), metrics)
        return metrics

    def neighbours(self, entity: Name, k: int = 10) -> list[Neighbour]:
        """The k other entities whose vectors point most nearly the same way, the nearest first.

        Raises:
            HaleError: an unknown name, or k below 1.
        """
        if k < 1:
            raise HaleError(f"k must be at least 1, got {k}")
        at = torch.tensor([resolve("entity", self.graph.entity_id, entity)], device=self._device)
        unit_ED = F.normalize(self.model.entity.detach(), dim=1)
        one_B = unit_ED.new_ones(1)
        scores = ScoreMatrix(unit_ED[at], one_B, Table(unit_ED), NegativeDot(), Identity())
        near_1K = top_k(scores, k, Known.of_pairs(torch.zeros_like(at), at, 1))
        cosines = scores.at(near_1K.clamp(min=0))[0].tolist()
        return [
            Neighbour(self.graph.entities[e], e, cosine)
            for e, cosine in zip(near_1K[0].tolist(), cosines, strict=True)
            if e >= 0
        ]

    def embeddings(self) -> dict[str, NDArray[np.floating[Any]]]:
        """The vector of each entity, by name."""
        return dict(zip(self.graph.entities, _numpy(self.model.entity), strict=True))

    def ids(self, triples: Iterable[tuple[Name, Name, Name]]) -> Tensor:
        """Triples of names or ids as int64 ids of shape (T, 3).

        Raises:
            HaleError: an unknown name, or something that is no triple.
        """
        entity_id, relation_id = self.graph.entity_id, self.graph.relation_id
        rows = []
        for triple in triples:
            if isinstance(triple, str) or len(triple) != 3:
                raise HaleError(f"a triple is (head, relation, tail), got {triple!r}")
            head, relation, tail = triple
            rows.append(
                (
                    resolve("entity", entity_id, head),
                    resolve("relation", relation_id, relation),
                    resolve("entity", entity_id, tail),
                )
            )
        return torch.tensor(rows, dtype=torch.int64).view(-1, 3)

    @property
    def _device(self) -> torch.device:
        return self.model.entity.device

    @cached_property
    def _known(self) -> QueryIndex:
        """Answers of all splits."""
        known_T3 = reciprocal(torch.cat(list(self.graph.splits.values())), self.graph.num_relations)
        entity_T, relation_T, answer_T = known_T3.unbind(1)
        num_relations = 2 * self.graph.num_relations
        index = QueryIndex(entity_T, relation_T, answer_T, self.graph.num_entities, num_relations)
        return index.to(self._device)

    def _batches(self, query_T3: Tensor) -> Iterator[QueryBatch]:
        query_3T = query_T3.T.to(self._device)
        for start in range(0, len(query_T3), QUERIES_AT_ONCE):
            entity_B, relation_B, target_B = query_3T[:, start : start + QUERIES_AT_ONCE]
            yield QueryBatch(entity_B, relation_B, target_B, self._known)

    @torch.inference_mode()
    def _scores(self, batch: QueryBatch) -> ScoreMatrix:
        return self.model.scores(batch.entity_B, batch.relation_B, self.activation)

    @torch.inference_mode()
    def _top(self, batch: QueryBatch, k: int, filter_known: bool) -> list[list[Answer]]:
        scores = self._scores(batch)
        best_BK = top_k(scores, k, batch.known(len(batch)) if filter_known else None)
        filled_BK = best_BK.clamp(min=0)
        columns = (best_BK, scores.at(filled_BK), batch.is_answer(filled_BK))
        return [
            [
                Answer(self.graph.entities[e], e, score, known)
                for e, score, known in zip(*row, strict=True)
                if e >= 0
            ]
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]


def load(path: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Load a run's model; nothing in its folder is executed.

    Args:
        path: a run's folder, or the model's folder in it.
        device: where to predict.

    Raises:
        ModelFolderError: no model folder, a damaged one, or one of another format.
    """
    model, activation, graph, record = read_model(Path(path).expanduser())
    return TrainedModel(model.to(device), activation, graph, record)


def _numpy(value: Tensor) -> NDArray[np.floating[Any]]:
    return value.detach().cpu().numpy()
