"""Scores of chosen entities: every backend has the values and gradients of the plain formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_entity_logsumexp import IDS, PAIRS, draw, relative

from hale.errors import HaleError
from hale.graphs.queries import Known
from hale.scoring.activations import Hanon
from hale.scoring.comparators import Poincare, SquaredEuclidean
from hale.scoring.kernels.compile import CompileError, find_compiler
from hale.scoring.kernels.native_scores import native_chosen_scores as native_scores
from hale.scoring.kernels.operations import chosen_scores, entity_logsumexp, find_kernel
from hale.scoring.kernels.reference import reference_scores
from hale.scoring.table import Table, lookup

EUCLIDEAN = (SquaredEuclidean(), Hanon())
GRADIENT = 2e-5

try:
    find_compiler()
except CompileError as error:
    NO_COMPILER = str(error)
else:
    NO_COMPILER = ""
compiled = pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)


def native_chosen_scores(query_BD, scale_B, entity, entity_BK, comparator, activation):
    kernel = find_kernel(comparator, activation)
    return native_scores(kernel, query_BD, scale_B, entity, entity_BK)


def plain(query_BD, scale_B, entity_ED, entity_BK, comparator, activation):
    """The definition, pair by pair."""
    query_B1D, entity_BKD = query_BD[:, None], entity_ED[entity_BK]
    distance_BK = comparator(
        (query_B1D * entity_BKD).sum(2),
        query_B1D.square().sum(2),
        entity_BKD.square().sum(2),
        scale_B[:, None],
    )
    return -activation(distance_BK)


def choose(rows, columns, entities, seed=0):
    """Ids and upstream gradients."""
    generator = torch.Generator().manual_seed(seed)
    entity_BK = torch.randint(entities, (rows, columns), generator=generator)
    return entity_BK, torch.rand(rows, columns, generator=generator) + 0.1


def differentiate(function, inputs, entity_BK, upstream_BK, *rest):
    """Scores and the gradients of ``sum upstream score``."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    query_BD, scale_B, entity_ED = leaves
    table = entity_ED if function is plain else Table(entity_ED)
    score_BK = function(query_BD, scale_B, table, entity_BK, *rest)
    return score_BK.detach(), *torch.autograd.grad((score_BK * upstream_BK).sum(), leaves)


def agree(rows, columns, entities, dim, comparator, activation, seed=0):
    """The native scores and gradients are those of float64 autograd."""
    inputs, _ = draw(rows, entities, dim, seed)
    entity_BK, upstream_BK = choose(rows, columns, entities, seed)
    rest = (comparator, activation)
    actual = differentiate(native_chosen_scores, inputs, entity_BK, upstream_BK, *rest)
    doubles = [tensor.double() for tensor in inputs]
    expected = differentiate(plain, doubles, entity_BK, upstream_BK.double(), *rest)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=2e-5, atol=2e-5)
    for gradient, wanted in zip(actual[1:], expected[1:], strict=True):
        assert relative(gradient, wanted) < GRADIENT


@compiled
@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=IDS)
def test_native_agrees_with_float64_autograd(comparator, activation):
    for rows, columns, entities, dim in ((1, 1, 1, 1), (5, 1, 7, 3), (33, 3, 40, 70)):
        agree(rows, columns, entities, dim, comparator, activation)


@compiled
@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 70), st.integers(0, 9), st.integers(1, 90), st.integers(1, 40),
    st.integers(0, 99),
)  # fmt: skip
def test_native_agrees_at_any_shape(rows, columns, entities, dim, seed):
    agree(rows, columns, entities, dim, *EUCLIDEAN, seed)


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), Poincare()])
@pytest.mark.parametrize("columns", [1, 3])
def test_reference_gradients_by_finite_differences(comparator, columns):
    inputs, _ = draw(3, 5, 2, dtype=torch.float64)
    entity_BK, _ = choose(3, columns, 5)

    def scores(query_BD, scale_B, entity_ED):
        table = Table(entity_ED)
        return chosen_scores(query_BD, scale_B, table, entity_BK, comparator, Hanon())

    leaves = [tensor.requires_grad_() for tensor in inputs]
    torch.testing.assert_close(scores(*leaves), plain(*leaves, entity_BK, comparator, Hanon()))
    assert torch.autograd.gradcheck(scores, leaves)


@compiled
@pytest.mark.parametrize("columns", [1, 60])
def test_the_result_does_not_depend_on_threads(columns):
    inputs, _ = draw(2500, 300, 64)  # enough for three threads
    chosen = choose(2500, columns, 300)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(differentiate(native_chosen_scores, inputs, *chosen, *EUCLIDEAN))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@compiled
@pytest.mark.parametrize("used", ["heads", "scores", "both"])
def test_the_gradient_of_the_table_is_shared_with_its_other_reads(used):
    (query_BD, scale_B, entity_ED), _ = draw(6, 9, 4)
    entity_BK, upstream_BK = choose(6, 2, 9)
    gradients = []
    for scores in (native_chosen_scores, reference_scores):
        leaf_ED = entity_ED.clone().requires_grad_()
        table = Table(leaf_ED)
        heads = table.lookup(torch.tensor([2, 2, 8])).square().sum()
        score_BK = scores(query_BD, scale_B, table, entity_BK, *EUCLIDEAN)
        whole = table.whole().square().sum()
        parts = {"heads": heads, "scores": (upstream_BK * score_BK).sum()}
        loss = whole + sum(part for name, part in parts.items() if used in (name, "both"))
        gradients.append(torch.autograd.grad(loss, leaf_ED)[0])
    torch.testing.assert_close(*gradients)


@compiled
def test_a_retained_graph_differentiates_again():
    inputs, _ = draw(20, 50, 8)
    entity_BK, upstream_BK = choose(20, 3, 50)
    query_BD, scale_B, entity_ED = (tensor.requires_grad_() for tensor in inputs)
    score_BK = native_chosen_scores(query_BD, scale_B, Table(entity_ED), entity_BK, *EUCLIDEAN)
    loss, leaves = (score_BK * upstream_BK).sum(), (query_BD, scale_B, entity_ED)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, leaves)))


@pytest.mark.parametrize("entity", [-1, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refuses_an_id_that_is_no_entity(entity, dtype):
    (query_BD, scale_B, entity_ED), _ = draw(2, 9, 4, dtype=dtype)
    with pytest.raises(IndexError, match="out of range"):
        chosen_scores(
            query_BD, scale_B, Table(entity_ED), torch.tensor([[0], [entity]]), *EUCLIDEAN
        )


@compiled
def test_scores_without_gradient_are_the_same():
    inputs, _ = draw(20, 50, 8)
    entity_BK, upstream_BK = choose(20, 3, 50)
    expected, *_ = differentiate(native_chosen_scores, inputs, entity_BK, upstream_BK, *EUCLIDEAN)
    query_BD, scale_B, entity_ED = inputs
    with torch.no_grad():
        table = Table(entity_ED.requires_grad_())
        score_BK = native_chosen_scores(query_BD, scale_B, table, entity_BK, *EUCLIDEAN)
    assert not score_BK.requires_grad
    assert score_BK.equal(expected)


def test_a_forced_backend_that_does_not_serve_raises(monkeypatch):
    (query_BD, scale_B, entity_ED), _ = draw(2, 9, 4, dtype=torch.float64)
    monkeypatch.setenv("HALE_KERNEL", "native")
    with pytest.raises(HaleError, match=r"HALE_KERNEL=native: .*float32"):
        chosen_scores(query_BD, scale_B, Table(entity_ED), torch.tensor([[0], [1]]), *EUCLIDEAN)


@compiled
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_ids_of_another_integer_type_are_read_as_ids(monkeypatch, backend):
    """By address, int32 would be read as int64, past the end of the buffer."""
    monkeypatch.setenv("HALE_KERNEL", backend)
    (query_BD, scale_B, entity_ED), _ = draw(5, 10, 8)
    entity_BK, _ = choose(5, 3, 10)
    known = Known.of_pairs(torch.tensor([0, 0, 3]), torch.tensor([1, 4, 9]), 5)
    wanted = chosen_scores(query_BD, scale_B, Table(entity_ED), entity_BK, *EUCLIDEAN)
    lse_B = entity_logsumexp(query_BD, scale_B, entity_ED, *EUCLIDEAN, known)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        other_BK, other = entity_BK.to(dtype), Known(*(part.to(dtype) for part in known))
        found = chosen_scores(query_BD, scale_B, Table(entity_ED), other_BK, *EUCLIDEAN)
        assert found.equal(wanted)
        assert entity_logsumexp(query_BD, scale_B, entity_ED, *EUCLIDEAN, other).equal(lse_B)
        assert Table(entity_ED).lookup(other_BK).equal(entity_ED[entity_BK])
        assert lookup(entity_ED, other_BK).equal(entity_ED[entity_BK])
    for dtype in (torch.bool, torch.float32):
        with pytest.raises(HaleError, match="must be ids"):
            chosen_scores(query_BD, scale_B, Table(entity_ED), entity_BK.to(dtype), *EUCLIDEAN)
        other = Known(*known[:2], known.answer_A.to(dtype))
        with pytest.raises(HaleError, match="must be ids"):
            entity_logsumexp(query_BD, scale_B, entity_ED, *EUCLIDEAN, other)


@compiled
def test_a_row_of_ids_for_each_query_is_demanded(monkeypatch):
    monkeypatch.setenv("HALE_KERNEL", "native")
    (query_BD, scale_B, entity_ED), _ = draw(5, 10, 8)
    entity_BK, _ = choose(6, 3, 10)
    known = Known.of_pairs(torch.tensor([0]), torch.tensor([1]), 4)
    with pytest.raises(HaleError, match="5 queries need tensors of 5 rows"):
        chosen_scores(query_BD, scale_B, Table(entity_ED), entity_BK, *EUCLIDEAN)
    with pytest.raises(HaleError, match="5 queries need tensors of 5 rows"):
        entity_logsumexp(query_BD, scale_B, entity_ED, *EUCLIDEAN, known)
