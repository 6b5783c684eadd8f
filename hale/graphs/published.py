"""The five benchmarks: downloaded on first use, verified on every use.

Files are in ``$HALE_DATA_DIR/<folder>``, or in the user's cache folder if that is unset. A file
that exists is used as it is; a missing one is downloaded from its pinned URL. Either way its
digest is checked, so every run on a benchmark has the same triples.

Sources: FB15k-237 (Toutanova and Chen, 2015), WN18RR (Dettmers et al., 2018), CoDEx (Safavi and
Koutra, 2020). Triples of valid and test whose entities do not occur in train are kept, as the
benchmarks' protocol requires.
"""

import hashlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pooch  # type: ignore[import-untyped]
from torch import Tensor

from hale.errors import DatasetError
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.reading import SPLITS, read_triples

log = logging.getLogger(__name__)

CODEX = "https://raw.githubusercontent.com/tsafavi/codex/3132e426c2a6b643b70bad679905a3a6270be440"


@dataclass(frozen=True)
class Benchmark:
    """The source of a benchmark's files, and their expected contents.

    ``num_triples`` are those of train, valid and test. ``digests`` are the files' SHA-256, or the
    git blob id (40 hex digits) of a file whose SHA-256 is not published.
    """

    folder: str
    url: str
    num_entities: int
    num_relations: int
    num_triples: tuple[int, int, int]
    digests: dict[str, str]


BENCHMARKS = {
    "fb15k237": Benchmark(
        folder="fb15k237",
        url="https://raw.githubusercontent.com/villmow/datasets_knowledge_embedding/9e392453d6804d1f51c13e5650ae58ed48b638d5/FB15k-237",
        num_entities=14541,
        num_relations=237,
        num_triples=(272115, 17535, 20466),
        digests={
            "train": "61099230e4439f90885ca9767739e31e8e32f54736fa1c35952b27997bc7c08a",
            "valid": "749cbe9d923bac7b9354da5614ecfed2e0220256d442c3e04a6b303db1f273d9",
            "test": "e2e35e8e6113de220140b6f44dc71a5207b0fc6872d575e874aefe13259b655b",
        },
    ),
    "wn18rr": Benchmark(
        folder="wn18rr",
        url="https://raw.githubusercontent.com/DeepGraphLearning/KnowledgeGraphEmbedding/2e440e0f9c687314d5ff67ead68ce985dc446e3a/data/wn18rr",
        num_entities=40943,
        num_relations=11,
        num_triples=(86835, 3034, 3134),
        digests={
            "train": "038612e783c215ee5f3ca9fbfca27b8d0739be1028fe4ee7c174aecf0b83d5df",
            "valid": "453ce7202afa58094a04d2b1560ee2b02660f1c260b32ce6651c8ccedd1028ab",
            "test": "0383bceaaa1096cf3c03ec021ed0048068e2355dbfc0239b292cefdac821cec5",
        },
    ),
    "codex_s": Benchmark(
        folder="codex-s",
        url=f"{CODEX}/data/triples/codex-s",
        num_entities=2034,
        num_relations=42,
        num_triples=(32888, 1827, 1828),
        digests={
            "train": "64f93b7f314f3936a6f65739721429db3f6a7c8f5a1e1104ec3bb544f7434f59",
            "valid": "3831c0e57daef03c3a18cdd1a72e370b496f696c5218883d35c7d2ab8a6a772c",
            "test": "27127fcb34688c4778e88a39ef3c9b540807da846021e9d9685660ac1838aca1",
            "valid_negatives": "c1d84860d6ee786419f1f118d0e9479c6614283b3e267afc158734389036901f",
            "test_negatives": "d3fb32c41f3be26d09484ace571965806f1ade0ca712551b0de684c283cdbb22",
        },
    ),
    "codex_m": Benchmark(
        folder="codex-m",
        url=f"{CODEX}/data/triples/codex-m",
        num_entities=17050,
        num_relations=51,
        num_triples=(185584, 10310, 10311),
        digests={
            "train": "d99c3437ab51690391a26d96976adf6e5494dba7ef6902e77000551bfa566556",
            "valid": "11c323096367354940846b9ed940c5dabddc1d20a70474222babe7e7fd28b28d",
            "test": "0575ce05e4ce915e395bb4f708e8df9547989dd4c8c71407cbfd78c19daffcf7",
            "valid_negatives": "454a4f66ae85495e6e7df0a9f591ed3b8b6efbbcca515414cb641a28625cbcb2",
            "test_negatives": "7caaf71f7a85fbd915dce8199f5b1e1744ead58e0675549fcb01c60599944648",
        },
    ),
    "codex_l": Benchmark(
        folder="codex-l",
        url=f"{CODEX}/data/triples/codex-l",
        num_entities=77951,
        num_relations=69,
        num_triples=(551193, 30622, 30622),
        digests={
            "train": "be8735738ba4728430922c630f25bf01bcc9eaac",
            "valid": "f0119a22dc663e8df4a942cde7404927935b0c42e5a8980f5fb48ac6886e416f",
            "test": "2d8188d6f199fc548c8e5fb97336a7ffd079240fc84c0425ed9c29d39bfdab8d",
        },
    ),
}


def benchmark(name: str) -> KnowledgeGraph:
    """The benchmark ``name``, downloaded if its files are missing.

    Raises:
        DatasetError: an unknown name, a file that cannot be downloaded, or one with the wrong
            digest.
    """
    known = _known(name)
    files = [fetch(known, split) for split in SPLITS]
    graph = KnowledgeGraph.read(files[0].parent, unseen="keep", name=name)
    num_triples = tuple(len(triple_T3) for triple_T3 in graph.splits.values())
    found = (graph.num_entities, graph.num_relations, num_triples)
    wanted = (known.num_entities, known.num_relations, known.num_triples)
    if found != wanted:
        raise DatasetError(
            f"{files[0].parent} has {found} entities, relations and triples, but {name} has "
            f"{wanted}: remove the folder and run again to download it"
        )
    return graph


def hard_negatives(name: str, graph: KnowledgeGraph) -> tuple[Tensor, Tensor]:
    """Plausible but false triples for triple classification (CoDEx-S and CoDEx-M).

    Returns:
        As many triples as valid, and as many as test; int64 of shape (T, 3), with ids of
        ``graph``.

    Raises:
        DatasetError: the benchmark has none, or they cannot be downloaded.
    """
    known = BENCHMARKS.get(name)
    if known is None or "valid_negatives" not in known.digests:
        raise DatasetError(
            f"{name} has no hard negatives, only codex_s and codex_m have: give your own files"
        )
    valid_T3, test_T3 = (
        read_triples(fetch(known, f"{split}_negatives"), graph.entities, graph.relations)
        for split in ("valid", "test")
    )
    return valid_T3, test_T3


def fetch(known: Benchmark, file: str) -> Path:
    """Path of a verified file of ``known``, downloaded if it is missing.

    Args:
        known: the benchmark.
        file: a key of its digests.

    Raises:
        DatasetError: the file cannot be downloaded, or its digest is wrong.
    """
    path = data_dir() / known.folder / f"{file}.txt"
    digest = known.digests[file]
    if path.is_file():
        _verify(path, digest, str(path), "remove it and run again to download the right one")
        return path
    url = f"{known.url}/{path.name}"

    def download(source: str, target: str, _: object) -> None:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty())(source, target, None)
        _verify(Path(target), digest, source, "run again, the download is damaged")

    log.info("downloading %s", url)
    pooch.get_logger().setLevel("WARNING")  # it would log the digest of each file
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=download)
    except OSError as error:
        raise DatasetError(
            f"cannot download {known.folder}/{path.name} from {url} ({type(error).__name__}): "
            f"check the network, or copy the file to {path} yourself"
        ) from error
    return path


def data_dir() -> Path:
    """Folder of all benchmarks: ``$HALE_DATA_DIR``, or the user's cache folder."""
    return Path(os.environ.get("HALE_DATA_DIR") or pooch.os_cache("hale")).expanduser()


def _known(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise DatasetError(f"unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _verify(path: Path, digest: str, what: str, advice: str) -> None:
    """Raise DatasetError, naming ``what`` and the advice, unless the file has the digest."""
    content = path.read_bytes()
    if len(digest) == 40:
        blob = b"blob %d\0" % len(content) + content
        found = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    else:
        found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise DatasetError(f"{what} has digest {found}, expected {digest}: {advice}")
