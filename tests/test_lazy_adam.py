"""Adam that leaves rows without a gradient alone."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hale
from hale.errors import ArgumentError
from hale.graphs.family import family
from hale.scoring.kernels.compile import CompileError, find_compiler
from hale.training import lazy_adam
from hale.training.lazy_adam import LazyAdam

OPTIONS = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.01}


def gradients(shape, steps, seed, share):
    """A gradient for each step, of which a share of the rows is zero."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        gradient[torch.rand(shape[0], generator=generator) < share] = 0
        found.append(gradient)
    return found


def trained(optimizer, parameter, gradient_S):
    for gradient in gradient_S:
        parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()
    return parameter.detach()


def scalars(parameter, gradient_S, lr, betas, eps, weight_decay):
    """Algorithm 1 of Kingma and Ba for each number, skipped for rows without a gradient."""
    rows = [[[x, 0.0, 0.0] for x in row] for row in parameter.tolist()]
    for step, gradient in enumerate(gradient_S, 1):
        for row, values in zip(rows, gradient.tolist(), strict=True):
            if not any(values):
                continue
            for number, g in zip(row, values, strict=True):
                g += weight_decay * number[0]
                number[1] = betas[0] * number[1] + (1 - betas[0]) * g
                number[2] = betas[1] * number[2] + (1 - betas[1]) * g * g
                mean, square = (
                    number[1] / (1 - betas[0] ** step),
                    number[2] / (1 - betas[1] ** step),
                )
                number[0] -= lr * mean / (square**0.5 + eps)
    return torch.tensor([[number[0] for number in row] for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("native", [False, True])
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 9)
)
@settings(max_examples=20, deadline=None)
def test_it_is_the_formula_in_either_implementation(native, rows, columns, share, seed):
    start = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    gradient_S = gradients((rows, columns), 4, seed, share)
    expected = scalars(start.double(), gradient_S, **OPTIONS)
    parameter = start.to(torch.float32 if native else torch.float64).requires_grad_()
    found = trained(LazyAdam([parameter], **OPTIONS), parameter, gradient_S)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 if native else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (5,), (5, 3), (5, 3, 2)], ids=str)
def test_with_gradients_for_all_rows_it_is_adam(shape, dtype):
    start = torch.randn(shape, dtype=dtype)
    gradient_S = [torch.rand(shape, dtype=torch.float64) + 0.1 for _ in range(5)]
    mine, adams = start.clone().requires_grad_(), start.clone().requires_grad_()
    found = trained(LazyAdam([mine], **OPTIONS), mine, gradient_S)
    torch.testing.assert_close(
        found, trained(torch.optim.Adam([adams], **OPTIONS), adams, gradient_S)
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_without_a_gradient_stay_with_their_moments(threads, monkeypatch):
    monkeypatch.setattr(lazy_adam, "_SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    parameter = torch.randn(1001, 7).requires_grad_()
    optimizer = LazyAdam([parameter], **OPTIONS)
    trained(optimizer, parameter, gradients(parameter.shape, 2, 0, 0.0))
    before = copy.deepcopy([parameter.detach(), *optimizer.state[parameter].values()])
    (gradient,) = gradients(parameter.shape, 1, 1, 0.5)
    trained(optimizer, parameter, [gradient])
    untouched = (gradient == 0).all(1)
    assert 0.4 < untouched.float().mean() < 0.6
    for old, new in zip(before, [parameter, *optimizer.state[parameter].values()], strict=True):
        if old.dim() == 2:
            assert torch.equal(old[untouched], new[untouched])
            assert (old[~untouched] != new[~untouched]).all()


def test_a_gradient_that_is_not_a_number_is_not_taken_for_none():
    parameter = torch.zeros(2, 3).requires_grad_()
    gradient = torch.zeros(2, 3)
    gradient[1, 2] = torch.nan
    found = trained(LazyAdam([parameter]), parameter, [gradient])
    assert torch.equal(found.isnan(), gradient.isnan())


def test_the_library_is_there_wherever_a_compiler_is(monkeypatch):
    try:
        find_compiler()
    except CompileError as error:
        pytest.skip(str(error))
    parameter = torch.zeros(2, 3).requires_grad_()
    monkeypatch.setattr(lazy_adam, "_by_rows", None)
    assert (trained(LazyAdam([parameter]), parameter, [torch.ones(2, 3)]) < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_graph_that_read_the_parameter_before_the_step_is_refused(dtype):
    parameter = torch.ones(2, 3, dtype=dtype).requires_grad_()
    optimizer, loss = LazyAdam([parameter]), parameter.square().sum()
    trained(optimizer, parameter, [torch.ones(2, 3)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_its_state_goes_into_a_checkpoint_and_back():
    (first, *rest) = gradients((4, 3), 4, 0, 0.3)
    whole, half = torch.ones(4, 3).requires_grad_(), torch.ones(4, 3).requires_grad_()
    trained(LazyAdam([whole], **OPTIONS), whole, [first, *rest])
    optimizer = LazyAdam([half], **OPTIONS)
    trained(optimizer, half, [first])
    resumed = LazyAdam([half])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(trained(resumed, half, rest), whole)


@pytest.mark.parametrize(
    "wrong",
    [{"lr": -1}, {"eps": 0}, {"betas": (0.9, 1)}, {"betas": (1,)}, {"weight_decay": -1}],
    ids=str,
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        LazyAdam([torch.zeros(2).requires_grad_()], **wrong)


def test_runs_train_with_it_as_with_adam_where_every_entity_is_a_candidate():
    def reached(optimizer: str) -> float:
        settings = {"optimizer": optimizer, "loss": "hale", "activation": "hanon", "threads": 1}
        model = hale.fit(family(), "mure", steps=20, dim=8, settings=settings)
        return model.record["valid/mrr"]

    assert reached("lazy_adam") == pytest.approx(reached("adam"), rel=1e-3)
