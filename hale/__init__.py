r"""hale: a strong knowledge graph embedding on one small device, in minutes.

The data's way through the package::

    train.txt -> KnowledgeGraph -> queries (entity, relation) -> query vector
              -> distance to entities -> activation -> score -> loss
                                                         \-> ranks -> result.json -> tables

Every triple (head, relation, tail) is two queries, ``(head, relation) -> tail`` and
``(tail, relation + R) -> head``; there is only ``(entity, relation) -> entity`` anywhere.

Shapes are part of names (``query_BD``, ``score_BE``):

    B  queries in a batch              N  queries sampled for the uniformity term
    E  all entities                    R  relations of the graph (2R with the reciprocal ones)
    K  candidates per query            D  embedding dimension
    P  (row, entity) pairs             T  triples
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hale.runs.trained import load

__all__ = ["load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import :func:`hale.runs.trained.load`, and PyTorch with it, on first use."""
    if name == "load":
        from hale.runs.trained import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
