"""IRIs are shortened in tables, and nothing else is."""

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hale.runs.prefixes import prefixes_of, shorten
from hale.runs.tables import FittedTable

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def test_namespaces_are_well_known_or_numbered_by_how_often_they_occur() -> None:
    names = [f"{RDF}type", "http://b.org/x", "http://a.org/1", "http://a.org/2", "Ada Berg"]
    assert prefixes_of(names) == {"http://a.org/": "ns1", RDF: "rdf", "http://b.org/": "ns2"}


texts = st.text(max_size=8) | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "urn+x", "HTTPS"]), st.sampled_from(["a.org", "b.org/p/q", ""]),
    st.sampled_from(["/", "#", "", "/#"]), st.text(max_size=4),
)  # fmt: skip


@given(st.lists(texts))
def test_a_shortened_name_can_be_written_out_again(names: list[str]) -> None:
    prefixes = prefixes_of(names)
    assert len(set(prefixes.values())) == len(prefixes)
    spaces = {prefix: namespace for namespace, prefix in prefixes.items()}
    for name in names:
        short = shorten(name, prefixes)
        if short != name:
            prefix, _, local = short.partition(":")
            assert spaces[prefix] + local == name
            assert local


def test_a_table_lists_its_prefixes_and_keeps_what_is_no_iri() -> None:
    long = "https://example.org/" + 10 * "very/long/" + "place#Ada"
    rows = [
        {"head": long, "relation": f"{RDF}type", "tail": "http://x.org", "rank": 1},
        {"head": "C://", "relation": "a/b", "tail": "see http://x.org/y", "rank": 2},
    ]
    file = StringIO()
    Console(file=file, width=200).print(FittedTable(rows))
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert lines[2] == ["ns1:Ada", "rdf:type", "http://x.org", "1"]
    assert lines[3] == ["C://", "a/b", "see", "http://x.org/y", "2"]
    assert lines[4:] == [["ns1:", long.removesuffix("Ada")], ["rdf:", RDF]]
