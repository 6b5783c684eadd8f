"""The HTML page of a folder of runs: what it holds, hostile names, and a real browser."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.errors import HaleError
from hale.runs.report.charts import DASHES, ticks
from hale.runs.report.colors import PALETTE
from hale.runs.report.page import write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"'&\u202e\x00"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Page(HTMLParser):
    """Counts tags, keeps the table's rows and all text, and checks that tags are closed."""

    void = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def make_run(folder: Path, mrr: float, choices: dict, dataset: str = "family", **config) -> None:
    folder.mkdir(parents=True)
    record = {
        "valid/mrr": mrr, "test/mrr": mrr - 0.01, "train_seconds": 4.0, "parameters": 66336,
        "choices": {"dataset": dataset} | choices, "config": {"monitor": "valid/mrr"} | config,
        "hardware": {"cpu": "a processor"}, "versions": {"torch": "2.13"}, "seed": 0,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))
    rows = [f"{k},{k},{mrr * k / 4},{mrr}" for k in range(1, 5)]
    header = "step,train_seconds,valid/mrr,valid/hits@10"
    (folder / "curve.csv").write_text("\n".join([header, *rows]))


def make_report(tmp_path: Path) -> Page:
    write_report(tmp_path / "runs", tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text())


def test_the_page_shows_every_run_best_first(tmp_path):
    for i, (loss, model) in enumerate([("hale", "rote"), ("hale", "rotl"), ("sam_neg", "rotl")]):
        make_run(tmp_path / f"runs/{i}", 0.3 + 0.1 * i, {"loss": loss, "model": model}, lr=0.1)
    (tmp_path / "runs/3/.hydra").mkdir(parents=True)
    (tmp_path / "runs/3/.hydra/overrides.yaml").write_text("- model.dim=7\n")
    (tmp_path / "runs/3/error.txt").write_text("model.dim must be even\n")
    page = make_report(tmp_path)
    head, *rows = page.rows
    assert head[:4] == ["run", "loss", "model", "valid/mrr"]
    assert [row[:4] for row in rows] == [
        ["2", "sam_neg", "rotl", "0.5000"],
        ["1", "hale", "rotl", "0.4000"],
        ["0", "hale", "rote", "0.3000"],
    ]
    curves = [attrs for attrs in page.named("g") if attrs.get("class") == "run"]
    assert len(curves) == 6  # two charts
    color = {attrs["data-run"]: attrs["stroke"] for attrs in curves}
    assert color["0"] == color["1"] == PALETTE[0]
    assert color["2"] == PALETTE[1]
    dashes = [attrs.get("stroke-dasharray") for attrs in page.named("polyline")[:3]]
    assert dashes == [DASHES[1], DASHES[1], None]  # rotl, rotl, rote
    assert "model.dim must be even" in page.text
    assert "a processor" in page.text
    assert len(page.named("details")) == 3


def test_each_dataset_has_its_charts(tmp_path):
    for dataset, mrr in (("wn18rr", 0.4), ("fb15k237", 0.3)):
        make_run(tmp_path / f"runs/{dataset}", mrr, {"loss": "hale"}, dataset)
    page = make_report(tmp_path)
    assert "Convergence on wn18rr" in page.text
    assert "Convergence on fb15k237" in page.text
    assert len([s for s in page.named("svg") if s.get("role") == "img"]) == 4
    best = [attrs for attrs in page.named("td") if "best" in (attrs.get("class") or "")]
    assert len(best) == 4  # valid and test MRR, each of its dataset


def test_hostile_names_are_text_only(tmp_path):
    folder = tmp_path / "runs" / HOSTILE.replace("/", "|").replace("\x00", "")
    make_run(Path(f"{folder}\udcff"), 0.3, {"loss": HOSTILE}, HOSTILE, name=HOSTILE, other="\ud800")
    make_run(tmp_path / "runs/b", 0.2, {"loss": "hale"}, HOSTILE, name="b")
    page = make_report(tmp_path)
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not any({"src", "href"} & set(attrs) for _, attrs in page.tags)
    assert "alert(1)" in page.text
    assert "\u202e" not in page.text


def test_hundreds_of_runs_of_a_search_are_coloured_by_rank(tmp_path):
    for i in range(300):
        make_run(tmp_path / f"runs/{i}", i / 300, {"loss": "hale"}, optimizer={"lr": 0.001 * i})
    page = make_report(tmp_path)
    assert len(page.rows) == 301
    assert page.rows[0][1] == "optimizer.lr"
    colors = {a["data-run"]: a["stroke"] for a in page.named("g") if a.get("class") == "run"}
    assert len(set(colors.values())) > 100
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


@settings(deadline=None, max_examples=60)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_are_round_and_hold_the_values(low, span):
    high = low + span
    found = ticks(low, high)
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 8
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    with pytest.raises(HaleError, match="holds no finished run"):
        write_report(tmp_path, tmp_path / "report.html")
    done = subprocess.run(
        [sys.executable, "-m", "hale", "report", "nowhere"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere is not a folder" in done.stderr


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_renders_and_sorts_it_without_an_error(tmp_path):
    """A script after the page's own clicks a head; the policy is lifted for that script alone."""
    for i, loss in enumerate(("hale", "sam_neg", HOSTILE)):
        make_run(tmp_path / f"runs/{i}", 0.3 + 0.1 * i, {"loss": loss})
    make_report(tmp_path)
    html = (tmp_path / "report.html").read_text()
    probe = (
        "<script>document.querySelectorAll('th button')[2].click();"
        "document.title = [...document.querySelectorAll('tbody tr')]"
        ".map((row) => row.dataset.run).join()</script></body>"
    )
    free = html.replace("Content-Security-Policy", "x").replace("</body>", probe)
    for name, page in {"plain": html, "probed": free}.items():
        (tmp_path / f"{name}.html").write_text(page)
        done = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=2000", "--dump-dom",
             f"file://{tmp_path}/{name}.html"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if name == "plain":
            assert "CONSOLE" not in done.stderr, done.stderr
            assert done.stdout.count('class="run"') == 6
        else:
            assert "<title>0,1,2</title>" in done.stdout  # was best first, is now worst first
