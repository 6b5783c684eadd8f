"""Six graphs that no recipe was tuned on: ``python -m benchmarks.own_graphs FOLDER``.

Each becomes a folder with ``train.tsv``, ``valid.tsv`` and ``test.tsv``. A folder that is there is
not made again. As made on a Debian 12 of November 2026:

========  ========  =========  =======  =====  =====  ============================================
graph     entities  relations  train    valid  test   source
========  ========  =========  =======  =====  =====  ============================================
nations   14        55         1,592    199    201    PyKEEN's wheel, with its splits
umls      135       46         5,216    652    661    the same
kinships  104       25         8,544    1,068  1,074  the same
go        43,559    5          77,144   4,286  4,286  Gene Ontology of July 2022, r-bioc-go.db
wordnet3  116,650   18         176,333  5,000  5,000  WordNet 3.0, the package wordnet-base
debian    136,067   17         893,644  5,000  5,000  the index of Debian 12's packages
========  ========  =========  =======  =====  =====  ============================================

The last three need apt, with its lists up to date, and are split by hale: 5 % of the triples are
held out for valid and as much for test, but no more than 5,000, with seed 0. The package index
changes with Debian's updates, and its numbers with it.
"""

import argparse
import re
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from hale.graphs.kg import KnowledgeGraph

Triple = tuple[str, str, str]

PYKEEN = "pykeen==1.11.1"
HELD_OUT, MOST_HELD_OUT = 0.05, 5_000
"""Share of a graph's triples in valid and in test, and the most of them."""

POINTERS = {
    "!": "antonym", "@": "hypernym", "@i": "instance_hypernym", "#m": "member_holonym",
    "#s": "substance_holonym", "#p": "part_holonym", "=": "attribute", "*": "entailment",
    ">": "cause", "^": "also_see", "$": "verb_group", "&": "similar_to", "<": "participle_of",
    "\\": "pertainym", "+": "derivationally_related_form", ";c": "domain_topic",
    ";r": "domain_region", ";u": "domain_usage",
}  # fmt: skip
"""WordNet's pointers (wninput(5WN)) without those that are the inverse of another."""
PARTS_OF_SPEECH = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
PACKAGE_LISTS = (
    "Depends", "Pre-Depends", "Recommends", "Suggests", "Enhances", "Breaks", "Conflicts",
    "Replaces", "Provides",
)  # fmt: skip
"""Fields of Debian's index that list packages."""
VALUES = ("Section", "Priority", "Architecture", "Multi-Arch", "Maintainer", "Source")
"""Fields of one value; with the lists, ``Tag`` and the host of ``Homepage`` 17 relations."""


def main() -> None:
    """Make the graphs that are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the graphs' folders are made")
    parser.add_argument("--graphs", nargs="+", choices=MAKERS, default=list(MAKERS))
    given = parser.parse_args()
    for name in given.graphs:
        folder = given.folder / name
        if not folder.exists():
            with tempfile.TemporaryDirectory() as downloads:
                write(folder, MAKERS[name](Path(downloads)))
        graph = KnowledgeGraph.read(folder)
        sizes = ", ".join(f"{part} {len(triples):,}" for part, triples in graph.splits.items())
        print(f"{name}: E {graph.num_entities:,}, R {graph.num_relations}, {sizes}", flush=True)


def write(folder: Path, splits: dict[str, list[Triple]]) -> None:
    """Write the splits as TSV, all or none."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, triples in splits.items():
        text = "".join(f"{head}\t{relation}\t{tail}\n" for head, relation, tail in triples)
        (unfinished / f"{name}.tsv").write_text(text, encoding="utf-8")
    unfinished.rename(folder)


def split(triples: Iterable[Triple]) -> dict[str, list[Triple]]:
    """Distinct triples, split by hale."""
    rows = list(dict.fromkeys(triples))
    graph = KnowledgeGraph.from_triples(rows, held_out=min(HELD_OUT, MOST_HELD_OUT / len(rows)))
    return {
        name: [
            (graph.entities[head], graph.relations[relation], graph.entities[tail])
            for head, relation, tail in triple_T3.tolist()
        ]
        for name, triple_T3 in graph.splits.items()
    }


def from_wheel(name: str) -> Callable[[Path], dict[str, list[Triple]]]:
    """A maker of a small graph that PyKEEN's wheel contains."""

    def make(downloads: Path) -> dict[str, list[Triple]]:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
            str(downloads), PYKEEN,
        ]  # fmt: skip
        subprocess.run(command, check=True)
        (wheel,) = downloads.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {
                part: read_lines(archive.read(f"pykeen/datasets/{name}/{part}.txt").decode())
                for part in ("train", "valid", "test")
            }

    return make


def read_lines(text: str) -> list[Triple]:
    """The triples of tab-separated lines."""
    return [(h, r, t) for h, r, t in (line.split("\t") for line in text.splitlines())]


def unpacked(package: str, downloads: Path) -> Path:
    """Where the files of a Debian package are, downloaded by apt."""
    subprocess.run(["apt-get", "download", "-qq", package], check=True, cwd=downloads)
    (archive,) = downloads.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(downloads)], check=True)
    return downloads


def wordnet(downloads: Path) -> dict[str, list[Triple]]:
    """WordNet 3.0 whole."""
    folder = unpacked("wordnet-base", downloads) / "usr/share/wordnet"
    lines = {
        name: (folder / name).read_text(encoding="ascii").splitlines()
        for part in PARTS_OF_SPEECH
        for name in (f"data.{part}", f"index.{part}")
    }
    return split(wordnet_triples(lines))


def wordnet_triples(lines: dict[str, list[str]]) -> Iterator[Triple]:
    """Triples of synsets; a pair that a relation has in both directions is given once.

    Otherwise most answers of a symmetric relation could be read off its other direction.

    Args:
        lines: of WordNet's ``data`` and ``index`` files (wndb(5WN)), by their names.
    """
    senses = dict(numbered_senses(lines))
    fields = {
        (PARTS_OF_SPEECH[part], line[:8]): line.split(" | ")[0].split()
        for part in PARTS_OF_SPEECH
        for line in lines[f"data.{part}"]
        if not line.startswith("  ")
    }
    names = {}
    for (pos, offset), found in fields.items():
        word = re.sub(r"\(\w+\)$", "", found[4])  # an adjective's position
        names[pos, offset] = f"{word}.{pos}.{senses[pos, offset, word.lower()]:02d}"
    seen = set()
    for synset, found in fields.items():
        words = int(found[3], 16)
        count = 4 + 2 * words
        pointers = found[count + 1 : count + 1 + 4 * int(found[count])]
        for symbol, offset, pos, _ in zip(*[iter(pointers)] * 4, strict=True):
            if relation := POINTERS.get(symbol):
                triple = names[synset], relation, names[pos.replace("s", "a"), offset]
                if triple[::-1] not in seen:
                    seen.add(triple)
                    yield triple


def numbered_senses(lines: dict[str, list[str]]) -> Iterator[tuple[tuple[str, str, str], int]]:
    """For each part of speech, synset and word, which of the word's senses the synset is."""
    for part, pos in PARTS_OF_SPEECH.items():
        for line in lines[f"index.{part}"]:
            if not line.startswith("  "):
                word, _, count, *_ = line.split()
                offsets = line.split()[-int(count) :]
                for number, offset in enumerate(offsets, 1):
                    yield (pos, offset, word), number


def gene_ontology(downloads: Path) -> dict[str, list[Triple]]:
    """The edges from the terms of the Gene Ontology to their parents, with their relations."""
    folder = unpacked("r-bioc-go.db", downloads) / "usr/lib/R/site-library/GO.db/extdata"
    with sqlite3.connect(folder / "GO.sqlite") as database:
        rows = [
            row
            for table in ("go_bp_parents", "go_cc_parents", "go_mf_parents")
            for row in database.execute(
                "SELECT child.term, relationship_type, parent.term "
                f"FROM {table} AS edge, go_term AS child, go_term AS parent "
                "WHERE child._id = edge._id AND parent._id = edge._parent_id "
                "ORDER BY edge._id, edge._parent_id, relationship_type"
            )
        ]
    return split(rows)


def debian(_: Path) -> dict[str, list[Triple]]:
    """The index of Debian's packages, as apt has it."""
    text = subprocess.run(
        ["apt-cache", "dumpavail"], check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout
    return split(debian_triples(text.splitlines()))


def debian_triples(lines: Iterable[str]) -> Iterator[Triple]:
    """Triples of packages, in the order of an index (deb-control(5)).

    What is not a package has a prefix, as ``section:libs``. Versions are ignored, and each of
    several alternatives counts.
    """
    for filled, stanza in groupby(lines, key=lambda line: bool(line.strip())):
        if filled:
            fields = stanza_fields(stanza)
            yield from package_triples(fields["Package"], fields)


def stanza_fields(lines: Iterable[str]) -> dict[str, str]:
    """The fields of a paragraph, continued lines joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith((" ", "\t")):
            fields[name] += line
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def package_triples(package: str, fields: dict[str, str]) -> Iterator[Triple]:
    """What a package's fields say of it."""
    for field in PACKAGE_LISTS:
        for other in re.split(r"[,|]", fields.get(field, "")):
            if words := other.split():
                yield package, field, words[0].partition(":")[0]
    for field in VALUES:
        value = re.sub(r"\s*(<[^>]*>|\([^)]*\))", "", fields.get(field, ""))
        if value:
            yield package, field, f"{field.lower()}:{value}"
    for tag in fields.get("Tag", "").replace(",", " ").split():
        yield package, "Tag", f"tag:{tag}"
    if host := re.match(r"\w+://([^/:]+)", fields.get("Homepage", "")):
        yield package, "Host", f"host:{host[1].lower()}"


MAKERS: dict[str, Callable[[Path], dict[str, list[Triple]]]] = {
    "nations": from_wheel("nations"),
    "umls": from_wheel("umls"),
    "kinships": from_wheel("kinships"),
    "go": gene_ontology,
    "wordnet3": wordnet,
    "debian": debian,
}

if __name__ == "__main__":
    main()
