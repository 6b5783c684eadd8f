"""Checks of the losses' arguments: one line that names the setting and the value."""

import math


def require_num_negatives(num_negatives: int) -> None:
    """Raise ValueError unless at least one negative is drawn."""
    if num_negatives < 1:
        raise ValueError(f"loss.num_negatives must be at least 1, got {num_negatives}")


def require_finite(name: str, value: float) -> None:
    """Raise ValueError if ``value`` is infinite or not a number."""
    if not math.isfinite(value):
        raise ValueError(f"loss.{name} must be a finite number, got {value}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"loss.{name} must be a finite number above 0, got {value}")
