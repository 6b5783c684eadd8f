"""Slow, obvious computations in plain Python that tests hold the package against."""

from collections.abc import Iterable, Sequence


def rank_by_hand(
    distances: Sequence[float], target: int, known: Iterable[int]
) -> tuple[int, int, int]:
    """Optimistic rank, pessimistic rank and number of candidates of one target."""
    rivals = [e for e in range(len(distances)) if e != target and e not in set(known)]
    nearer = [e for e in rivals if distances[e] < distances[target]]
    as_near = [e for e in rivals if distances[e] == distances[target]]
    return 1 + len(nearer), 1 + len(nearer) + len(as_near), 1 + len(rivals)
