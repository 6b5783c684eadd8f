"""The forms of triples: every format gives the same graph, and every fault its line."""

import gzip
import io
import logging
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.cli import run_command
from hale.errors import ArgumentError, DatasetError, HaleError
from hale.graphs.columns import Columns, well_known
from hale.graphs.frames import rows_or_frame
from hale.graphs.growth import grow, sources
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.named_triples import distinct, keys
from hale.graphs.names import NameIds, UnknownNameError, resolve
from hale.graphs.paths import as_path
from hale.graphs.quality import warnings
from hale.graphs.reading import read_triples
from hale.graphs.statistics import split_rows
from hale.graphs.triple_file import Form
from hale.settings.build import build
from hale.settings.compose import compose

ROOT = Path(__file__).resolve().parent.parent
RING = [
    (f"c{i}", relation, f"c{(i + step) % 40}")
    for i in range(40)
    for relation, step in (("next", 1), ("near", 2))
]
TSV = "".join("\t".join(row) + "\n" for row in RING)
NAMES = ["subject", "predicate", "object"]


@pytest.fixture(scope="module")
def ring() -> KnowledgeGraph:
    return KnowledgeGraph.from_triples(RING)


def read(folder: Path, name: str, content: bytes | str, **arguments: object) -> KnowledgeGraph:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return KnowledgeGraph.read(file, **arguments)


def refused(folder: Path, name: str, content: bytes | str, **arguments: object) -> str:
    """The one line that says what is wrong with a file, from the file's name on."""
    with pytest.raises(HaleError) as error:
        read(folder, name, content, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder}/", "")


# The same triples in every form.

IRIS = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FFF), min_size=1, max_size=6)
IRIS = IRIS.map("http://example.org/".__add__)
ROWS = st.lists(st.tuples(IRIS, IRIS, IRIS), min_size=1, max_size=12)


def csv_of(rows: list[tuple[str, str, str]]) -> str:
    frame = pandas.DataFrame(rows, columns=NAMES)
    return frame.to_csv(index=False)


def forms(rows: list[tuple[str, str, str]], folder: Path) -> dict[str, object]:
    """A path, rows or a frame, by the name of the form."""
    table = pyarrow.table({name: [row[i] for row in rows] for i, name in enumerate(NAMES)})
    statements = "".join(f"<{h}> <{r}> <{t}> .\n" for h, r, t in rows)
    escaped = statements.encode("ascii", "backslashreplace").decode()
    escaped = re.sub(r"\\x(..)", r"\\u00\1", escaped)
    texts = {
        "tsv": "".join("\t".join(row) + "\n" for row in rows),
        "csv": csv_of(rows),
        "nt": escaped,
        "nq": statements.replace(" .\n", " <http://example.org/graph> .\n"),
        "ttl": "@prefix e: <http://example.org/> .\n" + statements,
    }
    for suffix, text in texts.items():
        (folder / f"g.{suffix}").write_text(text, encoding="utf-8")
    (folder / "g.tsv.gz").write_bytes(gzip.compress(texts["tsv"].encode()))
    pyarrow.parquet.write_table(table, folder / "g.parquet", row_group_size=5)
    pyarrow.feather.write_feather(table, folder / "g.feather")
    with pyarrow.ipc.new_stream(folder / "g.arrow", table.schema) as stream:
        stream.write_table(table)
    files = {file.name: file for file in folder.iterdir()}
    frame = pandas.DataFrame(rows, columns=NAMES)
    return files | {
        "rows": iter(rows),
        "lists": [list(row) for row in rows],
        "numpy": np.array(rows),
        "pandas": frame,
        "objects": frame.astype(object),
        "categories": frame.astype("category"),
        "polars": polars.from_pandas(frame),
        "lazy": polars.from_pandas(frame).lazy(),
        "table": table,
    }


@settings(deadline=None, max_examples=25)
@given(rows=ROWS)
def test_every_form_of_the_same_triples_gives_the_same_graph(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    both = {"valid": rows[:1], "test": rows[-1:]}
    wanted = KnowledgeGraph.from_triples(rows, **both)
    first = dict.fromkeys(name for head, _, tail in rows for name in (head, tail))
    assert wanted.entities == tuple(first)
    assert wanted.relations == tuple(dict.fromkeys(relation for _, relation, _ in rows))
    found = forms(rows, folder)
    assert len(found) == 18
    for name, form in found.items():
        if isinstance(form, Path):
            graph = folder_of(form, rows, folder / f"{name}_splits")
        else:
            graph = KnowledgeGraph.from_triples(form, **both)
        assert graph == wanted, name


def folder_of(train: Path, rows: list[tuple[str, str, str]], folder: Path) -> KnowledgeGraph:
    """The graph of a folder with ``train`` and its first and last triple."""
    folder.mkdir()
    suffix = train.name.split(".", 1)[1]
    (folder / f"train.{suffix}").write_bytes(train.read_bytes())
    for split, row in (("valid", rows[0]), ("test", rows[-1])):
        (folder / f"{split}.tsv").write_text("\t".join(row), encoding="utf-8")
    return KnowledgeGraph.read(folder)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.floats(0, 9, width=32)
        ),
        min_size=1,
    )
)
def test_a_repeated_triple_counts_once_with_its_largest_weight(rows):
    largest: dict[tuple[int, ...], float] = {}
    for *triple, weight in rows:
        largest[tuple(triple)] = max(weight, largest.get(tuple(triple), 0))
    triple_T3 = np.array([row[:3] for row in rows])
    found_T3, weight_T = distinct(triple_T3, np.array([row[3] for row in rows], np.float32))
    assert list(map(tuple, found_T3.tolist())) == list(largest)
    assert weight_T.tolist() == list(largest.values())
    assert distinct(triple_T3, None)[0].tolist() == found_T3.tolist()


@given(
    st.lists(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=20), min_size=1, max_size=3),
    st.sampled_from([(1, 1, 1), (2**28, 2**10, 2**28), (2**29, 2**29, 2**29), (2**60, 1, 2**60)]),
    st.sampled_from([(0, 0, 0), (2**31, 2**30, 2**31), (0, 2**61, 3)]),
)
def test_keys_number_triples_in_their_order_whatever_their_ids(parts, factor, shift):
    arrays = [np.array(part, np.int64).reshape(-1, 3) * factor + np.array(shift) for part in parts]
    found = keys([part_T3.T for part_T3 in arrays])
    assert [len(key_T) for key_T in found] == list(map(len, parts))
    key_of = {}
    for part, key_T in zip(parts, found, strict=True):
        for triple, key in zip(part, key_T.tolist(), strict=True):
            assert key_of.setdefault(triple, key) == key >= 0
    in_order = sorted(key_of)
    assert sorted(in_order, key=key_of.__getitem__) == in_order
    assert len(set(key_of.values())) == len(key_of)


def test_ids_of_known_datasets_do_not_change(ring):
    """The first entities, relations and splits of the reader before formats were added."""
    assert ring.entities[:5] == ("c0", "c1", "c2", "c3", "c4")
    assert ring.train[:3].tolist() == [[0, 0, 1], [0, 1, 2], [1, 1, 3]]
    assert ring.fingerprint == "4c6adc19d472db4ca9fbd55c1f405553645e9abcb33b1214091106e51eaea6a3"


def test_blocks_join_lines_names_and_numbers(tmp_path, ring, monkeypatch):
    """Blocks of a few bytes, so that every line is cut somewhere."""
    for size in (1, 2, 3, 7, 50):
        monkeypatch.setattr("hale.graphs.delimited.BLOCK_BYTES", size)
        for ending in ("\n", "\r\n"):
            text = "\ufeff" + TSV.replace("\n", ending) + ending * 3 + "  "
            assert read(tmp_path, "g.tsv", text) == ring
        csv = "head,relation,tail\n" + TSV.replace("\t", ",") + '"a\n\nb",r,"x ""y"", z"\n\n'
        assert "a\n\nb" in read(tmp_path, "g.csv", csv).entities
        assert refused(tmp_path, "g.tsv", TSV + "\n\na\tb\tc\n").startswith("g.tsv:81: empty line")
        assert refused(tmp_path, "g.tsv", TSV + "a\tb\n").startswith("g.tsv:81: got 2 tab")
        assert refused(tmp_path, "g.tsv", TSV.encode() + b"a\tb\t\xff\n").startswith(
            "g.tsv:81: not"
        )


# Headers and columns.


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("head relation tail", (0, 1, 2)),
        ("Subject Predicate Object", (0, 1, 2)),
        ("source target weight type", (0, 3, 1)),
        ("s p o", (0, 1, 2)),
        ("h r t", (0, 1, 2)),
        ("t r h", (2, 1, 0)),
        ("id from to label note", (1, 3, 2)),
        ("head relation object", None),
        ("source target type label", None),
        ("head tail source target relation", None),
        ("c0 next c1", None),
    ],
)
def test_well_known_names(names, wanted):
    assert well_known(names.split()) == wanted


def test_a_header_of_a_tsv_is_found_and_named(tmp_path, ring, caplog):
    for header in ("head\trelation\ttail", "s\tp\to", " Source\tREL\ttarget "):
        caplog.clear()
        assert read(tmp_path, "g.tsv", f"{header}\n{TSV}") == ring
        assert "g.tsv:1: a header, columns " in caplog.text
    caplog.clear()
    assert read(tmp_path, "g.tsv", TSV) == ring
    assert not caplog.records
    swapped = "tail\trelation\thead\n" + "".join(f"{t}\t{r}\t{h}\n" for h, r, t in RING)
    assert read(tmp_path, "g.tsv", swapped).train[0].tolist() == [0, 0, 1]


def test_columns_by_name_and_position(tmp_path, ring):
    text = "who;what;note".replace(";", ",") + ",whom\n"
    text += "".join(f'{h},{r},"a, b",{t}\n' for h, r, t in RING)
    message = refused(tmp_path, "g.csv", text)
    assert message == (
        "g.csv:1: head, relation and tail are not clear from the columns' names: choose by name, "
        "as in dataset.columns=[subject,predicate,object], or by position, as in "
        "dataset.columns=[0,1,2], if they are not names; found who, what, note, whom"
    )
    assert read(tmp_path, "g.csv", text, columns=["who", "what", "whom"]) == ring
    assert read(tmp_path, "g.csv", text.split("\n", 1)[1], columns=[0, 1, 3]) == ring
    assert "no column is called 'was'; found who, what, note, whom" in refused(
        tmp_path, "g.csv", text, columns=["who", "was", "whom"]
    )
    assert "no column 4: it has 4, counted from 0" in refused(
        tmp_path, "g.csv", text, columns=[0, 1, 4]
    )
    twice = text.replace("note", "who", 1)
    assert "two columns are called 'who'" in refused(
        tmp_path, "g.csv", twice, columns=["who", "what", "whom"]
    )
    tail_second = "".join(f"{h}\t{t}\t{r}\n" for h, r, t in RING)
    assert read(tmp_path, "g.tsv", tail_second, columns=[0, 2, 1]) == ring
    known = "head,note,relation,tail\n" + "".join(f"{h},x,{r},{t}\n" for h, r, t in RING)
    assert read(tmp_path, "g.csv", known) == ring
    assert read(tmp_path, "g.csv", known, columns=[0, 2, 3]) == ring  # the header is none of them


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([0, 1], "three"), ([0, 1, 1], "three"), ([0, 1, -1], "three"),
        ([0, 1, 2.5], "a list"), ([0, True, 2], "a list"), ("abc", "a list"),
    ],
)  # fmt: skip
def test_columns_that_are_not_three(columns, words):
    with pytest.raises(ArgumentError, match=rf"^columns must be {words}"):
        KnowledgeGraph.from_triples(RING, columns=columns)


def test_weights_are_those_of_train(tmp_path):
    rows = [(*row, str(i / 80)) for i, row in enumerate(RING)]
    text = "".join("\t".join(row) + "\n" for row in rows)
    graph = read(tmp_path, "g.tsv", text, weight=3)
    wanted = {(h, r, t): float(w) for h, r, t, w in rows}
    names = [
        (graph.entities[h], graph.relations[r], graph.entities[t])
        for h, r, t in graph.train.tolist()
    ]
    assert graph.weight.tolist() == pytest.approx([wanted[name] for name in names])
    assert graph.weight.dtype == torch.float32
    header = "head\trelation\ttail\tconfidence\n"
    assert read(tmp_path, "g.tsv", header + text, weight="confidence") == graph
    assert read(tmp_path, "g.tsv", header + text).weight is None
    first = "".join(f"{w}\t{h}\t{r}\t{t}\n" for h, r, t, w in rows)
    assert read(tmp_path, "g.tsv", first, weight=0) == graph
    assert KnowledgeGraph.from_triples(rows, weight=3) == graph
    frame = polars.DataFrame(rows, schema=[*NAMES, "w"], orient="row")
    numbers = frame.with_columns(polars.col("w").cast(polars.Float64))
    assert KnowledgeGraph.from_triples(numbers, weight="w") == graph
    assert graph != read(tmp_path, "g.tsv", text, columns=[0, 1, 2])
    more = KnowledgeGraph.from_triples([*rows, (*RING[0], "7")], weight=3)
    assert more.weight.max() == 7


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "x", "", "1e39"])
def test_a_weight_that_is_none(tmp_path, weight):
    text = "".join(f"{h}\t{r}\t{t}\t1\n" for h, r, t in RING) + f"a\tr\tb\t{weight}\n"
    assert refused(tmp_path, "g.tsv", text, weight=3) == (
        f"g.tsv:81: weight must be a finite number of at least 0, got '{weight}'"
    )


def test_a_file_without_weights_counts_once_beside_those_that_have_them(tmp_path):
    first = "".join(f"{h}\t{r}\t{t}\t.25\n" for h, r, t in RING)
    (tmp_path / "edges").mkdir()
    (tmp_path / "edges/a.tsv").write_text(first)
    iris = [tuple(f"http://x.org/{name}" for name in row) for row in RING]
    second = "".join("<{}> <{}> <{}> .\n".format(*row) for row in iris)
    (tmp_path / "edges/b.nt").write_text(second)
    graph = KnowledgeGraph.read(tmp_path / "edges", weight=3)
    for (head, _, _), weight in zip(graph.train.tolist(), graph.weight.tolist(), strict=True):
        assert weight == (1.0 if graph.entities[head].startswith("http") else 0.25)
    assert set(graph.weight.tolist()) == {0.25, 1.0}


@pytest.mark.parametrize("chosen", [{"weight": 3}, {"weight": "w"}, {"columns": [0, 2, 1]}])
def test_rdf_has_no_columns_to_choose(tmp_path, chosen):
    assert refused(tmp_path, "g.nt", "<a:a> <a:r> <a:b> .\n", **chosen) == (
        "g.nt is RDF, which has no columns: leave out dataset.columns and dataset.weight"
    )


def test_weights_of_a_graph_are_checked(ring):
    parts = {"name": "x", "entities": ring.entities, "relations": ring.relations} | ring.splits
    one = torch.ones(len(ring.train))
    assert KnowledgeGraph(**parts, weight=one).fingerprint != ring.fingerprint
    for weight, message in (
        (one[1:], r"weight must be float32 of shape \(72,\), got torch.float32 of shape \(71,\)"),
        (one.double(), "weight must be float32"),
        (-one, "a weight is negative or not finite"),
        (one * float("nan"), "a weight is negative or not finite"),
        (one * 0, "the weights of all triples of train are 0"),
    ):
        with pytest.raises(DatasetError, match=message):
            KnowledgeGraph(**parts, weight=weight)


# Files, folders and standard input.


def test_the_last_suffix_decides(tmp_path, ring):
    assert read(tmp_path, "graph.nt.tsv", TSV) == ring
    assert read(tmp_path, "GRAPH.TSV", TSV) == ring
    assert read(tmp_path, "graph.data", TSV, format="tsv") == ring
    assert (
        read(tmp_path, "comma.txt", TSV.replace("\t", ","), format="csv", columns=[0, 1, 2]) == ring
    )
    with pytest.raises(ArgumentError, match=r"format must be one of txt, tsv, csv,.* got 'xls'"):
        read(tmp_path, "graph.tsv", TSV, format="xls")
    with pytest.raises(ArgumentError, match="literals must be drop or keep, got 'all'"):
        read(tmp_path, "graph.nt", TSV, literals="all")


def test_a_folder_of_other_files_is_read_in_the_order_of_names(tmp_path, ring, caplog):
    lines = TSV.splitlines(keepends=True)
    (tmp_path / "b.tsv").write_text("".join(lines[30:]))
    (tmp_path / "a.csv").write_text("h,r,t\n" + "".join(lines[:30]).replace("\t", ","))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden.tsv").write_text("x")
    with caplog.at_level(logging.INFO):
        graph = KnowledgeGraph.read(tmp_path)
    assert (graph, graph.name) == (ring, tmp_path.name)
    assert "reading and splitting a.csv, b.tsv" in caplog.text
    assert "not read, for their suffix: README.md" in caplog.text


def test_folders_without_triples(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DatasetError, match=r"x.csv is a folder without train, valid and test or"):
        KnowledgeGraph.read(tmp_path / "x.csv")
    (tmp_path / "x.csv/train.csv").mkdir()
    with pytest.raises(DatasetError, match=r"x.csv is a folder without train"):
        KnowledgeGraph.read(tmp_path / "x.csv")


def test_standard_input(ring, tmp_path, monkeypatch):
    for content, chosen in ((TSV, None), ("h,r,t\n" + TSV.replace("\t", ","), "csv")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        graph = KnowledgeGraph.read("-", format=chosen)
        assert (graph, graph.name) == (ring, "stdin")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a b c\n")))
    with pytest.raises(DatasetError, match=r"^standard input:1: got 1 tab-separated field instead"):
        KnowledgeGraph.read("-")


def test_paths_that_hydra_takes_for_numbers(tmp_path, ring, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("2024", 2024), ("1e3", 1e3), ("true", True), ("nan", float("nan")), ("1_1", 11),
    ):  # fmt: skip
        Path(name).mkdir()
        Path(name, "graph.tsv").write_text(TSV)
        graph = KnowledgeGraph.read(value)
        assert (graph, graph.name) == (ring, name)
    with pytest.raises(DatasetError, match=r"7 does not exist; .* looks like a number as \./NAME"):
        KnowledgeGraph.read(7)
    with pytest.raises(DatasetError, match="path must be a file, a folder or -"):
        KnowledgeGraph.read(None)


def test_settings_of_the_command_line_reach_the_reader(tmp_path, ring, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("1e3").mkdir()
    rows = "".join(f"{h},{r},{t},2\n" for h, r, t in RING)
    Path("1e3/g.csv").write_text("who,what,whom,sure\n" + rows)
    overrides = ["dataset=tsv", "dataset.path=1e3", "dataset.columns=[who,what,whom]"]
    assert build(compose(overrides), "dataset") == ring
    weighted = build(compose([*overrides, "dataset.weight=sure"]), "dataset")
    assert weighted.weight.tolist() == [2] * len(ring.train)
    with pytest.raises(HaleError, match=r"^dataset\.columns must be three different names"):
        build(compose([*overrides[:2], "dataset.columns=[0,1]"]), "dataset")


# RDF.

TURTLE = """@prefix x: <http://x/> .
x:a x:r x:b, x:c ; x:name "Ada"@EN ; x:age 7 .
x:b x:r [ x:r x:a ] .
<http://x/caf\\u00E9> x:r <http://x/café> .
_:n1 x:r <_:n1> .
"""


def test_literals_are_dropped_and_counted_or_kept(tmp_path, caplog):
    whole = TURTLE + "".join(f"x:a x:to x:e{i} . x:e{i} x:to x:b .\n" for i in range(40))
    dropped = read(tmp_path, "g.ttl", whole)
    assert "g.ttl: dropped 2 triples whose object is a literal" in caplog.text
    assert set(dropped.relations) == {"http://x/r", "http://x/to"}
    assert {"http://x/café", "_:n1", "<_:n1>", "_:g.ttl#1"} < set(dropped.entities)
    assert read(tmp_path, "g.ttl", whole) == dropped  # also of blank nodes without a label
    kept = read(tmp_path, "g.ttl", whole, literals="keep", held_out=0.01)
    assert set(kept.entities) - set(dropped.entities) == {
        '"Ada"@en', '"7"^^<http://www.w3.org/2001/XMLSchema#integer>',
    }  # fmt: skip
    assert refused(tmp_path, "g.ttl", '<http://a> <http://b> "c", "d" .') == (
        "g.ttl has no triples left: the objects of all 2 are literals; dataset.literals=keep "
        "reads them as entities"
    )


def test_every_node_without_a_label_is_numbered(tmp_path):
    """The parser's random labels have no leading zeros: one in sixteen is shorter."""
    text = "".join(f"<http://x/{i % 9}> <r:r> [ <r:r> <http://y> ] .\n" for i in range(300))
    found = {name for name in read(tmp_path, "g.ttl", text).entities if name.startswith("_:")}
    assert found == {f"_:g.ttl#{i}" for i in range(1, 301)}


def test_graphs_of_quads_are_ignored_with_a_note(tmp_path, caplog):
    plain = "".join(f"<http://x/{h}> <http://x/{r}> <http://x/{t}> .\n" for h, r, t in RING)
    quads = plain.replace(" .\n", " <http://x/g> .\n")
    graph = read(tmp_path, "g.nt", plain)
    assert not caplog.records
    assert read(tmp_path, "g.nq", quads) == graph
    assert "g.nq: 80 triples are in named graphs, whose names are ignored" in caplog.text
    assert read(tmp_path, "g.trig", "<http://x/g> {" + plain + "}") == graph
    assert read(tmp_path, "g.nt", plain.replace("\n", "\r")) == graph
    assert read(tmp_path, "g.nt", "\ufeff# comment\n\n" + plain) == graph
    assert refused(tmp_path, "g.nt", quads) == (
        "g.nt:1:45: not N-Triples: Quads must be followed by a dot; if it has named graphs, read "
        "it by dataset.format=nq"
    )


def test_xml_and_json(tmp_path):
    xml = "".join(
        f'<rdf:Description rdf:about="http://x/{h}"><{r} xmlns="http://x/" '
        f'rdf:resource="http://x/{t}"/></rdf:Description>' for h, r, t in RING
    )  # fmt: skip
    xml = f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{xml}</rdf:RDF>'
    json = ",".join(
        f'{{"@id":"http://x/{h}","http://x/{r}":{{"@id":"http://x/{t}"}}}}' for h, r, t in RING
    )
    plain = "".join(f"<http://x/{h}> <http://x/{r}> <http://x/{t}> .\n" for h, r, t in RING)
    graph = read(tmp_path, "g.nt", plain)
    for name, text in (("g.rdf", xml), ("g.xml", xml), ("g.jsonld", f"[{json}]")):
        assert read(tmp_path, name, text) == graph, name
    remote = '{"@context": "http://x/c.json", "@id": "http://x/a", "b": 1}'
    assert "a remote @context is not loaded" in refused(tmp_path, "g.jsonld", remote)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.nt", "<http://a> <http://b> <http://c>", r"g.nt:\d:\d+: not N-Triples: "),
        ("g.nt", "<http://a> <http://b> <http://c> .\na b c .", "g.nt:2:1: not N-Triples: "),
        ("g.nt", '"x" <http://b> <http://c> .', "g.nt:1:1: not N-Triples: The subject"),
        ("g.nt", "<http://a> _:b <http://c> .", "g.nt:1:12: not N-Triples: "),
        ("g.nt", '<http://a> <http://b> "x .', "g.nt:1:23: not N-Triples: "),
        (
            "g.ttl",
            "@prefix x: <http://x/> .\nx:a y:b x:c .",
            "g.ttl:2:5: not Turtle: The prefix y:",
        ),
        ("g.ttl", "a\tb\tc\n", "g.ttl:1:"),
        ("g.rdf", "<html><p></html>", "g.rdf: not RDF/XML: "),
        ("g.jsonld", '{"a": ', "g.jsonld:1:"),
        ("g.ttl", "", "g.ttl has no triples"),
    ],
)
def test_syntax_errors_have_a_line_and_a_column(tmp_path, name, text, message):
    assert re.match(message, refused(tmp_path, name, text))
    if text:
        packed = gzip.compress(text.encode())
        assert re.match(message.replace(":", r"\.gz:", 1), refused(tmp_path, f"{name}.gz", packed))


# Other bad input.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.tsv", "c0,next,c1\n", "g.tsv:1: got 1 tab-separated field instead of 3: head, relation "
         "and tail must be separated by tabs, not by commas, or read as CSV by dataset.format=csv"),
        ("g.tsv", "c0 next c1\n", "g.tsv:1: got 1 tab-separated field instead of 3: head, relation "
         "and tail must be separated by tabs, not by spaces"),
        ("g.tsv", "c0\tnext\tc1\t0.5\n", "g.tsv:1: got 4 tab-separated fields instead of 3: head, "
         "relation and tail must be separated by tabs; of more columns choose three by "
         "dataset.columns=[0,1,2] and a weight by dataset.weight=3"),
        ("g.tsv", "# by hand\nc0\tnext\tc1\n", "g.tsv:1: a comment is not read: remove the line"),
        ("g.tsv", "c0\tnext\tc1\rc1\tnext\tc2\r", "g.tsv:1: lines end in CR alone: convert them "
         "to LF"),
        ("g.tsv", "caf\xe9\tr\tb\n".encode("latin-1"), "g.tsv:1: not UTF-8: convert the file"),
        ("g.tsv", "a\tr\tb\n".encode("utf-16"), "g.tsv:1: NUL byte: not UTF-8 text, convert the "
         "file (it may be UTF-16)"),
        ("g.tsv", "a\tr\tb\nc\0\tr\tb\n", "g.tsv:2: NUL byte: not UTF-8 text, convert the file (it "
         "may be UTF-16)"),
        ("g.tsv", "", "g.tsv has no triples"),
        ("g.tsv", "\n\n \n", "g.tsv has no triples"),
        ("g.tsv", "head\trelation\ttail\n", "g.tsv has no triples"),
        ("g.csv", "", "g.csv has no triples"),
        ("g.csv", "head,relation,tail\n", "g.csv has no triples"),
        ("g.csv", "head,relation,tail\na,b\n", "g.csv:2: got 2 comma-separated fields instead "
         "of 3"),
        ("g.csv", "head,relation,tail\na,b,c,d\n", "g.csv:2: got 4 comma-separated fields instead "
         "of 3"),
        ("g.csv", "head,relation,tail\na,,c\n", "g.csv:2: empty field"),
        ("g.csv", "head,relation,tail\n\na,b,c\n", "g.csv:2: empty line: remove it"),
        ("g.csv", 'head,relation,tail\n"a,b,c\n', "g.csv:2: not CSV (unexpected end of data): is a "
         "quote not closed?"),
        ("g.csv", 'head,relation,tail\n"a"b,c,d\n', "g.csv:2: not CSV (',' expected after '\"'): "
         "is a quote not closed?"),
        ("g.csv", "head;relation;tail\n", "g.csv:1: fields are separated by semicolons: separate "
         "them by commas"),
        ("g.csv", "head\trelation\ttail\n", "g.csv:1: fields are separated by tabs: set "
         "dataset.format=tsv"),
        ("g.csv", "head,relation,tail\n".encode("utf-16"), "g.csv:1: NUL byte: not UTF-8 text, "
         "convert the file (it may be UTF-16)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_lines(tmp_path, name, content, message):
    assert refused(tmp_path, name, content) == message


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_damaged_tables(tmp_path, suffix):
    form = "Parquet" if suffix == "parquet" else "Arrow"
    table = pyarrow.table({name: ["a", "b"] for name in NAMES})
    whole = io.BytesIO()
    if suffix == "parquet":
        pyarrow.parquet.write_table(table, whole)
    else:
        pyarrow.feather.write_feather(table, whole)
    content = whole.getvalue()
    for broken in (b"", b"text", content[: len(content) // 2], content[:-4]):
        message = refused(tmp_path, f"g.{suffix}", broken)
        assert message.startswith(f"g.{suffix} is damaged or not a {form} file ("), broken


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def test_names_of_tables_are_text_or_whole_numbers(tmp_path):
    text, numbers = [f"n{i}" for i in range(9)], list(range(9))
    ring = {"h": numbers * 2, "r": ["r"] * 18, "t": [(i + k) % 9 for k in (1, 2) for i in numbers]}
    graph = read(tmp_path, "g.parquet", parquet(**ring))
    assert graph.entities == tuple(map(str, range(9)))
    assert refused(tmp_path, "g.parquet", parquet(h=text, r=text, t=[*text[:8], None])) == (
        "g.parquet: row 8 (from 0): column 't' is missing: names must be text or whole numbers"
    )
    assert refused(tmp_path, "g.parquet", parquet(h=text, r=text, t=[0.5] * 9)) == (
        "g.parquet: column 't' is Float64: names must be text or whole numbers, convert it"
    )
    assert "column 't' is Boolean" in refused(
        tmp_path, "g.parquet", parquet(h=text, r=text, t=[True] * 9)
    )
    assert refused(tmp_path, "g.parquet", parquet(a=text, r=text, t=text)).endswith("found a, r, t")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("abc", "rows must be rows (head, relation, tail) or a pandas, polars or Arrow frame, got "
         "str"),
        ({"head": ["a"]}, "rows must be rows (head, relation, tail) or a pandas, polars or Arrow "
         "frame, got dict"),
        (5, "rows must be rows (head, relation, tail) or a pandas, polars or Arrow frame, got int"),
        (["abc"], "rows[0] is a str: "),
        ([{"h": "a", "r": "b", "t": "c"}], "rows[0] is a dict: "),
        ([("a", "r", "b"), ("a", "b")], "rows[1] has 2 members, not 3: "),
        ([("a", "r", "b", 1.0)], "rows[0] has 4 members: "),
        ([("a", "r", "b"), ("a", None, "b")], "rows[1]: relation is missing: "),
        ([("a", "r", float("nan"))], "rows[0]: tail is missing: "),
        ([(pandas.NA, "r", "b")], "rows[0]: head is missing: "),
        ([(1.5, "r", "b")], "rows[0]: head is a float: "),
        ([(True, "r", "b")], "rows[0]: head is a bool: "),
        ([(" ", "r", "b")], "rows[0]: empty field"),
        ([("a\0", "r", "b")], "rows[0]: a name contains a NUL character: "),
        ([("\ud800", "r", "b")], "rows[0]: a name contains half a surrogate pair: "),
        ([], "rows has no triples"),
    ],
)  # fmt: skip
def test_rows_that_are_no_triples(rows, message):
    with pytest.raises(DatasetError) as error:
        KnowledgeGraph.from_triples(rows)
    assert str(error.value).startswith(message)


def test_missing_values_and_columns_of_frames():
    frame = pandas.DataFrame(RING, columns=NAMES)
    frame.loc[3, "object"] = None
    for form in (frame, frame.astype(object), polars.from_pandas(frame)):
        with pytest.raises(DatasetError, match=r"^rows\[3\]: column 'object' is missing"):
            KnowledgeGraph.from_triples(form)
    with pytest.raises(DatasetError, match=r"^rows are rows without column names: give columns by"):
        KnowledgeGraph.from_triples(RING, columns=NAMES)
    with pytest.raises(ArgumentError, match="valid and test must be given together"):
        KnowledgeGraph.from_triples(RING, valid=RING)
    with pytest.raises(DatasetError, match=r"^test\[1\]: head 'new' does not occur in train"):
        KnowledgeGraph.from_triples(RING, valid=RING, test=[RING[0], ("new", "next", "c1")])


@pytest.mark.parametrize(
    ("module", "name"), [("pyarrow", "g.parquet"), ("pyarrow", "g.arrow"), ("pyoxigraph", "g.nt")]
)
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    assert refused(tmp_path, name, b"") == f"{name} needs {module}: pip install {module}"


def test_optional_packages_are_imported_when_needed():
    code = (
        "import sys; from hale.graphs.kg import KnowledgeGraph\n"
        "print([m for m in ('pyarrow', 'pyoxigraph', 'narwhals', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


# Names.


COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"


@settings(max_examples=100)
@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=6, unique_by=partial(normalize, "NFC")),
    st.data(),
)
def test_a_name_is_found_in_any_normalisation(names, data):
    ids = NameIds((name, i) for i, name in enumerate(names))
    at = data.draw(st.integers(0, len(names) - 1))
    form = data.draw(st.sampled_from(["NFC", "NFD"]))
    assert resolve("entity", ids, normalize(form, names[at])) == at
    assert resolve("entity", ids, names[at]) == at


def test_a_name_that_differs_from_several_in_normalisation_is_not_guessed():
    """The Angstrom sign, the letter, and the letter in two characters."""
    names = ("\u212b", "\u00c5", "K")
    assert resolve("entity", NameIds(zip(names, range(3), strict=True)), "\u212a") == 2  # Kelvin
    with pytest.raises(UnknownNameError, match="choose one of id:0, id:1"):
        resolve("entity", NameIds(zip(names, range(3), strict=True)), "A\u030a")
    with pytest.raises(UnknownNameError, match=r"did you mean 'Zoe'"):
        resolve("entity", NameIds(Zoe=0), "Zoe\u0301")


def test_files_and_updates_find_names_in_another_normalisation(tmp_path):
    """And the names keep the form in which they were read."""
    (tmp_path / "q.tsv").write_text(f"{DECOMPOSED}\tr\ta\n", encoding="utf-8")
    names = (COMPOSED, "a", "b")
    assert read_triples(tmp_path / "q.tsv", names, ("r",)).tolist() == [[0, 0, 1]]
    triple_T3 = torch.tensor([(0, 0, 1), (1, 0, 2)])
    old = KnowledgeGraph("g", names, ("r",), triple_T3, triple_T3[:1], triple_T3[1:])
    grown = grow(old, {"train": rows_or_frame([(DECOMPOSED, "r", "c")], "rows", Columns())}).graph
    assert grown.entities == (*names, "c")
    assert grown.train.tolist()[-1] == [0, 0, 3]


def test_names_that_look_the_same_are_two_and_stats_warns_of_them():
    rows = [(COMPOSED, "r", "a"), (DECOMPOSED, "r", "b"), ("a", "r", "b")] * 2
    graph = KnowledgeGraph.from_triples(rows, valid=rows[:1], test=rows[:1])
    assert {COMPOSED, DECOMPOSED} < set(graph.entities)
    (line,) = [w for w in warnings(graph, split_rows(graph, []), []) if "normalisation" in w]
    assert line.startswith("warning: 2 of 4 entities (50.0%) differ from another in Unicode")
    plain = KnowledgeGraph.from_triples(rows[2:3], valid=rows[2:3], test=rows[2:3])
    assert not [w for w in warnings(plain, split_rows(plain, []), []) if "normalisation" in w]


def test_triples_of_known_names_from_any_format(tmp_path):
    (tmp_path / "g.csv").write_text("h,r,t\nb,likes,a\n")
    assert read_triples(tmp_path / "g.csv", ("a", "b"), ("likes",)).tolist() == [[1, 0, 0]]
    (tmp_path / "g.csv").write_text("h,r,t\nb,likes,a\nb,likes,x\n")
    with pytest.raises(DatasetError, match=r"g\.csv:3: no entity is named 'x'"):
        read_triples(tmp_path / "g.csv", ("a", "b"), ("likes",))


# The documentation.


def test_every_python_block_of_the_page_runs(tmp_path):
    page = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert code.count("from_triples") == 2
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:5] == ["100", "('north_of',", "'near')", "179", "10"]
    assert all(line.startswith("city") for line in done.stdout.splitlines()[-3:])


def test_labels_that_look_like_the_parsers_are_kept_where_all_nodes_have_one(tmp_path):
    label = "d41d8cd98f00b204e9800998ecf8427e"
    text = "".join(
        f"_:{label} <r:r> <http://x/{i}> .\n<http://x/{i}> <r:r> _:{label} .\n" for i in range(9)
    )
    assert f"_:{label}" in read(tmp_path, "g.nt", text).entities


def test_names_with_id_in_a_file_are_names(ring):
    for name in ("id:1", "id:0"):
        with pytest.raises(DatasetError, match=f"no entity is named '{name}'"):
            grow(ring, {}, sources([(name, "next", "c1")], Form())["train"])


def test_frames_without_names_or_with_equal_ones_or_of_mixed_types(tmp_path):
    rows = [("a", "r", f"e{i % 50}") for i in range(200)]
    mixed = pandas.DataFrame(
        [*rows, ("a", "r", 7)], columns=["head", "relation", "tail"], dtype=object
    )
    blocks = list(rows_or_frame(mixed, "rows", Columns()))
    assert [name for block in blocks for name in block.tail][-1] == "7"
    unnamed = pandas.DataFrame(rows)
    with pytest.raises(DatasetError, match="0, 1, 2"):
        list(rows_or_frame(unnamed, "rows", Columns()))
    assert len(next(rows_or_frame(unnamed, "rows", Columns((0, 1, 2)))).head) == 200
    twice = pandas.DataFrame(rows)
    twice.columns = ["head", "tail", "tail"]
    with pytest.raises(DatasetError, match="rows: "):
        list(rows_or_frame(twice, "rows", Columns()))
    table = pyarrow.Table.from_arrays(
        [pyarrow.array(["a"])] * 4, names=["head", "relation", "tail", "tail"]
    )
    pyarrow.parquet.write_table(table, tmp_path / "g.parquet")
    with pytest.raises(DatasetError, match=r"g\.parquet: "):
        KnowledgeGraph.read(tmp_path / "g.parquet")


def test_a_tilde_that_is_no_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"~nobody-here\.tsv does not exist"):
        as_path("~nobody-here.tsv")
    Path("~nobody-here.tsv").write_text(TSV)
    assert as_path("~nobody-here.tsv") == Path("~nobody-here.tsv")
    assert run_command(["stats", "~nobody-here.tsv"]) == 0
    assert run_command(["stats", "~nobody-else.tsv"]) == 1


def test_line_ends_in_quoted_names_are_kept(tmp_path):
    rows = [(f"a{i % 7}\r\nb", "r", f"c{i}\nd") for i in range(20)] + [
        (f"c{i}\nd", "r", "e\rf") for i in range(20)
    ]
    frame = pandas.DataFrame(rows, columns=["head", "relation", "tail"])
    frame.to_csv(tmp_path / "g.csv", index=False, lineterminator="\r\n")
    frame.to_parquet(tmp_path / "g.parquet")
    one, two = (KnowledgeGraph.read(tmp_path / f"g.{suffix}") for suffix in ("csv", "parquet"))
    assert one.entities == two.entities
    assert "a0\r\nb" in one.entities
