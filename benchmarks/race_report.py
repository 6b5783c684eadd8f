"""``race.md`` and ``race.png``, made from the records of the race."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.measure import Row
from hale.runs.columns import DATASETS
from hale.runs.report.colors import PALETTE

TITLES = {
    "hale": "hale (RotL)",
    "hale_short": "hale (RotL), a quarter of the time",
    "hale_mure": "hale (MuRE)",
    "hale_mure_short": "hale (MuRE), a quarter of the time",
    "complex_n3": "ComplEx-N3 on hale's kernel",
    "complex_n3_plain": "ComplEx-N3, plain PyTorch",
    "pykeen_transe_slcwa": "PyKEEN TransE, sLCWA",
    "pykeen_transe_lcwa": "PyKEEN TransE, LCWA",
    "pykeen_rotate_slcwa": "PyKEEN RotatE, sLCWA",
    "pykeen_rotate_lcwa": "PyKEEN RotatE, LCWA",
    "pykeen_complex_slcwa": "PyKEEN ComplEx, sLCWA",
    "pykeen_complex_lcwa": "PyKEEN ComplEx, LCWA",
}
COLORS = {
    "hale": PALETTE[1],
    "hale_mure": PALETTE[4],
    "complex_n3": "#000000",
    "complex_n3_plain": PALETTE[7],
    "transe": PALETTE[0],
    "rotate": PALETTE[2],
    "complex": PALETTE[3],
}
"""By system; PyKEEN's by model."""
GAP = 0.045
"""Least distance of two labels, in heights of the axis."""


def write_report(folder: Path) -> None:
    """Read every record below ``folder`` and write the table and the figure.

    Raises:
        SystemExit: there is none.
    """
    records: dict[str, dict[str, Row]] = {}
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records.setdefault(record["dataset"], {})[record["system"]] = record
    if not records:
        raise SystemExit(f"{folder} holds no record: run the race first")
    text = "\n\n".join(section(dataset, found) for dataset, found in records.items())
    (folder / "race.md").write_text(text + "\n", encoding="utf-8")
    figure, axes = plt.subplots(
        1, len(records), figsize=(7.2 * len(records), 5), squeeze=False, layout="constrained"
    )
    for axis, (dataset, found) in zip(axes[0], records.items(), strict=True):
        draw(axis, dataset, found)
    figure.supxlabel(caption(records), fontsize=9, color="0.3")
    figure.savefig(folder / "race.png", dpi=150)
    plt.close(figure)
    print(text)


def best(record: Row) -> tuple[float, float]:
    """Best valid MRR of a curve and the training seconds it was first seen at."""
    point = max(record["curve"], key=lambda row: row["valid/mrr"])
    return point["valid/mrr"], point["train_seconds"]


def seconds_to(curve: list[Row], mrr: float) -> tuple[float, bool] | None:
    """Training seconds at which a curve reaches ``mrr``, between validations along a line.

    Returns:
        The seconds, and whether that is exact: where the first validation is above ``mrr``
        already, they are an upper bound. None where the curve never reaches it.
    """
    before = None
    for point in curve:
        if point["valid/mrr"] >= mrr:
            if before is None:
                return point["train_seconds"], point["valid/mrr"] == mrr
            share = (mrr - before["valid/mrr"]) / (point["valid/mrr"] - before["valid/mrr"])
            passed = point["train_seconds"] - before["train_seconds"]
            return before["train_seconds"] + share * passed, True
        before = point
    return None


def section(dataset: str, records: dict[str, Row]) -> str:
    """The table of a dataset."""
    of_hale = [record["curve"] for name, record in records.items() if name.startswith("hale")]
    lines = [
        f"## {DATASETS.get(dataset, dataset)}",
        "",
        "| system | best valid MRR | reached after (s) | hale reaches it after (s) | ratio |",
        "|---|---|---|---|---|",
    ]
    for name in TITLES:
        if name not in records or not records[name]["curve"]:
            continue
        mrr, seconds = best(records[name])
        reached = [found for curve in of_hale if (found := seconds_to(curve, mrr)) is not None]
        time, ratio = "not reached", "-"
        if name.startswith("hale"):
            time = "-"
        elif reached:
            least, exact = min(reached)
            time = f"{'' if exact else '≤ '}{least:.1f}"
            ratio = f"{'' if exact else '≥ '}{seconds / least:.1f}"
        lines.append(f"| {TITLES[name]} | {mrr:.4f} | {seconds:.0f} | {time} | {ratio} |")
    any_record = next(iter(records.values()))
    hardware = any_record["hardware"]
    budgets = ", ".join(sorted({f"{record['seconds']:g}" for record in records.values()}))
    days = sorted(record["date"][:10] for record in records.values())
    lines += [
        "",
        f"{budgets} s of training, {cores(records)}, {hardware['cpu']}, "
        f"{days[0]}{'' if days[0] == days[-1] else ' to ' + days[-1]}. One seed. The settings are "
        "in the records, `<dataset>/<system>.json`.",
    ]
    return "\n".join(lines)


def caption(records: dict[str, dict[str, Row]]) -> str:
    """Seed, hardware by dataset, and dimensions where the records have them (hale's)."""
    cpus = {
        DATASETS.get(dataset, dataset): next(iter(found.values()))["hardware"]["cpu"]
        for dataset, found in records.items()
    }
    configs = [r["settings"].get("config") for found in records.values() for r in found.values()]
    dims = sorted({config["model"]["dim"] for config in configs if config})
    words = ["one seed", *(f"{dataset}: {cpu}" for dataset, cpu in cpus.items())]
    words += [f"hale with {', '.join(map(str, dims))} dimensions"] if dims else []
    return "; ".join(words)


def cores(records: dict[str, Row]) -> str:
    """How many cores a system has."""
    counts = sorted({int(record["hardware"]["threads"]) for record in records.values()})
    return "one core each" if counts == [1] else f"{', '.join(map(str, counts))} cores each"


def draw(axis: Axes, dataset: str, records: dict[str, Row]) -> None:
    """Curves with their names at their ends."""
    ends: dict[str, tuple[float, float]] = {}
    for name in TITLES:
        if name not in records or not records[name]["curve"]:
            continue
        x, y = zip(
            *((row["train_seconds"], row["valid/mrr"]) for row in records[name]["curve"]),
            strict=True,
        )
        axis.plot(
            x, y, color=color(name), lw=2.5 if name.startswith("hale") else 1.5,
            ls="--" if name.endswith("_lcwa") else ":" if name.endswith("_short") else "-",
        )  # fmt: skip
        if not name.endswith("_short"):
            ends[name] = (x[-1], y[-1])
    axis.set(
        title=f"{DATASETS.get(dataset, dataset)}, {cores(records)}; dotted: hale with a quarter of "
        "the time",
        xlabel="training seconds",
        ylabel="valid MRR",
    )
    axis.margins(y=0.1)
    axis.set_xlim(0, None)
    axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    label_ends(axis, ends)


def label_ends(axis: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write each name beside its line's end, with a thin line to it where it had to move."""
    right, top = axis.get_xlim()[1], axis.get_ylim()[1]
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = spread([ends[name][1] for name in names], GAP * top)
    for name, height in zip(names, heights, strict=True):
        axis.annotate(
            TITLES[name], ends[name], (right * 1.04, height), va="center", color=color(name),
            fontsize=9, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color(name), "lw": 0.6, "shrinkA": 0,
                        "shrinkB": 2},
        )  # fmt: skip


def spread(heights: list[float], gap: float) -> list[float]:
    """Heights at least ``gap`` apart, in the order given, as near as possible to the given ones.

    Args:
        heights: in ascending order.
        gap: the least distance of two.
    """
    groups: list[tuple[float, int]] = []  # mean of the free heights, and number, of each pile
    for height in heights:
        middle, count = height, 1
        while groups and middle - groups[-1][0] < gap * (count + groups[-1][1]) / 2:
            below, others = groups.pop()
            middle = (middle * count + below * others) / (count + others)
            count += others
        groups.append((middle, count))
    return [
        middle + gap * (place - (count - 1) / 2)
        for middle, count in groups
        for place in range(count)
    ]


def color(name: str) -> str:
    """The colour of a system."""
    return COLORS.get(name.removesuffix("_short")) or COLORS[name.split("_")[1]]
