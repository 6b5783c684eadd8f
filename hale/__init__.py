r"""hale: strong knowledge graph embeddings on one small device, in minutes.

From data to results::

    train.txt -> KnowledgeGraph -> queries (entity, relation) -> query vector
              -> distance to entities -> activation -> score -> loss
                                                         \-> ranks -> result.json -> tables

Every triple (head, relation, tail) becomes two queries, ``(head, relation) -> tail`` and
``(tail, relation + R) -> head``, so the whole package predicts ``(entity, relation) -> entity``.

The names of tensors end in their shapes (``query_BD``, ``score_BE``):

    B  queries in a batch              N  queries sampled for the uniformity term
    E  all entities                    R  relations of the graph (2R with the reciprocal ones)
    K  candidates per query            D  embedding dimension
    P  (row, entity) pairs             T  triples
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hale.version import __version__

if TYPE_CHECKING:
    from hale.graphs.kg import KnowledgeGraph
    from hale.runs.trained import load
    from hale.training.fit import fit
    from hale.training.update import update

__all__ = ["KnowledgeGraph", "__version__", "fit", "load", "update"]

_HOMES = {
    "KnowledgeGraph": "hale.graphs.kg", "fit": "hale.training.fit", "load": "hale.runs.trained",
    "update": "hale.training.update",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what Python users need, and with it PyTorch, on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
