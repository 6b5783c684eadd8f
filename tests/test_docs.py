"""What a user reads first: documented commands run, compose and give the results they promise."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from hale.cli import COMMANDS, run_command
from hale.settings.compose import compose

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], key=lambda path: path.as_posix()
)
USING = (ROOT / "docs/using.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """Fenced code blocks of some languages, as (language, content)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, content) for language, content in fenced if language in languages]


def in_process(words: list[str]) -> bool:
    """Whether a line is a command that leaves nothing behind in this process."""
    return words[:1] == ["hale"] and words[1] in COMMANDS and words[1] != "resume"


def run_line(line: str) -> None:
    """Run a line of shell: training in a process of its own, other commands in this one."""
    words = shlex.split(line, comments=True) if line.startswith("hale ") else []
    if in_process(words):
        assert run_command(words[1:]) == 0, line
        return
    command = [sys.executable, "-m", "hale", *words[1:]] if words else ["bash", "-euc", line]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"


def tsv(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_block_of_using_runs_and_gives_right_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    steps = blocks(USING, "bash", "python")
    assert len(steps) == USING.count("```bash") + USING.count("```python") > 8
    for kind, text in steps:
        if kind == "python":
            exec(compile(text, "docs/using.md", "exec"), {})
        else:
            for line in text.splitlines():
                run_line(line)
    first = json.loads(Path("runs/first/result.json").read_text())
    assert first["test/mrr"] > 0.75 > 20 * first["popularity/mrr"]
    assert json.loads(Path("runs/cities/result.json").read_text())["test/mrr"] > 0.9
    for file in ("runs.json", "answers.json", "vectors/embeddings.npz"):
        assert Path(file).is_file()
    answers = [(row["head"], row["tail"], row["known"]) for row in tsv("answers.tsv")]
    assert all(known == "true" for _, _, known in answers[:3])
    assert answers[3] == ("Martin Stone", "Lea Stone", "true")
    printed = capsys.readouterr().out
    cousins = {"Lena Winter", "Elsa Winter 2", "Axel Winter", "Kurt Winter", "Edgar Winter"}
    rows = [line.split("\t") for line in printed.splitlines()]
    asked = [row for row in rows if row[:2] == ["Nils Winter", "cousin_of"]]
    assert {row[2] for row in asked[:5]} == cousins
    assert ["city7", "north_of", "city8", "1"] in [row[:4] for row in rows]
    assert ["city99", "north_of", "city0", "1"] in [row[:4] for row in rows]
    accuracy = next(float(row[2]) for row in rows if row[0] == "test" and len(row) == 6)
    assert 0.95 < accuracy < 1


def test_using_names_every_command():
    for command in set(COMMANDS) - {"dashboard"}:
        assert f"`{command}`" in USING or f"hale {command} " in USING
    assert "hale dashboard " in (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")


def results_rows() -> list[dict[str, str]]:
    """The README's table of results, cells by heading."""
    lines = README.split("## Results", 1)[1].split("\n## ", 1)[0].splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    head, _, *rows = cells
    return [dict(zip(head, row, strict=True)) for row in rows]


def settings(command: str) -> dict[str, object]:
    """The settings of a command in backquotes that decide what it trains."""
    cfg = compose(shlex.split(command.strip("`"))[3:])
    return comparable({group: cfg[group] for group in GROUPS} | {"model": cfg.model})


GROUPS = ("dataset", "budget", "loss", "activation", "optimizer", "schedule", "data")


def comparable(config: dict) -> dict[str, object]:
    """What a record and a command must have in common; classes have moved between packages."""
    kept = {group: dict(config[group]) for group in GROUPS}
    model = config["model"]
    kept["model"] = {"class": model["_target_"].rsplit(".", 1)[-1], "dim": model["dim"]}
    for group in kept.values():
        for newer in (
            "_target_", "valid_queries", "test_queries", "weight_decay", "spent", "candidates",
        ):  # fmt: skip
            if group.get(newer) in (None, "auto", 0, "all") or newer == "_target_":
                group.pop(newer, None)
    return json.loads(json.dumps(kept, default=list))


def ablated(record: dict) -> bool:
    """Whether a run is without the trained scale, the one setting that `comparable` lacks."""
    return record["config"]["model"].get("relation_scale") is False


def test_results_of_the_readme_are_those_of_their_commands():
    paths = sorted((ROOT / "results/cpu").rglob("result.json"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    texts += (ROOT / "results/cpu/recipe.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(text) for text in texts]
    rows = results_rows()
    assert len(rows) >= 7
    for row in rows:
        wanted = settings(row["command"])
        assert row["training"] == f"{wanted['budget']['seconds']} s"
        same = [r for r in records if comparable(r["config"]) == wanted and not ablated(r)]
        assert len(same) == (3 if "±" in row["MRR"] else 1), row["command"]
        for metric in ("MRR", "Hits@1", "Hits@10"):
            mean = sum(r[f"test/{metric.lower()}"] for r in same) / len(same)
            assert float(row[metric].split(" ± ")[0]) == pytest.approx(mean, abs=0.00051), metric


def test_the_readme_counts_and_names_every_choice():
    counts = re.search(r"(\d+) models, (\d+) losses", README)
    for group, count in zip(("model", "loss"), counts.groups(), strict=True):
        assert len(list((ROOT / "conf" / group).glob("*.yaml"))) == int(count)
    for group in ("model", "loss", "activation", "dataset", "logger", "callbacks", "schedule"):
        for choice in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{choice.stem}`" in README, choice


def test_the_model_of_the_readme_trains(tmp_path):
    for folder in ("hale", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    section = README.split("## Adding a model", 1)[1]
    for _, content in blocks(section, "python", "yaml"):
        path = tmp_path / content.split("\n", 1)[0].removeprefix("# ")
        path.write_text(content, encoding="utf-8")
    command = [sys.executable, "-m", "hale.run", "model=scale", "debug=smoke", "logger=none"]
    command += ["hydra.run.dir=run"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/result.json").read_text())["choices"]["model"] == "scale"


def training_commands(text: str) -> set[str]:
    """Documented commands that train one run or sweep, without their comments."""
    joined = (block.replace("\\\n", " ") for _, block in blocks(text, "bash"))
    lines = [line for block in joined for line in block.splitlines()]
    lines += re.findall(r"`((?:hale|python -m hale\.run) [^`]*=[^`]*)`", text)
    first = r"(?:hale|python -m hale\.run) (?:-m )?'?[\w./]+=(?!\.)"
    return {line for line in lines if re.match(first, line) and "--config-dir" not in line}


@every_page
def test_documented_choices_compose(page):
    for line in training_commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        overrides = [word for word in words if "=" in word and not word.startswith("hydra")]
        single = [re.sub(r"=(?!\[)([^,\[(]*),.*", r"=\1", word) for word in overrides]
        known = [word for word in single if not names_an_example(word) and "(" not in word]
        compose([word for word in known if word != "experiment=tune"])


def names_an_example(override: str) -> bool:
    """Whether an override chooses what a page adds to hale."""
    group, _, choice = override.partition("=")
    folder = ROOT / "conf" / group
    return folder.is_dir() and choice[:1] != "[" and not (folder / f"{choice}.yaml").is_file()


def test_pages_promise_the_commands_that_make_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(
            re.findall(r"(?:^|`)make (?:PYTHON=\S+ )?([a-z][a-z0-9-]*)", text, re.MULTILINE)
        )
        assert named <= targets, page


@every_page
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """Names that headings get on the site and on GitHub."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip()) for title in plain}


def extras_of_the_project() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def test_every_extra_is_explained():
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == extras_of_the_project()


def test_the_citation_parses_and_names_both():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"].startswith("hale")
    assert citation["preferred-citation"]["doi"] == "10.1145/3485447.3511927"
    assert f"## [{citation['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
