"""The known answers of queries: a CSR index on any device."""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import DatasetError

SAMPLE_SEED = 0
"""Of samples of validation and test queries, in every run."""


class Known(NamedTuple):
    """Known answers to exclude from each row; row n's are ``answer_A[start_N[n]:stop_N[n]]``.

    They ascend, without repetition. Rows are slices of one array, that of a :class:`QueryIndex`:
    looking them up copies no answers and does not synchronise with the device.
    """

    start_N: Tensor
    stop_N: Tensor
    answer_A: Tensor

    @classmethod
    def of_pairs(cls, row_P: Tensor, entity_P: Tensor, num_rows: int) -> "Known":
        """From distinct pairs (row, entity) in any order."""
        order_P = entity_P.argsort()
        order_P = order_P[row_P[order_P].argsort(stable=True)]
        edge_N = torch.bincount(row_P, minlength=num_rows).cumsum(0)
        return cls(F.pad(edge_N, (1, 0))[:-1], edge_N, entity_P[order_P])

    def rows(self, rows: slice | Tensor) -> "Known":
        """The known answers of some rows, numbered from 0: of a slice or of indices."""
        return Known(self.start_N[rows], self.stop_N[rows], self.answer_A)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All pairs as ``row_P`` and ``entity_P``, by row. Synchronises with a CUDA device."""
        count_N = self.stop_N - self.start_N
        row_P = torch.repeat_interleave(count_N)
        shift_N = self.stop_N - count_N.cumsum(0)
        at_P = torch.arange(len(row_P), device=row_P.device) + shift_N.index_select(0, row_P)
        return row_P, self.answer_A.index_select(0, at_P)


def with_own(known: Known | None, own_B: Tensor) -> Known:
    """Known answers and one more entity of each row, unless that is -1 or known already."""
    own_row_P = (own_B >= 0).nonzero().flatten()
    if known is None:
        return Known.of_pairs(own_row_P, own_B[own_row_P], len(own_B))
    row_P, entity_P = known.pairs()
    key_P, own_key_P = row_P << 32 | entity_P, own_row_P << 32 | own_B[own_row_P]
    place_P = torch.searchsorted(key_P, own_key_P)
    is_new_P = F.pad(key_P, (0, 1), value=-1)[place_P] != own_key_P
    place_P, own_row_P = place_P[is_new_P], own_row_P[is_new_P]
    before_P = torch.bincount(place_P, minlength=len(key_P))[: len(key_P)].cumsum(0)
    answer_P = entity_P.new_empty(len(entity_P) + len(place_P))
    answer_P[torch.arange(len(entity_P), device=own_B.device) + before_P] = entity_P
    answer_P[torch.arange(len(place_P), device=own_B.device) + place_P] = own_B[own_row_P]
    count_B = known.stop_N - known.start_N + torch.bincount(own_row_P, minlength=len(own_B))
    stop_B = count_B.cumsum(0)
    return Known(stop_B - count_B, stop_B, answer_P)


class QueryIndex:
    """CSR map (entity, relation) -> answers, as tensors on one device.

    Built once from queries; lookups are vectorised, without a Python object per query. It is used
    to mask known training answers, to filter ranks, and to filter negative samples.

    Args:
        entity_T: entity of each query.
        relation_T: relation of each query.
        answer_T: an answer to each query; repeated triples count once.
        num_entities: E.
        num_relations: 2R.

    Raises:
        ValueError: no queries.
        DatasetError: too many entities and relations to number triples in int64.
    """

    def __init__(
        self,
        entity_T: Tensor,
        relation_T: Tensor,
        answer_T: Tensor,
        num_entities: int,
        num_relations: int,
    ) -> None:
        if len(answer_T) == 0:
            raise ValueError("an index needs at least one query")
        if num_entities**2 * num_relations > torch.iinfo(torch.int64).max:
            raise DatasetError(
                f"{num_entities} entities and {num_relations} relations are too many: "
                "E * E * 2R must be below 2^63"
            )
        self.num_entities = num_entities
        self.num_relations = num_relations
        triple_T = self._query_id(entity_T, relation_T) * num_entities + answer_T
        self._triple_T: Tensor = torch.unique(triple_T)  # sorted: by query, then by answer
        self._answer_T = self._triple_T % num_entities
        query_T = self._triple_T // num_entities
        self._query_Q, count_Q = torch.unique_consecutive(query_T, return_counts=True)
        self._offset_Q = torch.cat((count_Q.new_zeros(1), count_Q.cumsum(0)))

    def _query_id(self, entity: Tensor, relation: Tensor) -> Tensor:
        return entity * self.num_relations + relation

    def to(self, device: torch.device | str) -> Self:
        """The same index on ``device``."""
        moved = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(moved, name, value.to(device) if isinstance(value, Tensor) else value)
        return moved

    def lookup(self, entity_B: Tensor, relation_B: Tensor) -> Known:
        """All known answers of each query."""
        query_B = self._query_id(entity_B, relation_B)
        at_B = torch.searchsorted(self._query_Q, query_B).clamp(max=len(self._query_Q) - 1)
        found_B = self._query_Q[at_B] == query_B
        start_B = self._offset_Q[at_B]
        return Known(
            start_B, torch.where(found_B, self._offset_Q[at_B + 1], start_B), self._answer_T
        )

    def contains(self, entity_B: Tensor, relation_B: Tensor, candidate_BK: Tensor) -> Tensor:
        """Whether each candidate is a known answer of its query, ``bool_BK``."""
        query_B1 = self._query_id(entity_B, relation_B)[:, None]
        triple_BK = query_B1 * self.num_entities + candidate_BK
        at_BK = torch.searchsorted(self._triple_T, triple_BK).clamp(max=len(self._triple_T) - 1)
        return self._triple_T[at_BK] == triple_BK


def sample_queries(query_T3: Tensor, count: int | None) -> Tensor:
    """``count`` rows drawn without replacement, in their order; all if None or if fewer.

    The draw depends on the number of rows alone, and a smaller sample is part of a larger one.
    """
    if count is None or count >= len(query_T3):
        return query_T3
    order_T = torch.randperm(len(query_T3), generator=torch.Generator().manual_seed(SAMPLE_SEED))
    return query_T3[order_T[:count].sort().values.to(query_T3.device)]
