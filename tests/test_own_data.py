"""Your own data: compressed files, N-Triples, single files that are split, statistics."""

import gzip
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.errors import ArgumentError, DatasetError
from hale.graphs.family import family
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.splitting import split
from hale.graphs.statistics import given_away, pairings, relation_kinds, repeated
from hale.graphs.triple_file import Form, read_blocks

TRAIN = "b\tlikes\ta\nc\tknows\tb\n"
VALID = "a\tknows\tb\n"
TEST = "c\tlikes\ta\n"
SPLITS = (("train", TRAIN), ("valid", VALID), ("test", TEST))


@pytest.fixture
def plain(tmp_path) -> KnowledgeGraph:
    folder = tmp_path / "plain"
    folder.mkdir()
    for name, text in SPLITS:
        (folder / f"{name}.txt").write_text(text)
    return KnowledgeGraph.read(folder)


def test_compressed_splits_are_the_same_graph(tmp_path, plain):
    for (name, text), form in zip(SPLITS, ("txt", "tsv", "txt"), strict=True):
        (tmp_path / f"{name}.{form}.gz").write_bytes(gzip.compress(text.encode()))
    assert KnowledgeGraph.read(tmp_path).fingerprint == plain.fingerprint
    (tmp_path / "valid.txt").write_text(VALID)
    with pytest.raises(DatasetError, match=r"has both valid.txt and valid.tsv.gz: remove one"):
        KnowledgeGraph.read(tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_or_damaged_file_gives_a_one_line_error(tmp_path, share):
    text = "".join(f"a{i * i % 997}\tr\tb{i * 7 % 1009}\n" for i in range(5000)).encode()
    packed = gzip.compress(text)
    file = tmp_path / "graph.tsv.gz"
    file.write_bytes(packed[: int(share * len(packed))])
    with pytest.raises(DatasetError, match=r"is damaged or truncated|has no triples") as error:
        KnowledgeGraph.read(file)
    assert "\n" not in str(error.value)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    file.write_bytes(damaged)
    with pytest.raises(DatasetError):
        KnowledgeGraph.read(file)
    file.write_bytes(text)
    with pytest.raises(DatasetError, match="is damaged or truncated"):
        KnowledgeGraph.read(file)


def test_zstd_is_read_or_its_package_is_named(tmp_path):
    file = tmp_path / "graph.tsv.zst"
    if not _has("backports") or not _has("backports.zstd"):
        file.write_bytes(b"")
        with pytest.raises(DatasetError, match=r"needs zstd: pip install backports.zstd"):
            list(read_blocks(file, Form()))
        return
    from backports import zstd

    file.write_bytes(zstd.compress(TRAIN.encode()))
    (block,) = read_blocks(file, Form())
    assert [block.names(i) for i in range(len(block.head))] == [
        tuple(line.split("\t")) for line in TRAIN.splitlines()
    ]
    whole = file.read_bytes()
    for broken in (whole[:-4], b"text", whole[:6] + b"\xff" * 8):
        file.write_bytes(broken)
        with pytest.raises(DatasetError, match="is damaged or truncated"):
            list(read_blocks(file, Form()))


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def test_a_compressed_bomb_does_not_fill_the_memory(tmp_path):
    """A gigabyte of one line in a megabyte of gzip."""
    file = tmp_path / "bomb.tsv.gz"
    block = gzip.compress(b"\t" * 50_000_000)
    file.write_bytes(block * 20)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from hale.graphs.triple_file import Form, read_blocks\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: list(read_blocks(Path(sys.argv[1]), Form()))\n"
        "except ValueError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    message, kilobytes = done.stdout.splitlines()
    assert "bomb.tsv.gz:1: line is longer than" in message
    assert int(kilobytes) < 30_000


def test_one_file_is_split_by_its_seed(tmp_path):
    whole = family()
    rows = torch.cat(list(whole.splits.values())).tolist()
    file = tmp_path / "family.v1.tsv"
    file.write_text(
        "".join(
            f"{whole.entities[h]}\t{whole.relations[r]}\t{whole.entities[t]}\n" for h, r, t in rows
        )
    )
    first = KnowledgeGraph.read(file)
    assert first.name == "family"
    assert KnowledgeGraph.read(file).fingerprint == first.fingerprint
    assert KnowledgeGraph.read(file, seed=1).fingerprint != first.fingerprint
    sizes = [len(triple_T3) for triple_T3 in first.splits.values()]
    assert sizes == [len(rows) - 2 * sizes[1], -(-len(rows) // 20), -(-len(rows) // 20)]
    names = Counter(
        (first.entities[h], first.relations[r], first.entities[t])
        for triple_T3 in first.splits.values()
        for h, r, t in triple_T3.tolist()
    )
    assert names == Counter(
        (whole.entities[h], whole.relations[r], whole.entities[t]) for h, r, t in rows
    )


@settings(deadline=None, max_examples=60)
@given(
    triples=st.sets(
        st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9)), min_size=16, max_size=80
    ),
    held_out=st.floats(0.01, 0.2),
    seed=st.integers(0, 2**40),
)
def test_valid_and_test_of_a_drawn_split_have_no_unseen_names(triples, held_out, seed):
    triple_T3 = torch.tensor(sorted(triples))
    size = int(np.ceil(held_out * len(triples)))
    if 2 * size > len(triples) - 14:  # 10 entities and 4 relations may need a triple each
        return
    train, valid, test = split(triple_T3, held_out, seed)
    assert len(valid) == len(test) == size
    parts = [list(map(tuple, part.tolist())) for part in (train, valid, test)]
    assert all(part == sorted(part) for part in parts)
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(triples)
    entities = {e for h, _, t in parts[0] for e in (h, t)}
    relations = {r for _, r, _ in parts[0]}
    for head, relation, tail in parts[1] + parts[2]:
        assert {head, tail} <= entities
        assert relation in relations


def test_the_split_is_the_same_on_every_platform():
    triple_T3 = torch.tensor([(i, 0, (i + k) % 12) for i in range(12) for k in (1, 2, 3)])
    _, valid, test = split(triple_T3, 0.1, seed=3)
    assert valid.tolist() == [[0, 0, 2], [6, 0, 8], [7, 0, 10], [10, 0, 11]]
    assert test.tolist() == [[1, 0, 4], [2, 0, 3], [3, 0, 5], [3, 0, 6]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out": 0}, "held_out must be a finite number above 0 and below 0.5, got 0"),
        ({"held_out": 0.5}, "held_out must be a finite number above 0 and below 0.5, got 0.5"),
        ({"held_out": float("nan")}, "held_out must be a finite number, got nan"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ],
)
def test_arguments_of_a_split_out_of_range(tmp_path, arguments, message):
    (tmp_path / "graph.tsv").write_text(TRAIN)
    with pytest.raises(ArgumentError) as error:
        KnowledgeGraph.read(tmp_path / "graph.tsv", **arguments)
    assert str(error.value).startswith(message)


def test_too_few_triples_to_hold_out(tmp_path):
    (tmp_path / "graph.tsv").write_text(TRAIN)
    message = "only 0 of 2 triples can be held out without leaving an entity or relation unseen"
    with pytest.raises(DatasetError, match=message):
        KnowledgeGraph.read(tmp_path / "graph.tsv")


def test_one_of_three_splits_or_an_unknown_format(tmp_path):
    for name in ("train.txt", "test.nt.gz"):
        (tmp_path / name).write_text(TRAIN)
        with pytest.raises(DatasetError, match="is not a folder: give the folder with train"):
            KnowledgeGraph.read(tmp_path / name)
    (tmp_path / "graph.xlsx").write_text(TRAIN)
    with pytest.raises(DatasetError, match=r"graph\.xlsx has an unknown format: .*\.csv, .*RDF"):
        KnowledgeGraph.read(tmp_path / "graph.xlsx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path):
    (tmp_path / "graph.tsv").write_text(TRAIN)
    (tmp_path / "graph.tsv").chmod(0)
    with pytest.raises(DatasetError, match="cannot be read: Permission denied"):
        KnowledgeGraph.read(tmp_path / "graph.tsv")


GRAPHS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=40,
    unique=True,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(train=GRAPHS, test=GRAPHS)
def test_statistics_are_the_definitions(train, test):
    train_T3, test_T3 = torch.tensor(train), torch.tensor(test)
    names = tuple("abcdef")
    graph = KnowledgeGraph("drawn", names, ("r", "s", "t"), train_T3, test_T3, test_T3)
    pairs = [{(h, t) for h, r, t in train if r == relation} for relation in range(3)]
    for each, pair in zip(relation_kinds(graph), pairs, strict=True):
        assert each.count == len(pair)
        if pair:
            assert each.tails_per_head == pytest.approx(len(pair) / len({h for h, _ in pair}))
            assert each.heads_per_tail == pytest.approx(len(pair) / len({t for _, t in pair}))
            assert each.symmetric == pytest.approx(sum((t, h) in pair for h, t in pair) / len(pair))
            many = ["1N"[each.heads_per_tail >= 1.5], "1N"[each.tails_per_head >= 1.5]]
            assert each.kind == "-".join(many)
        else:
            assert each.kind == ""
    alike = set()
    for i in range(3):
        for j in range(i, 3):
            turned = {(t, h) for h, t in pairs[j] if h != t}
            most = 0.8 * max(len(pairs[i]), len(pairs[j]))
            if i < j and len(pairs[i] & pairs[j]) > most:
                alike.add((i, j, False))
            if len(pairs[i] & turned) > most:
                alike.add((i, j, True))
    paired = pairings(graph)
    assert {(p.first, p.second, p.reverse) for p in paired} == alike
    leaked = sum(
        any(
            ((t, h) if reverse else (h, t)) in pairs[j if r == i else i]
            for i, j, reverse in alike
            if r in (i, j)
        )
        for h, r, t in test
    )
    assert given_away(graph, test_T3.numpy(), paired) == leaked
    assert repeated(test_T3.numpy(), train_T3.numpy()) == len(set(train) & set(test))


@pytest.mark.data
def test_a_third_of_wn18rr_test_is_in_train_reversed():
    """Symmetric relations, known since the dataset was derived from WN18."""
    graph = KnowledgeGraph.read(Path(os.environ["HALE_DATA_DIR"]) / "wn18rr", unseen="keep")
    symmetric = {graph.relations[p.first] for p in pairings(graph)}
    assert {"_derivationally_related_form", "_similar_to", "_verb_group"} == symmetric
    assert 0.3 < given_away(graph, graph.test.numpy(), pairings(graph)) / len(graph.test) < 0.4
