"""A trained model: predictions, scores, ranks and neighbours, by name or by id.

Queries are scored ``QUERIES_AT_ONCE`` at a time and against a chunk of the entities at a time, so
memory for the model is enough for any number of queries and entities.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hale.errors import HaleError, checked, require_type, require_whole
from hale.evaluation.ranking import rank_batch, top_k
from hale.graphs.batches import QueryBatch
from hale.graphs.ids import query_rows, triple_rows
from hale.graphs.indexed import known_answers
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.names import resolve
from hale.graphs.queries import Known, QueryIndex
from hale.models.base import QueryModel
from hale.runs.model_folder import read_model
from hale.runs.naming import Answer, Name, Neighbour, query_ids, triple_ids
from hale.scoring.activations import Activation, Identity
from hale.scoring.comparators import NegativeDot
from hale.scoring.table import ScoreMatrix, Table

if TYPE_CHECKING:
    from hale.evaluation.metrics import RankingMetrics

QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with the names and triples of its graph; no method changes it.

    Args:
        model: in evaluation mode.
        activation: the one that it was trained with; scores are ``-activation(distance)``.
        graph: names and known triples.
        record: ``result.json`` of the run.
        folder: of the run, or of the model, that it was loaded from.
    """

    model: QueryModel
    activation: Activation
    graph: KnowledgeGraph
    record: Mapping[str, Any]
    folder: Path | None = None

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
            relation: of the query.
            head: the given entity when tails are predicted.
            tail: the given entity when heads are predicted.
            k: number of answers at most.
            filter_known: exclude known answers, those in a triple of any split.

        Raises:
            HaleError: an unknown name, k below 1, or not exactly one of head and tail.
        """
        query = self.query(head, relation, tail)
        return self.answers(torch.tensor([query]), k, filter_known)[0]

    def query(self, head: Name | None, relation: Name, tail: Name | None) -> tuple[int, int]:
        """Ids (entity, relation) of a query, a row of :meth:`answers`.

        Raises:
            HaleError: an unknown name, or not exactly one of head and tail.
        """
        return query_ids(self.graph, head, relation, tail)

    def answers(
        self, query_B2: Tensor, k: int = 10, filter_known: bool = False
    ) -> list[list[Answer]]:
        """:meth:`predict` for many queries, each a row from :meth:`query`.

        Raises:
            HaleError: ids that are not whole numbers or out of range, or k below 1.
        """
        require_whole("k", k, at_least=1)
        require_type("filter_known", filter_known, bool)
        query_B3 = F.pad(query_rows(self.graph, query_B2), (0, 1))
        batches = self._batches(query_B3)
        return [row for batch in batches for row in self._top(batch, k, filter_known)]

    def score(self, triples: Iterable[tuple[Name, Name, Name]]) -> NDArray[np.floating[Any]]:
        """``score_T`` of triples (head, relation, tail), each as an answer to (head, relation, ?).

        Higher is more plausible; compare scores within one relation only.

        Raises:
            HaleError: an unknown name.
        """
        scores = [
            self._scores(batch).at(batch.target_B[:, None])[:, 0]
            for batch in self._batches(self.ids(triples))
        ]
        return torch.cat(scores).detach().cpu().numpy() if scores else np.zeros(0, np.float32)

    def plausibility(self, triple_T3: Tensor) -> Tensor:
        """``plausibility_T`` of triples of ids: minus the mean distance over both directions.

        Triple classification compares it with a threshold (:mod:`hale.evaluation.classification`).
        It is taken before the activation, which saturates.

        Raises:
            HaleError: ids that are not whole numbers or out of range.
        """
        query_T3 = self._both_directions(triple_T3)
        distances = [
            -replace(self._scores(batch), activation=Identity()).at(batch.target_B[:, None])[:, 0]
            for batch in self._batches(query_T3)
        ]
        return -torch.cat(distances).view(2, -1).mean(0).cpu() if distances else torch.zeros(0)

    def rank(self, triples: Iterable[tuple[Name, Name, Name]]) -> NDArray[np.float64]:
        """Filtered realistic ranks of triples, ``rank_T2``: of the tail, and of the head.

        1 is best; a tie with one candidate adds 1/2. Known answers of all splits are excluded
        (:mod:`hale.evaluation.ranking`).

        Raises:
            HaleError: an unknown name.
        """
        batches = self._batches(self._both_directions(self.ids(triples)))
        ranks = [rank_batch(self._scores(batch), batch).realistic_B for batch in batches]
        rank_2T = torch.cat(ranks).view(2, -1) if ranks else torch.zeros(2, 0)
        return rank_2T.T.double().cpu().numpy()

    def evaluate(self, triple_T3: Tensor, exclude_own: bool = False) -> "RankingMetrics":
        """Filtered ranking metrics of triples of ids, over both directions.

        With ``exclude_own`` a query's own entity is ranked last, whatever its relation.

        Raises:
            HaleError: no triples, or ids that are not whole numbers or out of range.
        """
        query_T3 = self._both_directions(triple_T3)
        if not len(query_T3):
            raise HaleError("there are no triples to evaluate")
        from hale.evaluation.metrics import RankingMetrics, evaluate  # which take a second

        metrics = RankingMetrics(2 * self.graph.num_relations).to(self._device)
        evaluate(partial(self._scores, exclude_own=exclude_own), self._batches(query_T3), metrics)
        return metrics

    def neighbours(self, entity: Name, k: int = 10) -> list[Neighbour]:
        """The k other entities with the largest cosine similarity, the most similar first.

        Raises:
            HaleError: an unknown name, or k below 1.
        """
        require_whole("k", k, at_least=1)
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
        return dict(zip(self.graph.entities, self.model.entity.detach().cpu().numpy(), strict=True))

    def update(self, add: object = None, remove: object = None, **options: Any) -> "TrainedModel":
        """:func:`hale.update` of this model, which returns another one."""
        import hale  # not from the package, which is above this one

        return hale.update(self, add, remove, **options)

    def ids(self, triples: Iterable[tuple[Name, Name, Name]]) -> Tensor:
        """:func:`hale.runs.naming.triple_ids` of this graph."""
        return triple_ids(self.graph, triples)

    @property
    def _device(self) -> torch.device:
        return self.model.entity.device

    @cached_property
    def _known(self) -> QueryIndex:
        """The known answers of all splits."""
        sizes = self.graph.num_entities, 2 * self.graph.num_relations
        return known_answers(self.graph.splits.values(), *sizes).to(self._device)

    def _both_directions(self, triple_T3: Tensor) -> Tensor:
        return reciprocal(triple_rows(self.graph, triple_T3), self.graph.num_relations)

    def _batches(self, query_T3: Tensor) -> Iterator[QueryBatch]:
        query_3T = query_T3.T.to(self._device)
        for start in range(0, len(query_T3), QUERIES_AT_ONCE):
            entity_B, relation_B, target_B = query_3T[:, start : start + QUERIES_AT_ONCE]
            yield QueryBatch(entity_B, relation_B, target_B, self._known)

    @torch.inference_mode()
    def _scores(self, batch: QueryBatch, exclude_own: bool = False) -> ScoreMatrix:
        scores = self.model.scores(batch.entity_B, batch.relation_B, self.activation)
        return replace(scores, own_B=batch.entity_B) if exclude_own else scores

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


@checked
def load(path: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Load a run's model; nothing in its folder is executed.

    Args:
        path: a run's folder, or the model folder in it.
        device: to predict on.

    Raises:
        ModelFolderError: there is no model folder, or it is damaged or of another format.
    """
    model, activation, graph, record = read_model(Path(path))
    return TrainedModel(model.to(device), activation, graph, record, Path(path))
