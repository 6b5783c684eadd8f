"""RDF in all its syntaxes, parsed by pyoxigraph.

An IRI is named without its angle brackets, a blank node by its label, as ``_:b1``; an IRI that
begins with ``_:`` keeps its brackets, so that the two differ. A blank node without a label is named
by its file and its number in it. Named graphs are read as one graph.
"""

import importlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import IO, Any, Literal

from hale.errors import DatasetError
from hale.graphs.named_triples import NamedTriples

log = logging.getLogger(__name__)

SYNTAXES = {
    "ttl": "TURTLE", "nt": "N_TRIPLES", "nq": "N_QUADS", "trig": "TRIG", "rdf": "RDF_XML",
    "xml": "RDF_XML", "jsonld": "JSON_LD",
}  # fmt: skip
"""pyoxigraph's name of the syntax of each format."""
BLOCK_TRIPLES = 1 << 16
BOM = b"\xef\xbb\xbf"

Literals = Literal["drop", "keep"]

_UNLABELLED = re.compile(r"[a-f][0-9a-f]{25,31}")
"""Labels that the parser draws: a random 128-bit number without leading zeros, a letter first."""
_POSITION = re.compile(r"^Parser error [^:]*: ")


@dataclass
class _Terms:
    """Names of terms; ``unlabelled`` holds those of blank nodes that the parser has labelled.

    In a syntax that is ``labelled`` there are none.
    """

    ox: Any
    file: str
    literals: Literals
    labelled: bool
    unlabelled: dict[str, str] = field(default_factory=dict)
    dropped: int = 0
    in_graphs: int = 0

    def triples(self, quads: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
        node, default = (self.ox.NamedNode, self.ox.BlankNode), self.ox.DefaultGraph()
        for quad in quads:
            if self.literals == "drop" and not isinstance(quad.object, node):
                self.dropped += 1
                continue
            self.in_graphs += quad.graph_name != default
            yield self.name(quad.subject), quad.predicate.value, self.name(quad.object)

    def name(self, term: Any) -> str:
        if isinstance(term, self.ox.NamedNode):
            iri: str = term.value
            return f"<{iri}>" if iri.startswith("_:") else iri
        is_blank = isinstance(term, self.ox.BlankNode)
        if is_blank and not self.labelled and _UNLABELLED.fullmatch(term.value):
            number = len(self.unlabelled) + 1
            return self.unlabelled.setdefault(term.value, f"_:{self.file}#{number}")
        return str(term)

    def notes(self) -> None:
        """Log what was left out."""
        if self.dropped:
            log.warning(
                "%s: dropped %d triples whose object is a literal; dataset.literals=keep reads "
                "them as entities", self.file, self.dropped,
            )  # fmt: skip
        if self.in_graphs:
            log.warning("%s: %d triples are in named graphs, whose names are ignored", self.file,
                        self.in_graphs)  # fmt: skip


def rdf_blocks(
    file: IO[bytes], where: str, syntax: str, literals: Literals
) -> Iterator[NamedTriples]:
    """Triples of an RDF file.

    Args:
        file: opened for bytes.
        where: its path.
        syntax: a key of :data:`SYNTAXES`.
        literals: whether triples whose object is a literal are dropped (and counted in a warning),
            or kept, the literal as an entity named as in N-Triples.

    Raises:
        DatasetError: pyoxigraph is not installed, or a syntax error, with line and column.
    """
    try:
        ox = importlib.import_module("pyoxigraph")
    except ImportError:
        raise DatasetError(f"{where} needs pyoxigraph: pip install pyoxigraph") from None
    terms = _Terms(ox, where.rsplit("/", 1)[-1], literals, syntax in ("nt", "nq"))
    form = getattr(ox.RdfFormat, SYNTAXES[syntax])
    try:
        quads = ox.parse(_WithoutMark(file), format=form, lenient=True)
        triples = terms.triples(quads)
        first = 0
        while block := list(islice(triples, BLOCK_TRIPLES)):
            head, relation, tail = zip(*block, strict=True)
            yield NamedTriples(
                head, relation, tail, None,
                partial(_place, where, first),
            )  # fmt: skip
            first += len(block)
    except SyntaxError as error:
        raise DatasetError(_refusal(where, error, form)) from None
    except MemoryError as error:
        raise DatasetError(f"{where}: a term is too long ({error})") from None
    terms.notes()
    if not first and terms.dropped:
        raise DatasetError(_nothing_left(where, terms.dropped))


def _nothing_left(where: str, dropped: int) -> str:
    return (
        f"{where} has no triples left: the objects of all {dropped} are literals; "
        "dataset.literals=keep reads them as entities"
    )


def _refusal(where: str, error: SyntaxError, form: Any) -> str:
    at = "" if error.lineno is None else f":{error.lineno}:{error.offset}"
    reason = _POSITION.sub("", error.msg.splitlines()[0])
    if "LoadDocumentCallback" in reason:
        return f"{where}{at}: a remote @context is not loaded: put the context into the file"
    advice = ""
    if str(form) == "N-Triples" and "followed by a dot" in reason:
        advice = "; if it has named graphs, read it by dataset.format=nq"
    return f"{where}{at}: not {form}: {reason}{advice}"


def _place(where: str, first: int, at: int) -> str:
    return f"{where}: triple {first + at + 1}"


class _WithoutMark:
    """A file without its byte order mark."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.read(len(BOM)).removeprefix(BOM)

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        start, self._start = self._start, b""
        return start or self._file.read(size)
