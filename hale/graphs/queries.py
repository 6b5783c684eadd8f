"""The known answers of queries: a CSR index on any device."""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import DatasetError
from hale.graphs.ids import grouped, least
from hale.graphs.named_triples import MOST


class Known(NamedTuple):
    """Known answers to exclude from each row; row n's are ``answer_A[start_N[n]:stop_N[n]]``.

    They ascend, without repetition. Rows are slices of one array, that of a :class:`QueryIndex`:
    looking them up copies no answers and does not synchronise with the device. The answers are
    int32 or int64, the rest is int64.
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
        """All pairs as int64 ``row_P`` and ``entity_P``, by row. Synchronises on CUDA."""
        count_N = self.stop_N - self.start_N
        row_P = torch.repeat_interleave(count_N)
        shift_N = self.stop_N - count_N.cumsum(0)
        at_P = torch.arange(len(row_P), device=row_P.device) + shift_N.index_select(0, row_P)
        return row_P, self.answer_A.index_select(0, at_P).to(torch.int64)


def with_own(known: Known | None, own_B: Tensor) -> Known:
    """Known answers and one more entity of each row, unless that is -1 or known already."""
    own_row_P = (own_B >= 0).nonzero().flatten()
    if known is None:
        return Known.of_pairs(own_row_P, own_B[own_row_P], len(own_B))
    row_P, entity_P = known.pairs()
    bits = 63 - len(own_B).bit_length()
    key_P, own_key_P = row_P << bits | entity_P, own_row_P << bits | own_B[own_row_P]
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
    to mask known training answers, to filter ranks, and to filter negative samples. It has no row
    per entity: a query that has answers takes 8 bytes and an answer 4, or up to twice as many where
    E, E x 2R or the number of answers is 2^31 or more.

    Args:
        entity_T: entity of each query.
        relation_T: relation of each query.
        answer_T: an answer to each query; repeated triples count once.
        num_entities: E.
        num_relations: 2R.

    Raises:
        DatasetError: too many entities and relations to number queries in int64.
    """

    def __init__(
        self,
        entity_T: Tensor,
        relation_T: Tensor,
        answer_T: Tensor,
        num_entities: int,
        num_relations: int,
    ) -> None:
        self.num_entities = num_entities
        self.num_relations = num_relations
        num_queries = num_entities * num_relations
        if num_queries > MOST:
            raise DatasetError(
                f"{num_entities} entities and {num_relations} relations are too many: E * 2R must "
                "be below 2^63"
            )
        query_T = self._query_id(entity_T, relation_T)
        query_Q, count_Q, self._answer_A = grouped(query_T, answer_T, num_entities, num_queries)
        self._longest = int(count_Q.max()) if len(count_Q) else 0
        # after the last query one that no query is, without answers
        self._query_Q = F.pad(query_Q, (0, 1), value=num_queries).to(least(num_queries + 1))
        self._offset_Q = F.pad(count_Q.cumsum(0), (1, 1), value=0).to(
            least(len(self._answer_A) + 1)
        )
        self._offset_Q[-1] = len(self._answer_A)

    def _query_id(self, entity: Tensor, relation: Tensor) -> Tensor:
        return torch.add(relation, entity.to(torch.int64), alpha=self.num_relations)

    def to(self, device: torch.device | str) -> Self:
        """The same index on ``device``."""
        moved = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(moved, name, value.to(device) if isinstance(value, Tensor) else value)
        return moved

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self._answer_A.device

    def lookup(self, entity_B: Tensor, relation_B: Tensor) -> Known:
        """All known answers of each query."""
        start_B, stop_B = self._spans(entity_B, relation_B)
        return Known(start_B.long(), stop_B.long(), self._answer_A)

    def contains(self, entity_B: Tensor, relation_B: Tensor, candidate_BK: Tensor) -> Tensor:
        """Whether each candidate is a known answer of its query, ``bool_BK``."""
        if not self._longest:
            return torch.zeros_like(candidate_BK, dtype=torch.bool)
        start_B, stop_B = self._spans(entity_B, relation_B)
        at_BK = start_B.clamp(max=len(self._answer_A) - 1)[:, None].repeat(1, candidate_BK.shape[1])
        candidate_BK = candidate_BK.to(self._answer_A.dtype)
        length_B1 = (stop_B - start_B)[:, None]
        for _ in range((self._longest - 1).bit_length()):  # bisection: the last one not above
            half_B1 = length_B1 // 2
            at_BK.addcmul_(self._answers(at_BK + half_B1) <= candidate_BK, half_B1)
            length_B1 = length_B1 - half_B1
        return (self._answers(at_BK) == candidate_BK) & (start_B < stop_B)[:, None]

    def _answers(self, at_BK: Tensor) -> Tensor:
        return self._answer_A.index_select(0, at_BK.view(-1)).view_as(at_BK)

    def _spans(self, entity_B: Tensor, relation_B: Tensor) -> tuple[Tensor, Tensor]:
        """Where the answers of each query begin and end."""
        query_B = self._query_id(entity_B, relation_B).to(self._query_Q.dtype)
        at_B = torch.searchsorted(self._query_Q, query_B)
        start_B = self._offset_Q[at_B]
        found_B = self._query_Q[at_B] == query_B
        return start_B, torch.where(found_B, self._offset_Q[at_B + 1], start_B)
