"""Names that a user gives, and names that a user is shown."""

from collections.abc import Mapping
from difflib import get_close_matches
from heapq import nsmallest

from hale.errors import HaleError

COMPARED = 20_000
"""Names of about the right length that an unknown one is compared with."""
LONGEST_COMPARED = 200
LONGEST_SHOWN = 80


class UnknownNameError(HaleError):
    """A name or an id that nothing has; the message suggests names like it."""


def resolve(kind: str, id_of: Mapping[str, int], given: str | int) -> int:
    """The id of a name, or a checked id.

    Args:
        kind: ``entity`` or ``relation``, for messages.
        id_of: id of each name; ids count from 0.
        given: a name, an id, or (where no name is that) ``id:`` and an id, as on a command line.

    Raises:
        UnknownNameError: neither a name nor an id.
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
    if not 0 <= given < len(id_of):
        raise UnknownNameError(f"no {kind} has id {given}: ids are 0 to {len(id_of) - 1}")
    return int(given)


def _suggestion(id_of: Mapping[str, int], name: str) -> str:
    if len(name) > LONGEST_COMPARED:
        return ""
    rivals = (other for other in id_of if len(other) <= LONGEST_COMPARED)
    near = nsmallest(COMPARED, rivals, key=lambda other: abs(len(other) - len(name)))
    close = get_close_matches(name, near, n=3)
    quoted = ", ".join(f"'{shown(other)}'" for other in close)
    return f": did you mean {quoted}?" if close else ""


def shown(name: str, longest: int = LONGEST_SHOWN) -> str:
    """``name`` fit for one line of a terminal: control characters escaped, a long end cut off."""
    cut = name if len(name) <= longest else name[: longest - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
