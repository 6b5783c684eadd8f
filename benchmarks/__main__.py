"""Run every CPU benchmark and keep the results: ``python -m benchmarks [--quick] [--threads N]``.

Each runs in a process of its own and prints its tables; together they are written to
``results/bench/<date>.json``.
"""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import facts, parse, parser, write_json

BENCHMARKS = ("kernel", "step", "epoch", "size", "ranking", "loading")


def main() -> None:
    """Run them in turn; one that fails does not stop the others."""
    given = parse(parser(__doc__))
    date = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    path = given.out or Path("results/bench") / f"{date}.json"
    results, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in BENCHMARKS:
            out = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(out)]
            command += ["--quick"] if given.quick else []
            command += ["--threads", str(given.threads)] if given.threads is not None else []
            print(f"\n== {name}", flush=True)
            if subprocess.run(command, check=False).returncode or not out.exists():
                failed.append(name)
            else:
                results[name] = json.loads(out.read_text(encoding="utf-8"))
    write_json(path, facts() | {"quick": given.quick, "failed": failed, "benchmarks": results})
    print(f"\n{path}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
