"""Made-up records of runs, to test tables and figures on, and several processes."""

import csv
import io
import json
import multiprocessing
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


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


def in_processes(
    world_size: int, function: Callable[..., Any], folder: Path, *arguments: Any
) -> list[Any]:
    """What a function of a test module returns in each of several processes, by rank.

    A collective that waits for longer than 30 seconds fails.
    """
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    shared = (world_size, function, folder / "store", results, arguments)
    started = [context.Process(target=_one_of, args=(rank, *shared)) for rank in range(world_size)]
    for process in started:
        process.start()
    found = dict(results.get(timeout=240) for _ in started)
    for process in started:
        process.join(timeout=60)
        assert process.exitcode == 0
    contents = (io.BytesIO(found[rank]) for rank in range(world_size))
    return [torch.load(content, weights_only=False) for content in contents]


def _one_of(
    rank: int,
    world_size: int,
    function: Callable[..., Any],
    store: Path,
    results: multiprocessing.Queue,
    arguments: Sequence[Any],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size,
        timeout=timedelta(seconds=30),
    )  # fmt: skip
    try:
        content = io.BytesIO()  # tensors, which a queue would leave in memory of this process
        torch.save(function(*arguments), content)
        results.put((rank, content.getvalue()))
    except BaseException:
        results.put((rank, None))
        raise
    finally:
        dist.destroy_process_group()
