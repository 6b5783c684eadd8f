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

from typing import TYPE_CHECKING, Any

from hale.version import __version__

if TYPE_CHECKING:
    from hale.runs.trained import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import :func:`hale.runs.trained.load`, and with it PyTorch, on first use."""
    if name == "load":
        from hale.runs.trained import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
