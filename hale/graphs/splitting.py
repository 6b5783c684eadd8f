"""A random split of triples in which valid and test contain no unseen entity or relation."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hale.errors import DatasetError, require, require_whole


def split(triple_T3: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Train, valid and test, each in the order of ``triple_T3``, the same on every platform.

    Args, Raises: as of :func:`draw`.
    """
    part_T = torch.from_numpy(draw(triple_T3.numpy(), held_out, seed))
    return triple_T3[part_T == 0], triple_T3[part_T == 1], triple_T3[part_T == 2]


def draw(triple_T3: npt.NDArray[np.int64], held_out: float, seed: int) -> npt.NDArray[np.int8]:
    """The split of each triple: 0 for train, 1 for valid, 2 for test; shape (T,).

    The triples are shuffled. One triple of each entity is kept for train: the first with the entity
    as head, or if it is never a head, the first with it as tail. So is the first triple of each
    relation. Valid, then test, are taken from the beginning of the others; the rest is train.

    Args:
        triple_T3: shape (T, 3), without repeated triples.
        held_out: share of the triples in valid, and in test; in (0, 1/2).
        seed: of the order; at least 0.

    Raises:
        ArgumentError: the share or the seed is out of range.
        DatasetError: too few triples remain to be held out.
    """
    require("held_out", held_out, above=0, below=0.5)
    require_whole("seed", seed, at_least=0)
    count = len(triple_T3)
    size = math.ceil(held_out * count)
    order_T = np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
    head_T, relation_T, tail_T = triple_T3[order_T].T
    free_T = np.ones(count, bool)
    for id_X in (np.concatenate((head_T, tail_T)), relation_T):
        first = np.full(id_X.max() + 1, len(id_X))
        np.minimum.at(first, id_X, np.arange(len(id_X)))
        free_T[first[first < len(id_X)] % count] = False
    free = order_T[free_T]
    if len(free) < 2 * size:
        raise DatasetError(
            f"only {len(free)} of {count} triples can be held out without leaving an entity or "
            f"relation unseen in train, {2 * size} are needed: lower dataset.held_out, or give a "
            "folder with train, valid and test"
        )
    part_T = np.zeros(count, np.int8)
    part_T[free[:size]], part_T[free[size : 2 * size]] = 1, 2
    return part_T
