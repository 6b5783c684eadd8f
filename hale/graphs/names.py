"""Resolving the names that users type, and shortening names for display."""

from collections.abc import Mapping
from difflib import get_close_matches
from heapq import nsmallest
from unicodedata import normalize

from hale.errors import HaleError, fits, shown_value

COMPARED = 20_000
"""An unknown name is compared with this many names, those nearest to it in length."""
LONGEST_COMPARED = 200
"""Longer names, in characters, are not compared."""
LONGEST_SHOWN = 80
"""Characters of a name that a message shows."""


class UnknownNameError(HaleError):
    """An unknown name or id; the message suggests similar names."""


def resolve(kind: str, id_of: Mapping[str, int], given: str | int) -> int:
    """The id of a name, or a checked id.

    Args:
        kind: ``entity`` or ``relation``, for messages.
        id_of: id of each name; ids count from 0.
        given: a name, an id, or ``id:`` and an id, as on a command line; names come first.

    Raises:
        UnknownNameError: neither a known name nor a valid id.
    """
    if isinstance(given, str):
        if given in id_of:
            return id_of[given]
        digits = given.removeprefix("id:")
        if digits == given or not digits.isdecimal() or len(digits) > 18:
            raise UnknownNameError(
                f"no {kind} is named '{shown(given)}'{_suggestion(id_of, given)}"
            )
        given = int(digits)
    elif not fits(given, int):
        raise UnknownNameError(f"{kind} must be a name or an id, got {shown_value(given)}")
    if not 0 <= given < len(id_of):
        raise UnknownNameError(f"no {kind} has id {given}: ids are 0 to {len(id_of) - 1}")
    return int(given)


def _suggestion(id_of: Mapping[str, int], name: str) -> str:
    if len(name) > LONGEST_COMPARED:
        return ""
    if same := _same_characters(id_of, name):
        return (
            f": did you mean '{shown(same)}'? It has the same characters in another Unicode "
            f"normalisation ({_form(same)} in the graph, {_form(name)} given)"
        )
    short = (other for other in id_of if len(other) <= LONGEST_COMPARED)
    near = nsmallest(COMPARED, short, key=lambda other: abs(len(other) - len(name)))
    close = get_close_matches(name, near, n=3)
    quoted = ", ".join(f"'{shown(other)}'" for other in close)
    return f": did you mean {quoted}?" if close else ""


def _same_characters(id_of: Mapping[str, int], name: str) -> str | None:
    """A name that differs from another in Unicode normalisation alone."""
    composed = normalize("NFC", name)
    if composed.isascii():
        return None
    return next((other for other in id_of if normalize("NFC", other) == composed), None)


def _form(name: str) -> str:
    return next((form for form in ("NFC", "NFD") if normalize(form, name) == name), "mixed")


def shown(name: str, longest: int = LONGEST_SHOWN) -> str:
    """``name`` for one line of a terminal: control characters escaped, shortened to ``longest``."""
    cut = name if len(name) <= longest else name[: longest - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
