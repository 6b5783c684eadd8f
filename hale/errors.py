"""User-fixable errors, each one line shown without a traceback, and checks of arguments."""

import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 80
"""Characters of a refused value that a message shows."""
BITS = 63
"""Whole numbers have no more bits, as those of PyTorch."""


class HaleError(ValueError):
    """An error that the user can fix; the message says what is wrong, where, and how to fix it."""


class ArgumentError(HaleError):
    """An argument of a wrong type or out of range; the message begins with the argument's name."""


class EndedError(Exception):
    """Processes of a run have failed or were stopped, and have said why.

    Args:
        code: the exit status that the command should have.
    """

    def __init__(self, code: int) -> None:
        super().__init__("its processes have ended")
        self.code = code


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
    inside = fits(value, float) and above < value < below and at_least <= value <= at_most
    if inside:
        return
    bounds = {"above": above, "of at least": at_least, "below": below, "of at most": at_most}
    wanted = " and ".join(
        f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound)
    )
    raise ArgumentError(
        f"{name} must be a finite number {wanted}".rstrip() + f", got {shown_value(value)}"
    )


def require_whole(name: str, value: int, at_least: int, at_most: int | None = None) -> None:
    """Raise ArgumentError unless ``value`` is a whole number within the bounds."""
    if fits(value, int) and at_least <= value <= ((1 << BITS) - 1 if at_most is None else at_most):
        return
    bound = f" and of at most {at_most}" if at_most is not None else ""
    raise ArgumentError(
        f"{name} must be a whole number of at least {at_least}{bound}, got {shown_value(value)}"
    )


def require_type(name: str, value: Any, hint: Any) -> None:
    """Raise ArgumentError unless ``value`` is of the annotated type ``hint``."""
    if not fits(value, hint):
        raise ArgumentError(f"{name} must be {expected(hint)}, got {shown_value(value)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type.

    A number is finite, a whole number has at most ``BITS`` bits, and a boolean is no number. What
    cannot be checked, as a protocol, fits.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in args)
    if hint is bool or (isinstance(value, bool) and hint in (int, float)):
        return isinstance(value, bool) and hint is bool
    if hint in (int, float) and isinstance(value, Integral):
        return -(1 << BITS) < int(value) < 1 << BITS
    if hint is float:
        return isinstance(value, Real) and math.isfinite(value)
    if hint is int:
        return False
    if hint is None:
        return value is None
    if origin is tuple and args[-1:] != (...,):
        sized = isinstance(value, Sequence) and len(value) == len(args)
        return sized and all(map(fits, value, args))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return _is_filled(value, origin, args)
    try:
        return isinstance(value, origin or hint)
    except TypeError:
        return True


def _is_filled(value: Any, origin: type, args: Sequence[Any]) -> bool:
    """Whether a value is a collection of the items that ``args`` annotate; a list may be a tuple.

    Of an iterable that is not a sequence the items are not looked at: they can be read only once.
    """
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(all(map(fits, e, args)) for e in value.items())
    wanted = Sequence if issubclass(origin, Sequence) else origin
    if not isinstance(value, wanted) or isinstance(value, str | bytes):
        return False
    return not isinstance(value, Sequence) or all(fits(each, args[0]) for each in value)


def expected(hint: Any) -> str:
    """What :func:`fits` accepts, in words: ``a whole number, auto or null``.

    A class is named only where nothing else is accepted.
    """
    every = list(dict.fromkeys(_alternatives(hint)))
    plain = [words for words, is_class in every if not is_class] or [words for words, _ in every]
    if "null" in plain:
        plain.remove("null")
        plain.append("null")
    return " or ".join([", ".join(plain[:-1]), plain[-1]] if plain[1:] else plain)


def _alternatives(hint: Any) -> list[tuple[str, bool]]:
    """The words of each alternative, and whether it is a class without words of its own."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [found for each in args for found in _alternatives(each)]
    if origin is Literal:
        return [(str(each), False) for each in args]
    words: dict[Any, tuple[str, ...]] = {
        bool: ("true", "false"), int: ("a whole number",), float: ("a finite number",),
        str: ("text",), None: ("null",), types.NoneType: ("null",),
    }  # fmt: skip
    if hint in words:
        return [(each, False) for each in words[hint]]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [("a mapping", False)]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        count = f" of {len(args)}" if origin is tuple and args[-1] is not ... else ""
        return [(f"a list{count} (each {expected(args[0])})", False)]
    return [(getattr(origin or hint, "__name__", str(hint)), True)]


def shown_value(value: Any) -> str:
    """A refused value as a user types it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Integral) and abs(int(value)) >= 1 << BITS:
        return f"one of more than {BITS} bits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@functools.cache
def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function or class, by name."""
    return inspect.signature(target).parameters


@functools.cache
def hints_of(target: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotated types of a function's or class's arguments; none if they cannot be resolved."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with the types of its arguments checked at each call.

    A default is not checked.

    Raises:
        ArgumentError: by the function, of an argument of another type.
    """
    parameters = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = hints_of(function)
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            kind = parameters.parameters[name].kind
            if name in hints and kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
                require_type(name, value, hints[name])
        return function(*args, **kwargs)

    return wrapper
