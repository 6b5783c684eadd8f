"""The commands of docs/using.md run as they stand, from top to bottom."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from hale.cli import COMMANDS, run_command

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/using.md").read_text(encoding="utf-8")


def run_line(line: str) -> None:
    """Run a line of shell: training in a process of its own, other commands in this one."""
    words = shlex.split(line) if line.startswith("hale ") else []
    if len(words) > 1 and words[1] in COMMANDS:
        assert run_command(words[1:]) == 0, line
        return
    command = [sys.executable, "-m", "hale", *words[1:]] if words else ["bash", "-euc", line]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_every_block_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == PAGE.count("```bash") + PAGE.count("```python") > 6
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "docs/using.md", "exec"), {})
        else:
            for line in text.splitlines():
                run_line(line)
    for file in ("answers.json", "runs.json", "vectors/embeddings.npz", "runs/cities/result.json"):
        assert Path(file).is_file()
    assert "Martin Stone" in capsys.readouterr().out


def test_the_page_names_what_exists():
    for command in COMMANDS:
        assert f"`{command}`" in PAGE or f"hale {command} " in PAGE
    for path in re.findall(r"`((?:hale|docs|conf)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists()
