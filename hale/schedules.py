"""Learning-rate schedules: the factor on the optimizer's rate at a spent share of the budget.

``progress`` is in [0, 1], of seconds or of steps, whichever the budget is in.
"""

import math


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def linear(progress: float, floor: float = 0.02) -> float:
    """From 1 down to ``floor`` along a line."""
    return max(floor, 1.0 - progress)


def cosine(progress: float, floor: float = 0.0) -> float:
    """From 1 down to ``floor`` along half a cosine."""
    return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2
