"""Chosen scores: both ways of taking them have the gradients of the plain formula."""

import pytest
import torch
from torch import Tensor

from hale.activations import Hanon
from hale.comparators import Comparator, NegativeDot, Poincare, SquaredEuclidean
from hale.lookup import Table
from hale.scores import ScoreMatrix

CHOSEN = torch.tensor([[4, 0, 4], [1, 2, 3]])


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), NegativeDot(), Poincare()])
@pytest.mark.parametrize("entities", [5, 50])  # as many as are chosen, or fewer; and more
@pytest.mark.parametrize("columns", [1, 3])
def test_chosen_scores_pass_gradcheck(comparator: Comparator, entities: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query_BD, entity_ED = (
        (0.3 * torch.randn(rows, 4, generator=generator, dtype=torch.float64)).requires_grad_()
        for rows in (2, entities)
    )
    scale_B = torch.tensor([0.7, 1.6], dtype=torch.float64, requires_grad=True)
    chosen_BK = CHOSEN[:, :columns]

    def at(query_BD: Tensor, scale_B: Tensor, entity_ED: Tensor) -> Tensor:
        scores = ScoreMatrix(query_BD, scale_B, Table(entity_ED), comparator, Hanon())
        return scores.at(chosen_BK)

    def plain(query_BD: Tensor, scale_B: Tensor, entity_ED: Tensor) -> Tensor:
        query_B1D, entity_BKD = query_BD[:, None], entity_ED[chosen_BK]
        distance_BK = comparator(
            (query_B1D * entity_BKD).sum(2),
            query_B1D.square().sum(2),
            entity_BKD.square().sum(2),
            scale_B[:, None],
        )
        return -Hanon()(distance_BK)

    inputs = (query_BD, scale_B, entity_ED)
    torch.testing.assert_close(at(*inputs), plain(*inputs))
    assert torch.autograd.gradcheck(at, inputs)
