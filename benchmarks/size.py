"""What a training step costs as graphs grow: ``python -m benchmarks.size [--quick] [--out FILE]``.

RotL trained with HaLE in 32 dimensions on generated graphs of up to a million entities with four
triples each, 64 of 1024 queries compared with the entities: with all of them, or with the near ones
and a sample (``loss.candidates``). Vectors are fresh, so that the near clusters are as many as they
may be. Milliseconds are medians; clustering is counted apart. Each row comes from a process of its
own. The exponent compares a row with the one of the graph before: 1 is linear growth.
``--picture FILE`` draws the table.
"""

import json
import math
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from benchmarks.epoch import peak_bytes
from benchmarks.measure import Row, in_process, parse, parser, random_graph, report
from benchmarks.step import DIM, endless
from hale.graphs.data_module import QueryDataModule
from hale.losses.query_sampling import QuerySampling
from hale.models.euclidean import RotL
from hale.scoring.activations import Hanon
from hale.training.module import LinkPrediction

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
BATCH, QUERIES = 1024, 64
WAYS = ("all", "near")


def main() -> None:
    """Measure every size in every way."""
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", type=int, help="numbers of entities")
    options.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options.add_argument("--picture", type=Path, help="PNG file to draw")
    given = parse(options)
    sizes = given.sizes or ((1000, 2000) if given.quick else SIZES)
    rows: list[Row] = []
    for way in given.ways:
        before: Row | None = None
        for entities in sizes:
            print(f"{entities} entities, {way} ...", flush=True)
            row = in_process("size", "one", entities, way, 3 if given.quick else 40)
            if before:
                growth = row["E"] / before["E"]
                row["exponent"] = math.log(row["step ms"] / before["step ms"], growth)
            rows.append(row)
            before = row
    report(given, size=rows)
    if given.picture:
        draw(rows, given.picture)


def one(entities: int, way: Literal["all", "near"], steps: int) -> None:
    """Train, and print the milliseconds of a step and the peak memory of this process as JSON."""
    graph = random_graph("generated", entities, 20, (4 * entities, 1000, 1000))
    data = QueryDataModule(graph, BATCH, seed=0)
    data.setup()
    loss = QuerySampling(alpha=QUERIES / BATCH, weight=1.5, candidates=way)
    model = RotL(entities, 2 * graph.num_relations, DIM)
    module = LinkPrediction(model, Hanon(), loss, partial(torch.optim.Adam, lr=0.01, fused=True))
    started = time.perf_counter()
    if module.clusters is not None:
        module.clusters.step(model.entity)
    clustering = time.perf_counter() - started
    seconds = timed(module, data, steps)
    row = {
        "E": entities,
        "way": way,
        "step ms": 1e3 * statistics.median(map(sum, seconds)),
        "loss and gradients ms": 1e3 * statistics.median(s[0] for s in seconds),
        "optimizer ms": 1e3 * statistics.median(s[1] for s in seconds),
        "clustering s": clustering,
        "peak MiB": peak_bytes() / 2**20,
    }
    print(json.dumps(row))


def timed(module: LinkPrediction, data: QueryDataModule, steps: int) -> list[tuple[float, float]]:
    """Seconds of each step, before and in the optimizer, after five that warm up."""
    optimizer, batches = module.configure_optimizers(), endless(data)
    seconds = []
    for _ in range(5 + steps):
        batch, started = next(batches), time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(module.loss_parts(batch)["loss"])
        halfway = time.perf_counter()
        optimizer.step()
        seconds.append((halfway - started, time.perf_counter() - halfway))
    return seconds[5:]


def draw(rows: list[Row], path: Path) -> None:
    """Milliseconds of a step against the number of entities, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(row["way"] for row in rows):
        of_way = [row for row in rows if row["way"] == way]
        axes.loglog(
            [row["E"] for row in of_way], [row["step ms"] for row in of_way], "o-", label=way
        )
    axes.set(xlabel="entities", ylabel="ms per step")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
