"""Graphs that grow: updates against training anew, after each snapshot of a sequence.

    HALE_DATA_DIR=... python -m benchmarks.growing continual-entity --seconds 30 --seeds 3

The folder has the snapshots in folders 0, 1, 2, ...: each with the new triples of train, valid and
test. A model is trained on snapshot 0; after each further one it is updated in a share of all
seconds spent so far, and others are trained anew on all triples known by then: for as many seconds
as the update, and for the total. Each is ranked on the tests of all snapshots so far, among all
entities known by then. Settings are ``KEY=VALUE``; without any they are the defaults of hale. Seeds
whose rows the file has already are not run again.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

import torch

import hale
from benchmarks.measure import Row, facts, quieten
from hale.cli.update import settings_of
from hale.graphs.kg import KnowledgeGraph
from hale.runs.trained import TrainedModel

COMMON: Row = {"test": False, "validations": 4}
UPDATE, SHORT, TOTAL = "update", "anew, same seconds", "anew, total seconds"


def main() -> None:
    """Run the protocol for each seed, and write a record a line and a table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("snapshots", type=Path, metavar="FOLDER", help="also in HALE_DATA_DIR")
    options.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options.add_argument("--seconds", type=float, default=30, help="of training on snapshot 0")
    options.add_argument("--steps", action="store_true", help="budgets are steps, not seconds")
    options.add_argument("--share", type=float, default=0.1, help="of all seconds, for an update")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--threads", type=int)
    options.add_argument("--ranked", type=int, help="triples of each test; default: all")
    options.add_argument("--last", type=int, default=99, help="snapshot to end with")
    options.add_argument("--out", type=Path, default=Path("results/growing"))
    given = options.parse_args()
    if not given.snapshots.exists():
        given.snapshots = Path(os.environ.get("HALE_DATA_DIR", "data")) / given.snapshots
    quieten()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{given.snapshots.resolve().name}.jsonl"
    rows = finished(path, snapshots(given))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        for seed in sorted(set(range(given.seeds)) - {row["seed"] for row in rows}):
            for row in protocol(given, seed):
                rows.append(row)
                file.write(json.dumps(facts() | row) + "\n")
                file.flush()
    table = "\n".join(table_lines(rows))
    path.with_suffix(".md").write_text(f"{table}\n", encoding="utf-8")
    print(table)


def snapshots(given: argparse.Namespace) -> int:
    """The number of the last snapshot."""
    return min(given.last, len(list(given.snapshots.glob("[0-9]*"))) - 1)


def finished(path: Path, last: int) -> list[Row]:
    """The rows of seeds of which a file has every row, as an interrupted benchmark leaves them."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    whole = {row["seed"] for row in rows if (row["snapshot"], row["way"]) == (last, TOTAL)}
    return [row for row in rows if row["seed"] in whole and row["snapshot"] <= last]


def protocol(given: argparse.Namespace, seed: int) -> Iterator[Row]:
    """A row for each snapshot and way: seconds, steps, MRR of all tests and of each."""
    settings = {**settings_of(given.settings), **COMMON, "threads": given.threads}
    first = KnowledgeGraph.read(given.snapshots / "0", unseen="keep")
    graph, total, tests = first, given.seconds, [len(first.test)]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = _fit(given, graph, total, work / "0", settings, seed)
        yield _row(given, 0, TOTAL, seed, model, tests)
        for snapshot in range(1, 1 + snapshots(given)):
            seconds = total * given.share / (1 - given.share)
            total += seconds
            model = hale.update(
                work / str(snapshot - 1), str(given.snapshots / str(snapshot)),
                **_budget(given, seconds), folder=work / str(snapshot),
                settings={"dataset.unseen": "keep"},
            )  # fmt: skip
            graph = model.graph
            tests.append(len(graph.test) - sum(tests))
            yield _row(given, snapshot, UPDATE, seed, model, tests)
            for way, budget in ((SHORT, seconds), (TOTAL, total)):
                anew = _fit(given, graph, budget, work / f"{snapshot} {way}", settings, seed)
                yield _row(given, snapshot, way, seed, anew, tests)


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: a row per snapshot, means over seeds, and the update as a share of the total."""
    yield (
        "| snapshot | entities | triples | update, s | total, s | update | anew, same s | "
        "anew, total s | update / anew | the same on earlier tests | lowest on one earlier test |"
    )
    yield "|---" * 11 + "|"
    for snapshot in sorted({row["snapshot"] for row in rows} - {0}):
        ways = {
            way: [r for r in rows if (r["snapshot"], r["way"]) == (snapshot, way)]
            for way in (UPDATE, SHORT, TOTAL)
        }
        mrr = {way: mean(row["mrr"] for row in found) for way, found in ways.items()}
        each = {
            way: [mean(values) for values in zip(*(r["mrr_by_test"] for r in found), strict=True)]
            for way, found in ways.items()
        }
        sizes = ways[UPDATE][0]["ranked"][:-1]
        earlier = {
            way: sum(m * n for m, n in zip(means[:-1], sizes, strict=True)) / sum(sizes)
            for way, means in each.items()
        }
        lowest = min(u / a for u, a in zip(each[UPDATE][:-1], each[TOTAL][:-1], strict=True))
        cost = {way: mean(row["train_seconds"] for row in found) for way, found in ways.items()}
        last = ways[UPDATE][0]
        yield (
            f"| {snapshot} | {last['entities']:,} | {last['triples']:,} | {cost[UPDATE]:.1f} | "
            f"{cost[TOTAL]:.1f} | {mrr[UPDATE]:.4f} | {mrr[SHORT]:.4f} | {mrr[TOTAL]:.4f} | "
            f"{mrr[UPDATE] / mrr[TOTAL]:.3f} | {earlier[UPDATE] / earlier[TOTAL]:.3f} | "
            f"{lowest:.3f} |"
        )


def _fit(
    given: argparse.Namespace, graph: KnowledgeGraph, budget: float, folder: Path, settings: Row,
    seed: int,
) -> TrainedModel:  # fmt: skip
    return hale.fit(graph, **_budget(given, budget), seed=seed, folder=folder, settings=settings)


def _budget(given: argparse.Namespace, budget: float) -> Row:
    return {"steps": round(budget)} if given.steps else {"seconds": budget}


def _row(
    given: argparse.Namespace, snapshot: int, way: str, seed: int, model: TrainedModel,
    tests: Sequence[int],
) -> Row:  # fmt: skip
    """What a model reaches on the tests of all snapshots so far."""
    generator = torch.Generator().manual_seed(0)
    each, ranked = [], []
    for triple_T3 in model.graph.test.split(list(tests)):
        order = torch.randperm(len(triple_T3), generator=generator)[: given.ranked]
        each.append(float(model.evaluate(triple_T3[order]).compute()["mrr"]))
        ranked.append(len(order))
    record = model.record
    return {
        "snapshots": given.snapshots.resolve().name, "snapshot": snapshot, "way": way, "seed": seed,
        "entities": model.graph.num_entities, "triples": len(model.graph.train),
        "train_seconds": record["train_seconds"], "cpu_seconds": record["cpu_seconds"],
        "steps": record["steps"], "ranked": ranked, "mrr_by_test": each,
        "mrr": sum(m * n for m, n in zip(each, ranked, strict=True)) / sum(ranked),
    }  # fmt: skip


if __name__ == "__main__":
    main()
