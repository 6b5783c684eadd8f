"""Resolving the names that users type, and shortening names for display."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
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


class NameIds(dict[str, int]):
    """Ids of names, which are found in another Unicode normalisation, too."""

    @cached_property
    def composed(self) -> Mapping[str, Sequence[str]]:
        """The names that are not ASCII, by their NFC form."""
        found: dict[str, list[str]] = {}
        for name in self:
            if not name.isascii():
                found.setdefault(normalize("NFC", name), []).append(name)
        return found

    def alike(self, name: str) -> list[str]:
        """The names that differ from ``name`` in Unicode normalisation at most."""
        form = normalize("NFC", name)
        plain = [form] if form.isascii() and form in self else []
        return plain + list(self.composed.get(form, ()))


def resolve(kind: str, id_of: NameIds, given: str | int) -> int:
    """The id of a name, or a checked id.

    A name that looks the same as another may have other characters: an accented letter is one
    character in NFC, two in NFD. Where no name is exactly as given, the one that differs in
    normalisation alone is meant.

    Args:
        kind: ``entity`` or ``relation``, for messages.
        id_of: id of each name; ids count from 0.
        given: a name, an id, or ``id:`` and an id, as on a command line; names come first.

    Raises:
        UnknownNameError: neither a known name nor a valid id, or several names in other
            normalisations.
    """
    if isinstance(given, str):
        if given in id_of:
            return id_of[given]
        if alike := id_of.alike(given):
            return id_of[_only(kind, id_of, alike, given)]
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


def _only(kind: str, id_of: NameIds, alike: Sequence[str], given: str) -> str:
    if len(alike) > 1:
        ids = ", ".join(f"id:{id_of[name]}" for name in alike)
        raise UnknownNameError(
            f"no {kind} is named '{shown(given)}', and several differ in Unicode normalisation "
            f"alone: choose one of {ids}"
        )
    return alike[0]


def _suggestion(id_of: Mapping[str, int], name: str) -> str:
    if len(name) > LONGEST_COMPARED:
        return ""
    short = (other for other in id_of if len(other) <= LONGEST_COMPARED)
    near = nsmallest(COMPARED, short, key=lambda other: abs(len(other) - len(name)))
    close = get_close_matches(name, near, n=3)
    quoted = ", ".join(f"'{shown(other)}'" for other in close)
    return f": did you mean {quoted}?" if close else ""


def shown(name: str, longest: int = LONGEST_SHOWN) -> str:
    """``name`` for one line of a terminal: control characters escaped, shortened to ``longest``."""
    cut = name if len(name) <= longest else name[: longest - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
