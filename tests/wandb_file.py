"""Reads an offline W&B run file: a LevelDB log of protobuf records."""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Record]:
    """The records of ``run-*.wandb``; raises ValueError where a checksum is wrong."""
    data = path.read_bytes()
    if data[:4] != b":W&B":
        raise ValueError(f"{path} is no W&B run file")
    at, parts = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        checksum, size, kind = struct.unpack("<IHB", data[at : at + 7])
        payload = data[at + 7 : at + 7 + size]
        if zlib.crc32(bytes([kind]) + payload) != checksum:
            raise ValueError(f"{path}: wrong checksum at byte {at}")
        at += 7 + size
        parts = payload if kind in (FULL, FIRST) else parts + payload
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record


def finished(path: Path) -> Path:
    """The file once it is complete: W&B's own process still writes when a run has been finished."""
    for _ in range(600):
        if any(record.WhichOneof("record_type") == "exit" for record in records(path)):
            return path
        time.sleep(0.1)
    raise TimeoutError(path)


def history(path: Path) -> list[dict[str, float]]:
    """The logged rows."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {
                    (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
                    for item in items
                }
            )
    return rows


def config(path: Path) -> dict[str, object]:
    """The run's config as it was when the run ended."""
    found: dict[str, object] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        updates = {"run": record.run.config, "config": record.config}.get(kind)
        if updates is not None:
            found |= {
                u.key or ".".join(u.nested_key): json.loads(u.value_json) for u in updates.update
            }
    return found


def run_record(path: Path) -> object:
    """Name and group of the run."""
    return next(r.run for r in records(path) if r.WhichOneof("record_type") == "run")


def exit_code(path: Path) -> int:
    """The code that the run was finished with."""
    return next(r.exit.exit_code for r in records(path) if r.WhichOneof("record_type") == "exit")


def summary(path: Path) -> dict[str, object]:
    """The run's summary as it was when the run ended."""
    found: dict[str, object] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            for update in record.summary.update:
                name = update.key or ".".join(update.nested_key)
                found[name] = json.loads(update.value_json)
    return found


def artifacts(path: Path) -> dict[str, tuple[str, dict[str, object], list[str]]]:
    """Type, metadata and files of the run's artifacts, by name."""
    kept = [r.artifact for r in records(path) if r.WhichOneof("record_type") == "artifact"]
    return {
        each.name: (
            each.type, json.loads(each.metadata), sorted(c.path for c in each.manifest.contents)
        )
        for each in kept
    }  # fmt: skip
