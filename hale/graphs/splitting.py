"""A split of triples drawn from a seed that leaves nothing unseen in valid and test."""

import math

import numpy as np
import torch
from torch import Tensor

from hale.errors import DatasetError


def split(triple_T3: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Train, valid and test, each in the order of ``triple_T3``, the same on every platform.

    In a random order, the first triple of each entity and of each relation belongs to train; valid
    and test are the first of the rest.

    Args:
        triple_T3: int64 of shape (T, 3), no triple twice.
        held_out: share of the triples for valid, and as much for test, in (0, 1/2).
        seed: of the order.

    Raises:
        DatasetError: a share or a seed out of range, or too few triples that train can spare.
    """
    if not 0 < held_out < 0.5:
        raise DatasetError(f"dataset.held_out must be between 0 and 0.5, got {held_out}")
    if seed < 0:
        raise DatasetError(f"dataset.seed must be at least 0, got {seed}")
    count = len(triple_T3)
    size = math.ceil(held_out * count)
    order_T = np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
    head_T, relation_T, tail_T = triple_T3.numpy()[order_T].T
    spare_T = np.ones(count, bool)
    for name_X in (np.concatenate((head_T, tail_T)), relation_T):
        _, first = np.unique(name_X, return_index=True)
        spare_T[first % count] = False
    spare = order_T[spare_T]
    if len(spare) < 2 * size:
        raise DatasetError(
            f"only {len(spare)} of {count} triples can be held out without leaving an entity "
            f"unseen in train, {2 * size} are wanted: lower dataset.held_out, or give a folder "
            "with train, valid and test"
        )
    part_T = np.zeros(count, np.int64)
    part_T[spare[:size]], part_T[spare[size : 2 * size]] = 1, 2
    train_T3, valid_T3, test_T3 = (triple_T3[torch.from_numpy(part_T == part)] for part in range(3))
    return train_T3, valid_T3, test_T3
