"""Rows of a table: values and gradients of PyTorch's embedding, and sharing of gradients."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hale.scoring.table import Table, lookup


@pytest.mark.parametrize("shape", [(0,), (7,), (5, 3), (2, 0, 4)])
def test_equal_to_embedding_in_value_and_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(6, shape, generator=generator)
    results = []
    for read in (lookup, lambda table, at: F.embedding(at, table)):
        table_RX = torch.arange(24, dtype=torch.float64).view(6, 4).requires_grad_()
        found = read(table_RX, index)
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
        (lookup(table_RX, index) * weight).sum().backward()
        grads.append(table_RX.grad)
    assert grads[0].equal(grads[1])
    assert grads[0].equal(grads[2])


@pytest.mark.parametrize("outside", [-1, 6])
def test_refuses_an_id_out_of_range(outside):
    with pytest.raises(IndexError):
        lookup(torch.zeros(6, 4), torch.tensor([0, outside]))


@pytest.mark.parametrize("order", list(permutations(["heads", "targets", "whole"])))
@pytest.mark.parametrize("used", [{"heads", "targets", "whole"}, {"heads"}, {"targets", "whole"}])
def test_reads_of_a_table_in_any_order_have_the_gradient_of_indexing(order, used):
    generator = torch.Generator().manual_seed(0)
    index = {"heads": torch.tensor([3, 3, 0]), "targets": torch.tensor([[1], [3], [5]])}
    value_RX = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    weight = {
        name: torch.rand(*at.shape, 4, generator=generator, dtype=torch.float64)
        for name, at in (index | {"whole": value_RX[:, 0]}).items()
    }
    mine_RX, plain_RX = (value_RX.clone().requires_grad_() for _ in range(2))
    table = Table(mine_RX)
    read = {name: table.whole() if name == "whole" else table.lookup(index[name]) for name in order}
    expected = {name: plain_RX if name == "whole" else plain_RX[index[name]] for name in order}
    for name in order:
        assert read[name].equal(expected[name])
    for found in (read, expected):
        sum(
            (weight[name] * found[name].square()).sum() for name in order if name in used
        ).backward()
    torch.testing.assert_close(mine_RX.grad, plain_RX.grad)


class MadeLike(TorchDispatchMode):
    """Counts the tensors of a shape that operations make, in memory of their own."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {id(each) for each in args} | {
            each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)
        }
        made = function(*args, **kwargs or {})
        if isinstance(made, torch.Tensor) and made.shape == self.shape:
            self.count += made.untyped_storage().data_ptr() not in given
        return made


def test_reads_of_a_table_share_one_gradient():
    """However many there are: each gradient of its own would be as large as the table."""

    class Whole(torch.autograd.Function):
        @staticmethod
        def forward(ctx, table_RX):
            return table_RX.sum()

        @staticmethod
        def backward(ctx, upstream):
            return upstream.new_ones(6, 4)

    made, gradients = [], []
    for reads in (1, 5):
        table_RX = torch.zeros(6, 4, requires_grad=True)
        table = Table(table_RX)
        rows = sum(table.lookup(torch.tensor([0, k, k])).sum() for k in range(1, reads + 1))
        total = rows + Whole.apply(table.whole())
        with MadeLike((6, 4)) as counted:
            total.backward()
        made.append(counted.count)
        gradients.append(table_RX.grad[:, 0].tolist())
    assert made[0] == made[1] >= 1
    assert gradients == [[2, 3, 1, 1, 1, 1], [6, 3, 3, 3, 3, 3]]
    plain_RX = torch.zeros(6, 4, requires_grad=True)
    naive = sum(lookup(plain_RX, torch.tensor([0, k])).sum() for k in range(5))
    with MadeLike((6, 4)) as counted:
        naive.backward()
    assert counted.count >= made[1] + 4  # what is counted can be more


def test_a_table_without_a_gradient_is_read_as_it_is():
    table_RX = torch.arange(24.0).view(6, 4)
    assert Table(table_RX).lookup(torch.tensor([[5]])).tolist() == [[table_RX[5].tolist()]]
    with torch.no_grad():
        table = Table(table_RX.requires_grad_())
        table.lookup(torch.tensor([1]))
    assert table.whole() is table_RX
    assert len(table) == 6


@pytest.mark.parametrize("outside", [-1, 6])
def test_a_table_refuses_an_id_out_of_range(outside):
    with pytest.raises(IndexError):
        Table(torch.zeros(6, 4, requires_grad=True)).lookup(torch.tensor([0, outside]))


@pytest.mark.parametrize("read", [Table.whole, lambda table: table.tensor])
@pytest.mark.parametrize(
    "reduce", [torch.sum, torch.mean, lambda x: x.T.sum(), lambda x: x[2:].sum()]
)
def test_a_loss_may_reduce_the_table_beside_reads_of_its_rows(read, reduce):
    """The gradient of a sum is an expanded tensor, to which rows cannot be added in place."""
    index = torch.tensor([1, 4, 1])
    mine_RX, plain_RX = (torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) for _ in "ab")
    for table_RX in (mine_RX, plain_RX):
        table_RX.requires_grad_()
    table = Table(mine_RX)
    rows = table.lookup(index).square().sum() + table.lookup(index[:1]).sum()
    (rows + reduce(read(table))).backward()
    plain = plain_RX[index].square().sum() + plain_RX[index[:1]].sum()
    (plain + reduce(plain_RX)).backward()
    torch.testing.assert_close(mine_RX.grad, plain_RX.grad)


def test_a_loss_may_share_the_gradient_of_the_plain_table():
    """A sum of two tensors passes one gradient on to both: it must not be changed in place."""
    mine_RX, other_RX = (torch.zeros(6, 4, requires_grad=True) for _ in range(2))
    table = Table(mine_RX)
    rows = table.lookup(torch.tensor([1, 1])).sum()
    (rows + (table.tensor + other_RX).exp().sum()).backward()
    assert other_RX.grad.eq(1).all()
    assert mine_RX.grad[:, 0].tolist() == [1, 3, 1, 1, 1, 1]
