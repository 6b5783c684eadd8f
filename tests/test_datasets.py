"""The family dataset, and the benchmarks' files: fetched, verified, counted."""

import gc
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hale.errors import DatasetError, HaleError
from hale.graphs import published
from hale.graphs.family import family
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.published import BENCHMARKS, Benchmark, benchmark, fetch, hard_negatives

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

FAMILY = "b29e495a404f446d02d02b8e8c8786981cef763e8360fa06c60bc48a1de71706"


@pytest.fixture(scope="module")
def people() -> KnowledgeGraph:
    return family()


def test_family_is_pinned(people):
    assert people.fingerprint == FAMILY
    code = "from hale.graphs.family import family; print(family().fingerprint)"
    environment = os.environ | {"PYTHONHASHSEED": "1"}  # the order of sets must not matter
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == FAMILY, done.stderr
    assert family(1).fingerprint != FAMILY
    with pytest.raises(HaleError, match=r"^seed must be a whole number of at least 0, got -1"):
        family(-1)


def test_family_is_small_and_whole(people):
    assert 1_000 <= people.num_entities <= 3_000
    splits = people.splits.values()
    assert 15_000 <= sum(map(len, splits)) <= 40_000
    trained = set(people.train[:, [0, 2]].flatten().tolist())
    assert trained == set(range(people.num_entities))
    assert set(people.train[:, 1].tolist()) == set(range(people.num_relations))
    everything = torch.cat(list(splits))
    assert len(everything.unique(dim=0)) == len(everything)
    assert all(len(name.split()) in (2, 3) for name in people.entities)


def derive(facts: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """All that follows from birth and marriage, one person at a time."""
    parents, children = defaultdict(set), defaultdict(set)
    for head, relation, tail in facts:
        if relation in ("father_of", "mother_of"):
            parents[tail].add(head)
            children[head].add(tail)
    found = set()
    for person in list(parents):
        siblings = {c for p in parents[person] for c in children[p]} - {person}
        found |= {(person, "sibling_of", other) for other in siblings}
        for niece in {c for sibling in siblings for c in children[sibling]}:
            found.add((person, "uncle_or_aunt_of", niece))
            found |= {(own, "cousin_of", niece) for own in children[person]}
        for parent in parents[person]:
            for grandparent in parents[parent]:
                found.add((grandparent, "grandparent_of", person))
                for great in parents[grandparent]:
                    found.add((great, "great_grandparent_of", person))
    return found


def test_family_holds_out_only_what_follows_from_train(people):
    named = {
        split: {
            (people.entities[h], people.relations[r], people.entities[t])
            for h, r, t in triple_T3.tolist()
        }
        for split, triple_T3 in people.splits.items()
    }
    base = {fact for fact in named["train"] if fact[1] in ("father_of", "mother_of", "spouse_of")}
    derived = derive(base)
    assert base | derived == named["train"] | named["valid"] | named["test"]
    assert named["valid"] | named["test"] <= derived
    for split in ("valid", "test"):
        assert 0.05 < len(named[split]) / len(derived) < 0.11
        for head, relation, tail in named[split]:
            if relation in ("sibling_of", "cousin_of"):
                assert (tail, relation, head) in named[split]


def test_family_relations_are_consistent(people):
    parents, spouses = defaultdict(set), defaultdict(set)
    for head, relation, tail in people.train.tolist():
        name = people.relations[relation]
        if name in ("father_of", "mother_of"):
            parents[tail].add((name, head))
        if name == "spouse_of":
            spouses[head].add(tail)
    roles = defaultdict(set)
    for child, couple in parents.items():
        assert sorted(role for role, _ in couple) == ["father_of", "mother_of"]
        (_, father), (_, mother) = sorted(couple)
        assert spouses[father] == {mother}
        assert child > father  # born later
        for role, parent in couple:
            roles[parent].add(role)
    assert all(len(role) == 1 for role in roles.values())
    near = {
        person: {p for _, p in parents[person]}
        | {g for _, p in parents[person] for _, g in parents[p]}
        for person in list(spouses)
    }
    assert not any(near[one] & near[other] for one in spouses for other in spouses[one])


def test_family_cannot_be_answered_by_popularity(people):
    train = reciprocal(people.train, people.num_relations)
    count_RE = torch.zeros(2 * people.num_relations, people.num_entities)
    count_RE.index_put_((train[:, 1], train[:, 2]), torch.ones(len(train)), accumulate=True)
    _, relation_B, answer_B = reciprocal(people.test, people.num_relations).unbind(1)
    first_B = count_RE[relation_B].argmax(1)
    assert (first_B == answer_B).float().mean() < 0.01


# Files of a small benchmark on a server of this machine.

CONTENT = {
    "train": b"a\tr\tb\nb\tr\tc\n",
    "valid": b"a\tr\tc\n",
    "test": b"c\tr\tnew\n",
    "valid_negatives": b"c\tr\ta\n",
    "test_negatives": b"c\tr\tb\n",
}


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; keeps what was asked for; sends half of the files named in ``cut``."""

    def __init__(self) -> None:
        self.content = {f"/toy/{name}.txt": body for name, body in CONTENT.items()}
        self.asked: list[str] = []
        self.cut: set[str] = set()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.content.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path in self.server.cut else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    gc.collect()  # pooch leaves failed connections to it


@pytest.fixture
def toy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in CONTENT.items()}
    train = CONTENT["train"]
    blob = f"blob {len(train)}\0".encode() + train
    digests["train"] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    url = f"http://127.0.0.1:{server.server_address[1]}/toy"
    toy = Benchmark("toy-folder", url, 4, 1, (2, 1, 1), digests)
    monkeypatch.setitem(BENCHMARKS, "toy", toy)
    monkeypatch.setenv("HALE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return toy


def test_benchmark_is_fetched_once(toy, server, tmp_path, capfd):
    graph = benchmark("toy")
    assert (graph.name, graph.entities) == ("toy", ("a", "b", "c", "new"))  # unseen ones are kept
    assert server.asked == ["/toy/train.txt", "/toy/valid.txt", "/toy/test.txt"]
    assert benchmark("toy").fingerprint == graph.fingerprint
    assert len(server.asked) == 3
    for split in ("train", "valid", "test"):
        assert (tmp_path / "toy-folder" / f"{split}.txt").read_bytes() == CONTENT[split]
    valid_T3, test_T3 = hard_negatives("toy", graph)
    assert (valid_T3.tolist(), test_T3.tolist()) == ([[2, 0, 0]], [[2, 0, 1]])
    assert capfd.readouterr().err == ""  # no progress bar without a terminal


def test_existing_file_is_verified_and_never_replaced(toy, server, tmp_path):
    path = tmp_path / "toy-folder" / "train.txt"
    path.parent.mkdir()
    path.write_bytes(b"mine\tr\tb\n")
    for _ in range(2):
        with pytest.raises(DatasetError) as error:
            benchmark("toy")
        message = str(error.value)
        assert f"{path} has digest " in message
        assert toy.digests["train"] in message
        assert "remove it and run again" in message
    assert path.read_bytes() == b"mine\tr\tb\n"
    assert not server.asked


@pytest.mark.parametrize("file", ["train", "valid"])  # a git blob id, and a SHA-256
def test_wrong_download_is_refused_and_leaves_nothing(toy, server, tmp_path, file):
    server.content[f"/toy/{file}.txt"] = b"a\tr\tc\nb\tr\tb\n"
    with pytest.raises(DatasetError, match=rf"/toy/{file}\.txt has digest \w+, expected"):
        benchmark("toy")
    assert not (tmp_path / "toy-folder" / f"{file}.txt").exists()
    server.content[f"/toy/{file}.txt"] = CONTENT[file]
    assert benchmark("toy").num_entities == 4


def test_interrupted_download_is_resumed_with_the_missing_file(toy, server, tmp_path):
    server.cut = {"/toy/valid.txt"}
    with pytest.raises(DatasetError, match="valid"):
        benchmark("toy")
    assert [path.name for path in (tmp_path / "toy-folder").iterdir()] == ["train.txt"]
    server.cut = set()
    server.asked.clear()
    assert benchmark("toy").num_entities == 4
    assert server.asked == ["/toy/valid.txt", "/toy/test.txt"]


def test_without_network_one_line_says_how_to_fix_it(toy, server, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/toy"
    monkeypatch.setitem(BENCHMARKS, "toy", replace(toy, url=url))
    del server.content["/toy/train.txt"]
    for known, kind in ((BENCHMARKS["toy"], "ConnectionError"), (toy, "HTTPError")):
        with pytest.raises(DatasetError) as error:
            fetch(known, "train")
        assert str(error.value) == (
            f"cannot download toy-folder/train.txt from {known.url}/train.txt ({kind}): check the "
            f"network, or copy the file to {tmp_path / 'toy-folder' / 'train.txt'} yourself"
        )


def test_wrong_counts_and_unknown_names(toy, monkeypatch):
    graph = benchmark("toy")
    monkeypatch.setitem(BENCHMARKS, "toy", replace(toy, num_entities=5))
    with pytest.raises(DatasetError, match=r"has \(4, 1, \(2, 1, 1\)\) .* has \(5, 1,.*: remove"):
        benchmark("toy")
    with pytest.raises(
        DatasetError, match="unknown benchmark 'fb15k': choose one of fb15k237, wn18rr"
    ):
        benchmark("fb15k")
    with pytest.raises(DatasetError, match="wn18rr has no hard negatives"):
        hard_negatives("wn18rr", graph)


def test_cache_folder_of_the_user_is_the_default(monkeypatch):
    monkeypatch.delenv("HALE_DATA_DIR", raising=False)
    assert "hale" in str(published.data_dir())
    monkeypatch.setenv("HALE_DATA_DIR", "~/kg")
    assert published.data_dir() == Path.home() / "kg"


# The real files: entities of valid and test that do not occur in train, and triples with one.
UNSEEN = {
    "fb15k237": (8, 9, 29, 28),
    "wn18rr": (198, 210, 209, 210),
    "codex_s": (0, 0, 0, 0),
    "codex_m": (0, 0, 0, 0),
}


@pytest.mark.data
@pytest.mark.parametrize("name", UNSEEN)
def test_real_benchmark(name):
    graph = benchmark(name)  # verifies digests and counts
    trained = graph.train[:, [0, 2]].unique()
    found = []
    for triple_T3 in (graph.valid, graph.test):
        unseen_T2 = ~torch.isin(triple_T3[:, [0, 2]], trained)
        entities = triple_T3[:, [0, 2]][unseen_T2].unique()
        found += [len(entities), int(unseen_T2.any(1).sum())]
    assert tuple(found) == UNSEEN[name]
    everything = torch.cat(list(graph.splits.values()))
    assert len(everything.unique(dim=0)) == len(everything)
    assert set(everything[:, 1].tolist()) == set(graph.train[:, 1].tolist())


@pytest.mark.data
@pytest.mark.parametrize("name", ["codex_s", "codex_m"])
def test_real_hard_negatives_are_false(name):
    graph = benchmark(name)
    negatives = hard_negatives(name, graph)
    assert list(map(len, negatives)) == [len(graph.valid), len(graph.test)]
    everything = torch.cat((*graph.splits.values(), *negatives))
    assert len(everything.unique(dim=0)) == len(everything)


@pytest.mark.data
def test_crlf_copy_of_a_real_benchmark_is_the_same_graph(tmp_path):
    graph = benchmark("codex_s")
    for split in graph.splits:
        text = (published.data_dir() / "codex-s" / f"{split}.txt").read_bytes()
        (tmp_path / f"{split}.txt").write_bytes(text.replace(b"\n", b"\r\n"))
    assert KnowledgeGraph.read(tmp_path).fingerprint == graph.fingerprint


@pytest.mark.data
def test_codex_l_without_train_ends_in_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "codex-l"
    shutil.copytree(published.data_dir() / "codex-l", folder, ignore=lambda *_: ["train.txt"])
    monkeypatch.setenv("HALE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(DatasetError) as error:
        benchmark("codex_l")
    url = f"{BENCHMARKS['codex_l'].url}/train.txt"
    assert f"cannot download codex-l/train.txt from {url}" in str(error.value)
    assert f"copy the file to {folder / 'train.txt'} yourself" in str(error.value)
    for file in ("valid", "test"):
        assert fetch(BENCHMARKS["codex_l"], file).parent == folder
