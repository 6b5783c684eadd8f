"""Reading triples and making batches, hale against PyKEEN: ``python -m benchmarks.loading``.

Reading: the three splits of FB15k-237 (a random graph of its size, written to files first, where
``HALE_DATA_DIR`` is not set) by ``KnowledgeGraph.read`` and by PyKEEN's ``TriplesFactory``.
Batches: one epoch of shuffled queries (both directions of each triple), with one uniform negative
each, which PyKEEN always draws; for PyKEEN as many triples, its inverse triples included.
A large file: ``--triples 10000000`` instead reads one TSV of so many random triples of a tenth as
many entities, in a process of its own, and reports its CPU seconds and peak memory.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    Row,
    benchmark_graph,
    has_pykeen,
    interleaved,
    parse,
    parser,
    quieten,
    random_graph,
    ratio,
    report,
)
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph

BATCH = 4096


def write_splits(graph: KnowledgeGraph, folder: Path) -> None:
    """Write train.txt, valid.txt and test.txt."""
    for split, triple_T3 in graph.splits.items():
        lines = (
            f"{graph.entities[h]}\t{graph.relations[r]}\t{graph.entities[t]}\n"
            for h, r, t in triple_T3.tolist()
        )
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")


def pykeen_ways(graph: KnowledgeGraph, folder: Path) -> dict[str, Callable[[], object]]:
    """PyKEEN's ways of both."""
    from pykeen.triples import TriplesFactory
    from pykeen.triples.instances import BatchedSLCWAInstances
    from torch.utils.data import DataLoader

    from benchmarks.pykeen_scores import factory

    quieten()

    def read() -> None:
        train = TriplesFactory.from_path(folder / "train.txt")
        for split in ("valid", "test"):
            TriplesFactory.from_path(
                folder / f"{split}.txt",
                entity_to_id=train.entity_to_id,
                relation_to_id=train.relation_to_id,
            )

    instances = BatchedSLCWAInstances.from_triples_factory(
        factory(graph, inverse=True), batch_size=BATCH
    )
    loader = DataLoader(instances, batch_size=None)

    return {"reading": read, "epoch of batches": lambda: sum(1 for _ in loader)}


def hale_ways(graph: KnowledgeGraph, folder: Path) -> dict[str, Callable[[], object]]:
    """Hale's ways of both."""
    data = QueryDataModule(graph, BATCH, seed=0)
    data.setup()
    loader = data.train_dataloader()
    return {
        "reading": lambda: KnowledgeGraph.read(folder, unseen="keep"),
        "epoch of batches": lambda: [batch.negatives(1) for batch in loader],
    }


MEASURED = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
from hale.graphs.kg import KnowledgeGraph
start = time.process_time()
graph = KnowledgeGraph.read(sys.argv[1])
print(json.dumps({
    "triples": sum(map(len, graph.splits.values())),
    "entities": graph.num_entities,
    "cpu s": time.process_time() - start,
    "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def large_file(num_triples: int) -> Row:
    """CPU seconds and peak memory of reading a TSV of so many triples."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "graph.tsv"
        with path.open("w", encoding="utf-8") as file:
            for start in range(0, num_triples, 1 << 20):
                size = min(1 << 20, num_triples - start)
                bounds = (num_triples // 10, 50, num_triples // 10)
                triples = zip(*(draw.integers(0, bound, size).tolist() for bound in bounds),
                              strict=True)  # fmt: skip
                file.writelines(f"entity{h}\trelation{r}\tentity{t}\n" for h, r, t in triples)
        command = [sys.executable, "-c", MEASURED, str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: Row = json.loads(done.stdout)
    return row


def main() -> None:
    """Time both, or a large file."""
    options = parser(__doc__)
    options.add_argument("--triples", type=int, help="read one TSV of so many triples instead")
    given = parse(options)
    if given.triples:
        report(given, large_file=[large_file(given.triples)])
        return
    if given.quick:
        graph, repetitions = random_graph("random", 500, 5, (5000, 50, 50)), 2
    else:
        graph, repetitions = benchmark_graph("fb15k237"), 7
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_splits(graph, folder)
        hale = hale_ways(graph, folder)
        pykeen = pykeen_ways(graph, folder) if has_pykeen() else {}
        for what, way in hale.items():
            ways = {"hale": way} | ({"pykeen": pykeen[what]} if what in pykeen else {})
            seconds = interleaved(ways, repetitions)
            row: Row = {"graph": graph.name, "what": what}
            row |= {f"{who} s": statistics.median(values) for who, values in seconds.items()}
            if "pykeen" in seconds:
                row |= ratio(seconds["pykeen"], seconds["hale"])
            rows.append(row)
    report(given, loading=rows)


if __name__ == "__main__":
    main()
