"""What an epoch costs as graphs grow: ``python -m benchmarks.epoch [--quick] [--out FILE]``.

RotL trained with HaLE in 32 dimensions on generated graphs of 10^4, 10^5 and 10^6 entities with
five triples each. The number N of sampled queries falls as the number E of entities grows, so that
every step compares the same number of pairs, N E. There are two policies for the batch: 4096
queries whatever the graph, or a constant share of the graph, so that every epoch has as many steps.

Each row comes from a process of its own, whose peak memory is therefore its own. It holds the
interpreter and its libraries, the graph with its indices, the tables (parameters, gradients, the
two moments of Adam), and what a step needs beside them. The exponents compare a row with the one
above: 1 is linear growth.
"""

import json
import math
import resource
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.measure import Row, in_process, parse, parser, random_graph, report
from benchmarks.step import DIM, endless, plain_step
from hale.graphs.data_module import QueryDataModule
from hale.losses.query_sampling import QuerySampling
from hale.models.euclidean import RotL
from hale.scoring.activations import Hanon
from hale.training.module import LinkPrediction

PAIRS = 4_096_000
"""N E, the scores of a step."""
TRIPLES_EACH = 5
LIMIT = 4 << 30
"""Bytes that the largest graph must train within."""


def main() -> None:
    """Measure every size under both policies."""
    given = parse(parser(__doc__))
    sizes, steps = ([1000, 2000], 3) if given.quick else ([10**4, 10**5, 10**6], 30)
    policies = {"4096 queries": lambda _: 4096, "share of the graph": lambda e: e * 4096 // 10**5}
    if given.quick:
        policies.popitem()
    rows: list[Row] = []
    for policy, batch in policies.items():
        measured: list[Row] = []
        for entities in sizes:
            print(f"{entities} entities ...", flush=True)
            row = in_process("epoch", "one", entities, batch(entities), steps)
            measured.append({"batch": policy} | row)
        for before, row in pairwise(measured):
            growth = row["E"] / before["E"]
            for name in ("ms/step", "s/epoch"):
                row[f"exponent of {name}"] = math.log(row[name] / before[name], growth)
        rows += measured
    report(given, epoch=rows)


def one(entities: int, batch: int, steps: int) -> None:
    """Train, and print time and memory of this process as JSON."""
    imported = resident_bytes()
    graph = random_graph("generated", entities, 20, (TRIPLES_EACH * entities, 1000, 1000))
    data = QueryDataModule(graph, batch, seed=0)
    data.setup()
    with_graph = resident_bytes()
    rows = max(1, PAIRS // entities)
    model = RotL(entities, 2 * graph.num_relations, DIM)
    loss = QuerySampling(alpha=min(1.0, rows / batch), weight=1.5)
    module = LinkPrediction(model, Hanon(), loss, partial(torch.optim.Adam, lr=0.01, fused=True))
    optimizer, batches = module.configure_optimizers(), endless(data)
    for _ in range(2):
        plain_step(module, optimizer, batches)
    started = time.perf_counter()
    for _ in range(steps):
        plain_step(module, optimizer, batches)
    seconds = (time.perf_counter() - started) / steps
    epoch_steps = len(data.train_dataloader())
    after = resident_bytes()
    tables = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
    peak = peak_bytes()
    row = {
        "E": entities,
        "N": math.ceil(loss.alpha * batch),
        "B": batch,
        "ms/step": 1e3 * seconds,
        "steps/epoch": epoch_steps,
        "s/epoch": seconds * epoch_steps,
        "peak MiB": peak / 2**20,
        "imports MiB": imported / 2**20,
        "graph MiB": (with_graph - imported) / 2**20,
        "tables MiB": tables / 2**20,
        "step MiB": (after - with_graph - tables) / 2**20,
        "within 4 GiB": peak <= LIMIT,
    }
    print(json.dumps(row))


def resident_bytes() -> int:
    """Resident memory of this process now; its peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_bytes()
    return int(statm.read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


if __name__ == "__main__":
    main()
