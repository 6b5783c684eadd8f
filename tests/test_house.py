"""The layout that docs/architecture.md describes: rooms, their order, and sizes."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "errors", "version", "distributed", "graphs", "scoring", "models", "losses", "evaluation",
    "runs", "settings", "training", "run", "cli",
)  # fmt: skip
"""A package imports those before it, and itself."""
SOURCES = sorted((ROOT / "hale").rglob("*.py"))
LONGEST_FUNCTION, LONGEST_FILE = 40, 250


def room(module: str) -> str:
    """The package or module at the top of ``hale`` that a dotted name lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> set[str]:
    """Dotted names of what a file imports of hale, wherever in the file, but for typing alone."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in set(ast.walk(tree)) - typing:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "hale":
                found |= {f"hale.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "hale"}


def test_ten_rooms_at_the_top():
    packages = {path.name for path in (ROOT / "hale").iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in (ROOT / "hale").glob("*.py")}
    assert len(packages) <= 10
    assert modules == {"__init__", "__main__", "run", "errors", "version"}
    assert packages | modules - {"__init__", "__main__"} == set(ORDER)
    told = (ROOT / "docs/architecture.md").read_text()
    for package in packages:
        assert f"hale/{package}" in told, package


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back_up(path):
    relative = path.relative_to(ROOT).with_suffix("")
    if relative.name in ("__main__",) or relative.parts == ("hale", "__init__"):
        return
    mine = ORDER.index(relative.parts[1])
    for name in imports(path):
        other = room(name)
        if other and other != "__version__":
            assert ORDER.index(other) <= mine, f"{relative} imports {name}"


@pytest.mark.parametrize("folder", ["hale", "experiments"])
def test_functions_and_files_can_be_read_at_once(folder):
    """Triton's kernels are functions of another language."""
    long = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                kernel = any("triton.jit" in ast.unparse(d) for d in node.decorator_list)
                if lines > LONGEST_FUNCTION and not kernel:
                    long.append(f"{path}:{node.name} has {lines} lines")
    assert not long


def tracked(*patterns: str) -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *patterns], capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_nothing_private_of_hydras():
    private = "hydra." + "_internal"
    for path in tracked("*.py"):
        imported = [line for line in path.read_text("utf-8").splitlines() if "import" in line]
        assert not any(private in line for line in imported), path


STRANGE = re.compile(
    r"gone on with|goes? on with|no rivals?\b|\b(32|256|512) numbers|whose a "
    r"|(?<!there )is no (model|JSON|hit)"
    r"|learn by heart|\bmend(ed|s|ing)?\b|side by side|\bRot[A-Z0-9]+ by HaLE|by hand, with",
    re.IGNORECASE,
)


def test_the_fields_own_words():
    """docs/style.md has the whole list; these are the ones that crept in before."""
    found = []
    for path in tracked("*.py", "*.md", "*.yaml", "*.c", "*.h", "Makefile"):
        if path.name in ("style.md", Path(__file__).name):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := STRANGE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_at_most_twelve_recipes_and_600_files():
    assert len(list((ROOT / "conf/recipe").rglob("*.yaml"))) <= 12
    assert len(tracked()) <= 600
