"""The distribution: its name, what a wheel carries, texts that name it, and the site's pages."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BY_NAME = re.compile(r"hale(-kge)?\[[a-z]")  # not a variable hale["..."]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", str(folder), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (path,) = folder.iterdir()
    return path


def test_the_wheel_is_not_the_package_indexs_hale(wheel):
    assert re.fullmatch(r"hale_kge-[\d.]+-py3-none-any\.whl", wheel.name)


def test_the_wheel_carries_settings_types_and_the_command(wheel):
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(files.read(f"{info}/METADATA").decode())
        commands = files.read(f"{info}/entry_points.txt").decode()
    conf = {p.relative_to(ROOT).as_posix() for p in (ROOT / "conf").rglob("*.yaml")}
    assert {f"hale/{path}" for path in conf} <= names
    assert {"hale/py.typed", "hale/runs/report/page.css"} <= names
    assert any(name.startswith("hale/scoring/kernels/c/") for name in names)
    assert {name.split("/")[0] for name in names} == {"hale", info}
    assert "hale = hale.cli:main" in commands.splitlines()
    assert EntryPoint("hale", "hale.cli:main", "console_scripts").load().__name__ == "main"
    assert metadata["Name"] == "hale-kge"
    assert {"docs", "mlflow", "sweep", "viz", "dev"} <= set(metadata.get_all("Provides-Extra"))


def test_extras_name_this_distribution_and_are_pinned():
    pinned = {
        canonical(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    needed = [*PROJECT["dependencies"]]
    for requirements in PROJECT["optional-dependencies"].values():
        needed += requirements
    needed.remove("triton==3.7.1")  # where PyTorch has CUDA, it pins a Triton of its own
    names = {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in needed}
    assert names - {"hale-kge"} <= pinned
    assert all("hale[" not in requirement for requirement in needed)


def test_texts_install_extras_from_the_checkout():
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.txt", "Makefile"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    texts = {p: p.read_text(encoding="utf-8") for p in paths if p.is_file() and p != Path(__file__)}
    assert len(texts) > 100
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts.items()
        if path != ROOT / "pyproject.toml"
        for number, line in enumerate(text.splitlines(), 1)
        if BY_NAME.search(line)
    ]
    assert found == []
    extras = set(PROJECT["optional-dependencies"])
    for path, text in texts.items():
        for named in re.findall(r"-e ['\"]?\.\[([\w,]+)\]", text):
            assert set(named.split(",")) <= extras, path


def test_every_package_has_its_row_and_its_reference():
    packages = {path.parent.name for path in (ROOT / "hale").glob("*/__init__.py")}
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `hale/(\w+)/` \|", table, re.MULTILINE)) == packages
    reference = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: hale\.(\w+)$", reference, re.MULTILINE)) == packages | {"errors"}


def test_every_page_is_in_the_sites_navigation():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", site)) == pages | {"CONTRIBUTING.md", "CHANGELOG.md"}


def test_architecture_names_what_exists():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:hale|conf|docs)/[\w/.]*)`", page)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
