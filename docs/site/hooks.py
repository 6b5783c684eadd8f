"""Files outside docs/ that its pages link to become files of the site, at their repository paths.

So a link such as ``../results/fig1.png`` works in the repository and on the site, and no file lies
in the repository twice. The README's place is taken by the site's own first page.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?P<path>[^)\s#:]+)(?P<rest>[^)]*)\)")
WIDE = re.compile(r"systems\.md$|results/")
NAMED = re.compile(r"\[(?P<text>[^\[\]]*)" + LINK.pattern)
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to, and what the added pages link to."""
    pages = [file for file in files if file.src_uri.endswith(".md")]
    while pages:
        page = pages.pop()
        for path in linked(page.content_string, source(page)):
            outside = not path.startswith("docs/") and path != "README.md"
            if outside and (ROOT / path).is_file() and path not in files.src_uris:
                file = File(path, str(ROOT), config.site_dir, config.use_directory_urls)
                files.append(file)
                pages += [file] * path.endswith(".md")
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn repository links into links of the site; a folder's name stays, without a link."""
    here = source(page.file)
    if WIDE.match(page.file.src_uri):
        page.meta["hide"] = ["toc"]  # room for tables of many columns

    def folder(link: re.Match[str]) -> str:
        path, text = target(link["path"], here), link["text"]
        if not (ROOT / path).is_dir():
            return link[0]
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    def file(link: re.Match[str]) -> str:
        path = target(link["path"], here)
        uri = "index.md" if path == "README.md" else path.removeprefix("docs/")
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"]({relative}{link['rest']})"

    return outside_fences(markdown, lambda text: LINK.sub(file, NAMED.sub(folder, text)))


def source(file: File) -> str:
    """A page's path in the repository."""
    return Path(file.abs_src_path or ROOT / "docs" / file.src_uri).relative_to(ROOT).as_posix()


def target(link: str, here: str) -> str:
    """The repository path that a link in the page ``here`` names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def linked(markdown: str, here: str) -> Iterator[str]:
    """The repository paths that a page links to."""
    for link in LINK.finditer(FENCE.sub("", markdown)):
        yield target(link["path"], here)


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Change the text between code blocks."""
    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))
