"""A griffe extension: the reST of hale's docstrings as the Markdown that the site renders.

Roles become cross-references where the API pages show their target, else code; ``::`` before a
literal block becomes ``:``; simple tables become Markdown's.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")
TABLE = re.compile(r"^( *)=+  =+\n(.*?)^\1=+  =+\n(?:(.*?)^\1=+  =+(?:\n|$))?", re.M | re.S)


class Markdown(griffe.Extension):
    """Rewrite every docstring of the package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Visit the package's modules, classes, functions and attributes."""
        rewrite(pkg)


def rewrite(item: griffe.Object) -> None:
    """Rewrite the docstrings of an object and its members."""
    if item.docstring:
        text = ROLE.sub(lambda role: reference(item, role), item.docstring.value)
        item.docstring.value = TABLE.sub(table, re.sub(r"::$", ":", text, flags=re.M))
    for member in item.members.values():
        if isinstance(member, griffe.Object):
            rewrite(member)


def reference(item: griffe.Object, role: re.Match[str]) -> str:
    """A role as a link if its target is on an API page, else as code."""
    name = role[2].rsplit(".", 1)[-1] if role[1] else role[2]
    try:
        path = role[2] if role[2].startswith("hale.") else item.resolve(role[2])
        found = item.package[path.removeprefix("hale.")]
    except (KeyError, griffe.NameResolutionError):
        return f"`{name}`"
    return f"[`{name}`][{found.canonical_path}]" if found.has_docstring else f"`{name}`"


def table(match: re.Match[str]) -> str:
    """A simple reST table of two columns, with or without a head, as Markdown."""
    head, body = (match[2], match[3]) if match[3] else ("", match[2])
    width = len(match[1]) + match[0].strip().index("  ") + 2
    rows: list[list[str]] = []
    for line in body.splitlines():
        key, text = line[:width].strip(), line[width:].strip()
        if key:
            rows.append([key, text])
        else:
            rows[-1][1] += f" {text}"
    first = [head.strip()[:width].strip(), head[width:].strip()]
    lines = [first, ["---", "---"], *rows]
    return "\n" + "".join(f"{match[1]}| {key} | {text} |\n" for key, text in lines)
