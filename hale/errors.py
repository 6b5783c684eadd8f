"""User-fixable errors, each one line shown without a traceback, and checks of arguments."""

import math


class HaleError(ValueError):
    """An error that the user can fix; the message says what is wrong, where, and how to fix it."""


class ArgumentError(HaleError):
    """An argument out of range; the message begins with the argument's name."""


class DivergedError(HaleError):
    """Training reached NaN or infinity."""


class DatasetError(HaleError):
    """A dataset that cannot be used."""


def require(
    name: str,
    value: float,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> None:
    """Raise ArgumentError unless ``value`` is a finite number within the bounds given."""
    inside = above < value < below and at_least <= value <= at_most
    if math.isfinite(value) and inside:
        return
    bounds = {"above": above, "of at least": at_least, "below": below, "of at most": at_most}
    wanted = " and ".join(
        f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound)
    )
    raise ArgumentError(f"{name} must be a finite number {wanted}".rstrip() + f", got {value}")


def require_whole(name: str, value: int, at_least: int) -> None:
    """Raise ArgumentError unless ``value`` is a whole number of at least ``at_least``."""
    if type(value) is not int or value < at_least:
        raise ArgumentError(f"{name} must be a whole number of at least {at_least}, got {value}")
