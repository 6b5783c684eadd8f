"""KnowledgeGraph and the reader of tab-separated triples."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.errors import ArgumentError, DatasetError, HaleError
from hale.graphs.delimited import MAX_LINE_BYTES
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.reading import read_triples

TRAIN = "b\tlikes\ta\nc\tknows\tb\n"
VALID = "a\tknows\tb\n"
TEST = "c\tlikes\ta\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        (tmp_path / f"{split}.txt").write_bytes(text.encode())
    return tmp_path


def test_ids_follow_first_appearance(folder):
    graph = KnowledgeGraph.read(folder)
    assert graph.entities == ("b", "a", "c")
    assert graph.relations == ("likes", "knows")
    assert graph.train.tolist() == [[0, 0, 1], [2, 1, 0]]
    assert graph.valid.tolist() == [[1, 1, 0]]
    assert graph.test.tolist() == [[2, 0, 1]]
    assert {split.dtype for split in graph.splits.values()} == {torch.int64}
    assert (graph.name, graph.num_entities, graph.num_relations) == (folder.name, 3, 2)
    assert all(graph.entities[i] == name for name, i in graph.entity_id.items())
    assert graph.relation_id == {"likes": 0, "knows": 1}


def test_bom_crlf_tsv_and_unicode_change_nothing(folder):
    plain = KnowledgeGraph.read(folder)
    (folder / "train.txt").unlink()
    (folder / "train.tsv").write_bytes(b"\xef\xbb\xbf" + TRAIN.replace("\n", "\r\n").encode())
    (folder / "valid.txt").write_bytes(VALID.strip().encode())  # no final newline
    assert KnowledgeGraph.read(folder).fingerprint == plain.fingerprint
    (folder / "train.tsv").write_bytes(TRAIN.replace("b", "Zoë 北").encode())
    (folder / "valid.txt").write_bytes(VALID.replace("b", "Zoë 北").encode())
    assert KnowledgeGraph.read(folder).entities == ("Zoë 北", "a", "c")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train", b"a\tr\tb\na\tr\n", "train.txt:2: got 2 tab-separated fields instead of 3"),
        ("train", b"a\tr\tb\tc\n", "train.txt:1: got 4 tab-separated fields instead of 3: head, "
         "relation and tail must be separated by tabs"),
        ("valid", b"a knows b\n", "valid.txt:1: got 1 tab-separated field instead of 3: head, "
         "relation and tail must be separated by tabs, not by spaces"),
        ("valid", b"a b,knows,c\n", "must be separated by tabs, not by commas"),
        ("valid", b"a b;knows;c\n", "must be separated by tabs, not by semicolons"),
        ("valid", b"a\tknows\tb\n\na\tknows\tb\n", "valid.txt:2: empty line: remove it"),
        ("test", b"a\t\tb\n", "test.txt:1: empty field"),
        ("test", b"a\tknows\t \n", "test.txt:1: empty field"),
        ("train", b"", "train.txt has no triples"),
        ("valid", b"", "valid.txt has no triples"),
        ("train", b"a\tr\tb\nJos\xe9\tr\tb\n", "train.txt:2: not UTF-8"),
        ("train", "a\tr\tb\n".encode("utf-16-le"), "train.txt:1: NUL byte"),
        ("train", b"a\tr\tb\n" + b"\t" * 10_000_000, "train.txt:2: line is longer than"),
        ("valid", b"a\tknows\tdan\n", "valid.txt:1: tail 'dan' does not occur in train"),
        ("test", b"a\tknows\tb\neve\thates\tb\n", "test.txt:2: head 'eve' does not occur in train"),
        ("test", b"a\thates\tb\n", "test.txt:1: relation 'hates' does not occur in train"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_reported_with_its_number(folder, file, content, message):
    (folder / f"{file}.txt").write_bytes(content)
    with pytest.raises(DatasetError) as error:
        KnowledgeGraph.read(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, HaleError)


def test_a_line_may_be_as_long_as_the_bound(folder):
    name = "n" * (MAX_LINE_BYTES - len("\tr\tb"))
    (folder / "train.txt").write_text(TRAIN + f"{name}\tr\tb\n")
    assert name in KnowledgeGraph.read(folder).entities
    (folder / "train.txt").write_text(TRAIN + f"{name}x\tr\tb\n")
    with pytest.raises(DatasetError, match=r"train\.txt:3: line is longer"):
        KnowledgeGraph.read(folder)


def test_missing_and_ambiguous_files(folder):
    with pytest.raises(DatasetError, match="nowhere does not exist: give a file or a folder"):
        KnowledgeGraph.read(folder / "nowhere")
    with pytest.raises(DatasetError, match=r"train\.txt is not a folder"):
        KnowledgeGraph.read(folder / "train.txt")
    (folder / "valid.tsv").write_text(VALID)
    with pytest.raises(DatasetError, match=r"has both valid.txt and valid.tsv"):
        KnowledgeGraph.read(folder)
    (folder / "valid.tsv").unlink()
    (folder / "valid.txt").unlink()
    with pytest.raises(DatasetError, match=r"has no valid.txt or valid.tsv"):
        KnowledgeGraph.read(folder)


def test_unseen_names_are_kept_or_dropped(folder, caplog):
    (folder / "valid.txt").write_text(VALID + "dan\tknows\tb\na\thates\tb\n")
    (folder / "test.txt").write_text(TEST + "a\tknows\tdan\n")
    kept = KnowledgeGraph.read(folder, unseen="keep")
    assert kept.entities == ("b", "a", "c", "dan")
    assert kept.relations == ("likes", "knows", "hates")
    assert [len(split) for split in kept.splits.values()] == [2, 3, 2]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        dropped = KnowledgeGraph.read(folder, unseen="drop")
    assert (dropped.entities, dropped.relations) == (("b", "a", "c"), ("likes", "knows"))
    assert [len(split) for split in dropped.splits.values()] == [2, 1, 1]
    assert "valid.txt: dropped 2 triples" in caplog.text
    assert "test.txt: dropped 1 triples" in caplog.text
    (folder / "test.txt").write_text("a\tknows\tdan\n")
    with pytest.raises(DatasetError, match=r"test\.txt has no triples left"):
        KnowledgeGraph.read(folder, unseen="drop")
    with pytest.raises(ArgumentError, match="unseen must be error, keep or drop, got 'ignore'"):
        KnowledgeGraph.read(folder, unseen="ignore")


def test_repeats_count_once_and_overlaps_are_reported(folder, caplog):
    (folder / "train.txt").write_text(TRAIN + TRAIN)
    (folder / "test.txt").write_text(TEST + VALID)
    with caplog.at_level(logging.WARNING):
        graph = KnowledgeGraph.read(folder)
    assert graph.train.tolist() == [[0, 0, 1], [2, 1, 0]]
    assert "train.txt: 2 repeated triples count once" in caplog.text
    assert "1 triples of" in caplog.text
    assert len(graph.test) == 2


def test_triples_of_known_names(folder):
    graph = KnowledgeGraph.read(folder)
    triple_T3 = read_triples(folder / "test.txt", graph.entities, graph.relations)
    assert torch.equal(triple_T3, graph.test)
    with pytest.raises(DatasetError, match=r"test.txt:1: no entity is named 'c'"):
        read_triples(folder / "test.txt", ("a", "b"), graph.relations)


def test_a_graph_refuses_inconsistent_parts(folder):
    graph = KnowledgeGraph.read(folder)
    parts = {
        field: getattr(graph, field) for field in ("name", "entities", "relations", *graph.splits)
    }
    for change, message in (
        ({"entities": ("a", "a", "b")}, "two entity names are equal"),
        ({"valid": torch.zeros(0, 3, dtype=torch.int64)}, "valid has no triples"),
        ({"valid": torch.zeros(4, 3)}, "valid must be int64"),
        ({"valid": torch.zeros(4, 2, dtype=torch.int64)}, r"got torch.int64 of shape \(4, 2\)"),
        ({"test": torch.tensor([[0, 2, 0]])}, "test contains an id without a name"),
        ({"test": torch.tensor([[0, 0, -1]])}, "test contains an id without a name"),
    ):
        with pytest.raises(DatasetError, match=message):
            KnowledgeGraph(**(parts | change))


def test_fingerprint_sees_names_order_and_triples(folder):
    first = KnowledgeGraph.read(folder).fingerprint
    assert KnowledgeGraph.read(folder, name="other").fingerprint == first
    prints = {first}
    for split, text in (
        ("train", TRAIN.replace("likes", "loves")),
        ("train", TRAIN + "a\tlikes\tc\n"),
        ("train", "".join(reversed(TRAIN.splitlines(keepends=True)))),
        ("test", "a\tlikes\tc\n"),
    ):
        before = (folder / f"{split}.txt").read_text()
        (folder / f"{split}.txt").write_text(text)
        prints.add(KnowledgeGraph.read(folder, unseen="keep").fingerprint)
        (folder / f"{split}.txt").write_text(before)
    assert len(prints) == 5
    assert len(first) == 64


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9))))
def test_reciprocal_is_the_definition(triples):
    triple_T3 = torch.tensor(triples, dtype=torch.int64).reshape(-1, 3)
    expected = triples + [(t, r + 4, h) for h, r, t in triples]
    assert list(map(tuple, reciprocal(triple_T3, 4).tolist())) == expected
