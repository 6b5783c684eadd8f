"""``table.md`` of the records of ``benchmarks.own_data``."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.measure import Row
from benchmarks.own_data import ROWS, read_records, task_of
from benchmarks.own_systems import SYSTEMS

TITLES = {
    "default": "**default**", "tuned": "tuned recipe", "mure": "MuRE", "rotl": "RotL",
    "complex": "ComplEx", "pykeen_transe": "PyKEEN TransE", "pykeen_rotate": "PyKEEN RotatE",
    "pykeen_complex": "PyKEEN ComplEx",
}  # fmt: skip
NOT_RIVALS = ("default", "tuned")


def write_report(path: Path) -> None:
    """Write ``table.md`` beside the records and print it.

    Args:
        path: of the records.
    """
    text = report(read_records(path))
    path.with_name("table.md").write_text(text, encoding="utf-8")
    print(text)


def report(records: Sequence[Row]) -> str:
    """Tables of test MRR and of the graphs, and the conditions."""
    rows = sorted({(task_of(r).row, r["seconds"]) for r in records}, key=_place)
    cells = [
        result_row(
            row, seconds, [r for r in records if (task_of(r).row, r["seconds"]) == (row, seconds)]
        )
        for row, seconds in rows
    ]
    head = [
        "graph", "dim", "s", "popularity", *(TITLES[name] for name in SYSTEMS), "best rival",
        "default to it", "default to tuned",
    ]  # fmt: skip
    return "\n".join(
        [
            "# Graphs without a recipe",
            "",
            "Test MRR after the same seconds of training, by hale's ranking of the same queries "
            "(filtered, both directions, all entities).",
            "",
            *markdown(head, cells),
            "",
            *markdown(*sizes(records)),
            "",
            conditions(records),
            "",
        ]
    )


def result_row(row: str, seconds: float, records: Sequence[Row]) -> list[str]:
    """A line of the table: one graph in one dimension."""
    graph, _, dim = row.partition("@")
    of = {name: [r["test"]["mrr"] for r in records if r["system"] == name] for name in SYSTEMS}
    means = {name: statistics.mean(values) for name, values in of.items() if values}
    rivals = {name: mean for name, mean in means.items() if name not in NOT_RIVALS}
    best = max(rivals, key=lambda name: rivals[name]) if rivals else None
    popularity = [r["popularity"]["mrr"] for r in records if "popularity" in r]
    return [
        graph,
        dim or "own",
        f"{seconds:g}",
        _mrr(popularity[0]) if popularity else "",
        *(_mean(of[name]) for name in SYSTEMS),
        TITLES[best] if best else "",
        _change(means, best),
        _change(means, "tuned"),
    ]


def sizes(records: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of the table of graphs."""
    names = ("entities", "relations", "train", "valid", "test")
    found = {r["graph"]: [f"{r['sizes'][name]:,}" for name in names] for r in records}
    order = sorted(found, key=lambda graph: _place((graph, 0.0)))
    return ["graph", *names], [[graph, *found[graph]] for graph in order]


def conditions(records: Sequence[Row]) -> str:
    """Seeds, hardware, versions and days of the records."""

    def distinct(get: Callable[[Row], object]) -> str:
        return ", ".join(sorted({str(get(r)) for r in records}))

    seeds = sorted({r["seed"] for r in records})
    spread = "± is the standard deviation over three seeds or more. " if len(seeds) > 2 else ""
    days = sorted(r["date"][:10] for r in records)
    pykeen = sorted({r["versions"]["pykeen"] for r in records if "pykeen" in r["versions"]})
    return (
        f"Seeds {', '.join(map(str, seeds))}. {spread}{distinct(lambda r: r['hardware']['cpu'])}, "
        f"{distinct(lambda r: r['threads'])} threads, load average before a run at most "
        f"{max(r['load'] for r in records):.1f}; PyTorch "
        f"{distinct(lambda r: r['versions']['torch'])}, PyKEEN {', '.join(pykeen) or 'not run'}; "
        f"{days[0]}{'' if days[0] == days[-1] else ' to ' + days[-1]}; commit "
        f"{distinct(lambda r: (r['commit'] or 'unknown')[:7])}. A graph without splits has 5 % of "
        "its triples held out for valid and as much for test, but no more than 5,000. Settings, "
        "valid metrics, Hits@k and commands are in runs.jsonl."
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _place(row: tuple[str, float]) -> tuple[int, str, float]:
    """Where a row comes: as in ``ROWS``, or after them."""
    name, seconds = row
    graphs = [known.partition("@")[0] for known in ROWS]
    graph = name.partition("@")[0]
    place = ROWS.index(name) if name in ROWS else graphs.index(graph) if graph in graphs else 99
    return place, name, seconds


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = statistics.mean(values)
    spread = f" ± {_mrr(statistics.stdev(values), _digits(mean))}" if len(values) > 2 else ""
    return _mrr(mean) + spread


def _mrr(value: float, digits: int | None = None) -> str:
    return f"{value:.{digits or _digits(value)}f}".lstrip("0")


def _digits(value: float) -> int:
    """Decimals of an MRR."""
    return 3 if value >= 0.0995 else 4


def _change(means: dict[str, float], other: str | None) -> str:
    """How much more the default reaches than another system, in percent."""
    if other not in means or "default" not in means:
        return ""
    return f"{100 * (means['default'] / means[other] - 1):+.1f} %"
