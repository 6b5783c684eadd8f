"""Whether anything can be ranked: a query whose other candidates are all known answers cannot."""

from collections.abc import Iterable

from hale.errors import DatasetError
from hale.graphs.batches import QueryBatch

DIRECTIONS = ("", "tail/", "head/")


def rankable(batches: Iterable[QueryBatch], num_entities: int, num_relations: int) -> set[str]:
    """The directions with a query that has another candidate than its target.

    Args:
        batches: of a ranking loader.
        num_entities: E.
        num_relations: 2R.

    Returns:
        Of :data:`DIRECTIONS`; the empty text is both together.
    """
    found: set[str] = set()
    for batch in batches:
        # the target is one of the known answers, which are those of all splits
        many_B = num_entities - batch.known_counts() > 0
        tail_B = batch.relation_B < num_relations // 2
        for direction, of_direction_B in (("tail/", tail_B), ("head/", ~tail_B)):
            if (many_B & of_direction_B).any():
                found |= {"", direction}
        if len(found) == len(DIRECTIONS) and batch.shard is None:
            break
    return found


def require_rankable(found: set[str], name: str, split: str, metric: str = "mrr") -> None:
    """Raise DatasetError if nothing of a split can be ranked, or not what a metric is of.

    Args:
        found: of :func:`rankable`.
        name: of the graph.
        split: ``valid`` or ``test``.
        metric: that is needed, as ``head/mrr``.
    """
    if not found:
        raise DatasetError(
            f"{name}: nothing in {split} can be ranked, as to each of its queries every other "
            f"entity is a known answer: {split} needs a query with a wrong answer"
        )
    direction = metric.removesuffix(metric.rsplit("/", 1)[-1])
    if direction not in found:
        raise DatasetError(
            f"{name}: {split}/{metric} is not defined, as no query of {split} that predicts "
            f"{direction.removesuffix('/')}s has a wrong answer: choose another monitor"
        )
