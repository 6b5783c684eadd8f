"""``race.md`` and ``race.png`` from the records of the race."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.measure import Row

TITLES = {
    "hale": "hale (RotL)",
    "hale_short": "hale (RotL), 1/4 of the time",
    "hale_mure": "hale (MuRE)",
    "hale_mure_short": "hale (MuRE), 1/4 of the time",
    "complex_n3": "ComplEx-N3 on hale's kernel",
    "complex_n3_plain": "ComplEx-N3, plain PyTorch",
    "pykeen_transe_slcwa": "PyKEEN TransE, sLCWA",
    "pykeen_transe_lcwa": "PyKEEN TransE, LCWA",
    "pykeen_rotate_slcwa": "PyKEEN RotatE, sLCWA",
    "pykeen_rotate_lcwa": "PyKEEN RotatE, LCWA",
    "pykeen_complex_slcwa": "PyKEEN ComplEx, sLCWA",
    "pykeen_complex_lcwa": "PyKEEN ComplEx, LCWA",
}
COLOURS = {
    "hale": "#D55E00",
    "hale_mure": "#E69F00",
    "complex_n3": "#000000",
    "complex_n3_plain": "#777777",
    "transe": "#0072B2",
    "rotate": "#009E73",
    "complex": "#CC79A7",
}
"""Of Okabe and Ito's palette, which the colour-blind tell apart."""


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
        f"## {dataset}",
        "",
        "| system | best valid MRR | after s | hale reaches it after s | ratio |",
        "|---|---|---|---|---|",
    ]
    for name in TITLES:
        if name not in records or not records[name]["curve"]:
            continue
        mrr, seconds = best(records[name])
        reached = [found for curve in of_hale if (found := seconds_to(curve, mrr)) is not None]
        time, ratio = "not within its budget", "-"
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
    threads = ", ".join(sorted({str(r["hardware"]["threads"]) for r in records.values()}))
    days = sorted(record["date"][:10] for record in records.values())
    lines += [
        "",
        f"{budgets} s of training each, {threads} thread(s), {hardware['cpu']}, "
        f"{days[0]}{'' if days[0] == days[-1] else ' to ' + days[-1]}. One seed. Settings: the "
        f"records beside this file.",
    ]
    return "\n".join(lines)


def draw(axis: Axes, dataset: str, records: dict[str, Row]) -> None:
    """Curves with their names at their ends."""
    ends: list[tuple[float, str]] = []
    for name in TITLES:
        if name not in records or not records[name]["curve"]:
            continue
        x, y = zip(
            *((row["train_seconds"], row["valid/mrr"]) for row in records[name]["curve"]),
            strict=True,
        )
        axis.plot(
            x, y, color=colour(name), lw=2.5 if name.startswith("hale") else 1.5,
            ls="--" if name.endswith("_lcwa") else ":" if name.endswith("_short") else "-",
        )  # fmt: skip
        if not name.endswith("_short"):
            ends.append((y[-1], name))
    axis.set(
        title=f"{dataset} (dotted: hale in 1/4 of the time)",
        xlabel="training seconds",
        ylabel="valid MRR",
        ylim=(0, None),
    )
    axis.set_xlim(0, None)
    axis.margins(y=0.1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    gap = 0.045 * axis.get_ylim()[1]
    at = -gap
    for end, name in sorted(ends):
        at = max(end, at + gap)
        axis.annotate(
            TITLES[name], (1.01, at), xycoords=("axes fraction", "data"), va="center",
            color=colour(name), fontsize=9, annotation_clip=False,
        )  # fmt: skip


def colour(name: str) -> str:
    """The colour of a system."""
    return COLOURS.get(name.removesuffix("_short")) or COLOURS[name.split("_")[1]]
