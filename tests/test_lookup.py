"""Rows of a table: values and gradients of PyTorch's embedding, on the way that is faster."""

import pytest
import torch
from torch.nn import functional as F

from hale.lookup import rows


@pytest.mark.parametrize("shape", [(0,), (7,), (5, 3), (2, 0, 4)])
def test_equal_to_embedding_in_value_and_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(6, shape, generator=generator)
    results = []
    for lookup in (rows, lambda table, at: F.embedding(at, table)):
        table_RX = torch.arange(24, dtype=torch.float64).view(6, 4).requires_grad_()
        found = lookup(table_RX, index)
        weight = torch.rand(found.shape, generator=generator.manual_seed(1), dtype=torch.float64)
        (found * weight).sum().backward()
        results.append((found, table_RX.grad))
    (mine, my_grad), (theirs, their_grad) = results
    assert mine.shape == (*shape, 4)
    assert mine.equal(theirs)
    torch.testing.assert_close(my_grad, their_grad)


def test_gradient_sums_repeated_rows_the_same_way_each_time():
    index = torch.randint(3, (5000,), generator=torch.Generator().manual_seed(0))
    weight = torch.rand(5000, 8, generator=torch.Generator().manual_seed(1))
    grads = []
    for _ in range(3):
        table_RX = torch.zeros(3, 8, requires_grad=True)
        (rows(table_RX, index) * weight).sum().backward()
        grads.append(table_RX.grad)
    assert grads[0].equal(grads[1])
    assert grads[0].equal(grads[2])


@pytest.mark.parametrize("outside", [-1, 6])
def test_refuses_an_id_that_is_no_row(outside):
    with pytest.raises(IndexError):
        rows(torch.zeros(6, 4), torch.tensor([0, outside]))
