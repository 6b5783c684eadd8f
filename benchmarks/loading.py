"""Reading triples and making batches, hale against PyKEEN: ``python -m benchmarks.loading``.

Reading: the three splits of FB15k-237 (a random graph of its size, written to files first, where
``HALE_DATA_DIR`` is not set) by ``KnowledgeGraph.read`` and by PyKEEN's ``TriplesFactory``.
Batches: one epoch of shuffled queries (both directions of each triple), with one uniform negative
each, which PyKEEN always draws; for PyKEEN as many triples, its inverse triples included.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

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
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.loaders import QueryDataModule

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


def main() -> None:
    """Time both."""
    given = parse(parser(__doc__))
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
