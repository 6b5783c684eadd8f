"""PyKEEN's models as hale's scores, so that one ranking serves both.

TransE, RotatE and ComplEx are a query vector and a comparator: ``h + r`` or the complex product
``h r``, held against entities by Euclidean distance or by the real part of the inner product. A
model without inverse relations answers a head query as PyKEEN scores heads: with ``-r``, or with
the conjugate of r, which for RotatE's rotations is the inverse.
"""

from collections.abc import Callable

import torch
from pykeen.models import ComplEx, ERModel, RotatE, TransE
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from hale.graphs.batches import QueryBatch
from hale.graphs.kg import KnowledgeGraph
from hale.models.euclidean import complex_multiply
from hale.scoring.activations import Identity
from hale.scoring.comparators import Comparator, NegativeDot, SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table


def factory(graph: KnowledgeGraph, inverse: bool = False) -> CoreTriplesFactory:
    """The training triples for PyKEEN, with hale's ids; with inverse relations if so asked."""
    return CoreTriplesFactory(graph.train, graph.num_entities, graph.num_relations, inverse)


@torch.no_grad()
def scorer(model: ERModel) -> Callable[[QueryBatch], ScoreMatrix]:
    """Scores of hale's queries by the vectors that ``model`` has now.

    Raises:
        TypeError: the model is none of TransE by the Euclidean norm, RotatE and ComplEx.
    """
    entity, relation = (
        representations[0](indices=None).detach()
        for representations in (model.entity_representations, model.relation_representations)
    )
    combine: Callable[[Tensor, Tensor], Tensor]
    comparator: Comparator
    if isinstance(model, TransE) and model.interaction.p == 2:
        combine, comparator, opposite = torch.add, SquaredEuclidean(), -relation
    elif isinstance(model, RotatE):
        combine, comparator, opposite = complex_multiply, SquaredEuclidean(), relation.conj()
    elif isinstance(model, ComplEx):
        combine, comparator, opposite = complex_multiply, NegativeDot(), relation.conj()
    else:
        raise TypeError(f"{type(model).__name__} is not known here")
    if model.use_inverse_triples:  # relation r has the rows 2r and, inverse, 2r + 1
        relation, opposite = relation[0::2], relation[1::2]
    relation_RD, entity_ED = _real(torch.cat((relation, opposite))), _real(entity)

    def score(batch: QueryBatch) -> ScoreMatrix:
        query_BD = combine(entity_ED[batch.entity_B], relation_RD[batch.relation_B])
        ones_B = torch.ones(len(batch))
        return ScoreMatrix(query_BD, ones_B, Table(entity_ED), comparator, Identity())

    return score


def _real(vectors: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    if vectors.is_complex():
        vectors = torch.view_as_real(vectors.resolve_conj()).flatten(1)
    return vectors.contiguous()
