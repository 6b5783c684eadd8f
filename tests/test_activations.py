"""Hand values, gradients, monotony and limits of the activations."""

import itertools
import math
import re
from pathlib import Path

import pytest
import scalar
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hale.scoring.activations import Artanh, Halin, Hanon, Identity, Temperature, XExp

CONF = Path(__file__).parents[1] / "conf" / "activation"
EVERY = {path.stem: instantiate(OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))}
every = pytest.mark.parametrize("activation", EVERY.values(), ids=EVERY.keys())
few = settings(deadline=None, max_examples=25)


def at(activation, x: float) -> float:
    return activation(torch.tensor(x, dtype=torch.float64)).item()


@pytest.mark.parametrize(
    ("activation", "x", "value"),
    [
        (Identity(), 1.5, 1.5),
        (Temperature(0.5), 1.5, 3.0),
        (Hanon(3, 10), 0.5, 1 / (0.1 + 1)),
        (Hanon(2, 5), 1.5, 1 / (0.2 + math.exp(-2))),
        (Halin(10, 10), 0.75, 1.5),
        (Halin(10, 10), 1.0, 2.0),
        (Halin(10, 10), 1.5, 7.0),
        (Halin(10, 10), 1.9, 10.0),
        (XExp(), 2.0, 2 * math.exp(2)),
        (XExp(limit=1.0), 2.0, 2 * math.exp(1)),
        (Artanh(), 1.0, 2 * math.atanh(0.5)),
        (Artanh(), 0.0, 0.0),
    ],
)
def test_hand_values(activation, x: float, value: float) -> None:
    assert at(activation, x) == pytest.approx(value, rel=1e-12)


@few
@given(st.floats(-3, 20), st.floats(0.5, 20), st.floats(2, 30))
def test_hanon_and_halin_follow_their_equations(x: float, beta: float, gamma: float) -> None:
    assert at(Hanon(beta, gamma), x) == pytest.approx(scalar.hanon(x, beta, gamma), rel=1e-9)
    assert at(Halin(beta, gamma), x) == pytest.approx(scalar.halin(x, beta, gamma), rel=1e-9)


@few
@given(st.floats(0, 50))
def test_artanh_is_that_of_the_normalised_distance(x: float) -> None:
    assert at(Artanh(), x) == pytest.approx(2 * math.atanh(x / (1 + x)), rel=1e-9, abs=1e-12)


@every
def test_gradcheck(activation) -> None:
    x = torch.tensor([0.01, 0.3, 0.6, 0.97, 1.2, 1.7, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(activation, x.requires_grad_())


@every
def test_strictly_increasing_until_saturated(activation) -> None:
    start = 0.0 if activation.nonnegative else -2.0
    x = torch.linspace(start, 6, 2001, dtype=torch.float64)
    value = activation(x)
    step = value.diff()
    bound = activation.gamma if isinstance(activation, Halin) else math.inf
    saturated = value[1:] >= bound
    assert (step[~saturated] > 0).all()
    assert (step >= 0).all()
    finer = activation(torch.linspace(start, 6, 20001, dtype=torch.float64)).diff()
    assert finer.max() < 0.15 * step.max()  # a jump would not shrink with the grid


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_extremes(activation, dtype) -> None:
    start = 0.0 if activation.nonnegative else -1e9
    x = torch.tensor([start, 0.0, 1e-30, 1e9], dtype=dtype, requires_grad=True)
    value = activation(x)
    value.sum().backward()
    assert value.isfinite().all()
    assert x.grad.isfinite().all()
    assert (value.diff() >= 0).all()


@every
def test_nonnegative_and_positive_are_true_of_the_values(activation) -> None:
    x = torch.linspace(-5, 0, 50, dtype=torch.float64)
    if activation.positive:
        assert (activation(x) > 0).all()
    elif not activation.nonnegative:
        assert activation(x).min() < 0
    assert (activation(x + 5) >= 0).all()


@pytest.mark.parametrize("activation", [Hanon(3, 10), Halin(10, 10)])
def test_the_hard_constraint_cuts_the_gradient(activation) -> None:
    x = torch.tensor([1.0, 30.0], dtype=torch.float64, requires_grad=True)
    value = activation(x)
    value.sum().backward()
    assert value[1].item() == pytest.approx(activation.gamma)
    assert x.grad[1] == pytest.approx(0, abs=1e-12)
    assert x.grad[0] > 1


@pytest.mark.parametrize("beta", [0.5, 3.0, 10.0])
def test_pieces_meet_without_a_jump(beta: float) -> None:
    for activation, joint in (
        (Halin(beta, 10.0), 1.0),
        (Halin(beta, 10.0), 1 + 8 / beta),
        (XExp(limit=beta), beta),
    ):
        below, above = (at(activation, joint * (1 + sign * 1e-9)) for sign in (-1, 1))
        assert below == pytest.approx(above, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "names"),
    [(Temperature, ["temperature"]), (Hanon, ["beta", "gamma"]), (Halin, ["beta", "gamma"]),
     (XExp, ["limit"])],
)  # fmt: skip
def test_wrong_arguments_are_named(make, names: list[str]) -> None:
    for name, value in itertools.product(names, (0.0, -1.0, math.inf, math.nan)):
        message = f"{name} must be a finite number above 0, got {value}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make(**{name: value})


def test_halin_needs_room_above_two() -> None:
    with pytest.raises(ValueError, match=r"^gamma must be a finite number of at least 2, got 1\.5"):
        Halin(gamma=1.5)


def test_activations_compare_and_print_by_value() -> None:
    assert Hanon(3, 10) == Hanon(3, 10) != Hanon(3, 5)
    assert repr(Halin()) == "Halin(beta=10.0, gamma=10.0)"
