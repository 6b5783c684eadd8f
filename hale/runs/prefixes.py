"""IRIs in tables: shortened by prefixes, which are listed below.

Display only: names keep their IRIs everywhere else.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count

WELL_KNOWN = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://www.w3.org/2000/01/rdf-schema#": "rdfs",
    "http://www.w3.org/2002/07/owl#": "owl",
    "http://www.w3.org/2001/XMLSchema#": "xsd",
    "http://www.w3.org/2004/02/skos/core#": "skos",
    "http://www.w3.org/ns/prov#": "prov",
    "http://xmlns.com/foaf/0.1/": "foaf",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://schema.org/": "schema",
    "https://schema.org/": "sdo",
    "http://purl.obolibrary.org/obo/": "obo",
    "http://dbpedia.org/resource/": "dbr",
    "http://dbpedia.org/ontology/": "dbo",
    "http://www.wikidata.org/entity/": "wd",
    "http://www.wikidata.org/prop/direct/": "wdt",
}
"""Prefixes of namespaces by the convention of their communities, as on prefix.cc."""

_IRI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://\S*[/#])([^/#\s]+)")


def prefixes_of(texts: Iterable[str]) -> dict[str, str]:
    """A prefix for each namespace of the IRIs among some texts, those of most IRIs first.

    A namespace ends with the last ``#`` or ``/`` of an IRI. Those that are not well known are
    numbered: ``ns1``, ``ns2``.
    """
    found = Counter(match[1] for text in texts if (match := _IRI.fullmatch(text)))
    numbers = count(1)
    return {
        space: WELL_KNOWN.get(space) or f"ns{next(numbers)}" for space, _ in found.most_common()
    }


def shorten(text: str, prefixes: Mapping[str, str]) -> str:
    """An IRI as ``prefix:local``; any other text as it is."""
    match = _IRI.fullmatch(text)
    return f"{prefixes[match[1]]}:{match[2]}" if match and match[1] in prefixes else text
