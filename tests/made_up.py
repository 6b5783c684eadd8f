"""Made-up records of runs, to test tables and figures on."""

import csv
import json
from pathlib import Path
from typing import Any


def write_record(
    root: Path,
    dataset: str,
    model: str,
    dim: int,
    strategy: str | None,
    seed: int = 0,
    mrr: float = 0.3,
    jobs: int = 1,
    curve: list[tuple[float, float]] | None = None,
    device: str = "cpu",
    commit: str | None = "0123456789abcdef",
    config: dict[str, Any] | None = None,
) -> Path:
    """Write ``result.json`` and ``curve.csv`` of a run where a sweep would have put it."""
    folder = root / dataset / f"{model}_{dim}_{strategy}" / f"seed{seed}"
    folder.mkdir(parents=True)
    config = config or {"model": {"dim": dim}, "dataset": {"name": dataset}}
    record = {
        "name": f"dataset={dataset},model={model},seed={seed},strategy={strategy}",
        "choices": {"dataset": dataset, "model": model, "strategy": strategy, "loss": "hale",
                    "activation": "hanon"},
        "config": config | {"jobs": jobs},
        "seed": seed,
        "steps": 1000,
        "train_seconds": 300.0 + seed,
        "commit": commit,
        "hardware": {"machine": "x86_64", "cpu": "CPU", "cores": 2, "threads": 2, "device": device},
        **{f"test/{name}": mrr * factor
           for name, factor in (("mrr", 1.0), ("hits@1", 0.72), ("hits@10", 1.5))},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))
    with (folder / "curve.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "train_seconds", "valid/mrr", "valid/hits@10"))
        for step, (seconds, value) in enumerate(curve or [(10.0, mrr / 2), (20.0, mrr)]):
            writer.writerow((step, seconds, value, 1.5 * value))
    return folder
