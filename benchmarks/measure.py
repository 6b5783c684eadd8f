"""What the benchmarks share: interleaved timing, graphs, facts of the machine, tables, JSON.

Two ways of doing the same thing are timed in turn within one run, and their ratio is the median of
the ratios of neighbours: a machine that slows down slows both.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import os
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.published import BENCHMARKS, benchmark
from hale.runs.files import write_atomically
from hale.runs.record import provenance

Row = dict[str, Any]

NO_PYKEEN = "not run: pykeen is not installed (pip install -e '.[bench]')"


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has, ``quick``, ``threads`` and ``out``."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="small sizes: does everything turn?")
    options.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice by default")
    options.add_argument("--out", type=Path, help="JSON file to write")
    return options


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line; PyTorch gets its threads, libraries get quiet."""
    given = options.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    quieten()
    return given


def interleaved(
    ways: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way, taken in turn ``repetitions`` times after ``warm_up`` untimed rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm_up, repetitions):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def in_process(module: str, function: str, *arguments: object) -> Row:
    """The row that ``function`` of a benchmark prints as JSON in a process of its own.

    It gets ``arguments``, and the threads of this process.
    """
    call = f"from benchmarks import {module}; {module}.{function}(*{arguments!r})"
    threads = f"import torch; torch.set_num_threads({torch.get_num_threads()}); "
    command = [sys.executable, "-c", threads + call]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    row: Row = json.loads(done.stdout)
    return row


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest ratio of neighbours in time."""
    ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
    return {"ratio": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


def has_pykeen() -> bool:
    """Whether PyKEEN is installed; prints a line if it is not."""
    found = importlib.util.find_spec("pykeen") is not None
    if not found:
        print(NO_PYKEEN, flush=True)
    return found


def facts() -> Row:
    """Date, hardware, threads, versions, commit and command of this process."""
    about = provenance(torch.device("cpu"))
    if hasattr(os, "sched_getaffinity"):
        about["hardware"]["usable_cores"] = len(os.sched_getaffinity(0))
    if importlib.util.find_spec("pykeen") is not None:
        about["versions"]["pykeen"] = importlib.metadata.version("pykeen")
    module = getattr(sys.modules["__main__"], "__spec__", None)
    name = module.name.removesuffix(".__main__") if module else sys.argv[0]
    words = ["python", "-m", name, *sys.argv[1:]]
    return about | {"command": shlex.join(words)}


def write_json(path: Path, content: Row) -> None:
    """Write ``content``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def report(given: argparse.Namespace, **tables: Sequence[Row]) -> None:
    """Print each table and, where a file was asked for, write them with the facts."""
    for title, rows in tables.items():
        print_table(title, rows)
    if given.out is not None:
        write_json(given.out, facts() | {"quick": given.quick, "tables": tables})


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Aligned columns, floats with four digits."""
    print(f"\n{title} ({torch.get_num_threads()} threads)")
    if not rows:
        print("  nothing was measured")
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  " + "  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)), flush=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def quieten() -> None:
    """Silence tips of Lightning and PyKEEN, and warnings about random graphs.

    PyKEEN sets its own level when it is imported: say it again after that.
    """
    for name in ("pytorch_lightning", "pykeen", "torch_max_mem", "hale.graphs.reading"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|pykeen")
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def benchmark_graph(name: str) -> KnowledgeGraph:
    """The benchmark where ``HALE_DATA_DIR`` is set, else a random graph of its size."""
    if os.environ.get("HALE_DATA_DIR"):
        return benchmark(name)
    known = BENCHMARKS[name]
    return random_graph(
        f"random like {name}", known.num_entities, known.num_relations, known.num_triples
    )


def random_graph(
    name: str, num_entities: int, num_relations: int, num_triples: Sequence[int]
) -> KnowledgeGraph:
    """Uniformly random triples; ``num_triples`` counts train, valid and test."""
    generator = torch.Generator().manual_seed(0)
    bounds = (num_entities, num_relations, num_entities)
    splits = [
        torch.stack([torch.randint(b, (count,), generator=generator) for b in bounds], 1)
        for count in num_triples
    ]
    entities = tuple(f"e{i}" for i in range(num_entities))
    relations = tuple(f"r{i}" for i in range(num_relations))
    return KnowledgeGraph(name, entities, relations, *splits)
