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
from hale.runs.columns import differences
from hale.runs.folders import RunFolder
from hale.runs.report.charts import SMALLEST, Line, line_chart, ticks
from hale.runs.report.colors import DASHES, PALETTE, run_styles
from hale.runs.report.page import write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"'&\u202e\x00"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Page(HTMLParser):
    """Counts tags, keeps the cells of the tables and all text, and checks that tags are closed."""

    void = ("meta", "img", "br", "link", "wbr")

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
        if ("td" in self.open or "th" in self.open) and "dl" not in self.open:
            self.rows[-1][-1] += data.strip()

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
    assert dashes == ["7 3", "7 3", None]  # rotl, rotl, rote
    assert "model.dim must be even" in page.text
    assert "a processor" in page.text
    assert len(page.named("details")) == 3 + 1  # a run's own settings, and those of all runs
    assert page.text.count("config.yaml") == 0
    assert page.text.count("66336") == 0  # in the table alone, with separators
    assert page.text.count("66,336") == 3


def test_each_dataset_has_its_charts(tmp_path):
    for dataset, mrr in (("wn18rr", 0.4), ("fb15k237", 0.3)):
        make_run(tmp_path / f"runs/{dataset}", mrr, {"loss": "hale"}, dataset)
    page = make_report(tmp_path)
    assert "Convergence on WN18RR" in page.text
    assert "Convergence on FB15k-237" in page.text
    assert len([s for s in page.named("svg") if s.get("role") == "img"]) == 4
    assert len(page.named("table")) == 2
    assert [row[0] for row in page.rows] == ["run", "fb15k237", "run", "wn18rr"]


def test_each_dataset_is_ranked_apart(tmp_path):
    for dataset, base in (("wn18rr", 0.4), ("fb15k237", 0.3)):
        for i, loss in enumerate(("hale", "sam_neg")):
            make_run(tmp_path / f"runs/{dataset}{i}", base + i / 100, {"loss": loss}, dataset)
    page = make_report(tmp_path)
    ranked = [row[0] for row in page.rows if row[0] != "run"]
    assert ranked == ["fb15k2371", "fb15k2370", "wn18rr1", "wn18rr0"]
    best = [attrs for attrs in page.named("td") if "best" in (attrs.get("class") or "")]
    assert len(best) == 4  # valid and test MRR, each of its dataset
    assert page.named("h1") != []
    assert "FB15k-237, WN18RR" in page.text


def test_own_triples_are_called_by_their_folder(tmp_path):
    for i in range(2):
        make_run(tmp_path / f"runs/{i}", 0.3, {}, "tsv", seed=i)
        record = json.loads((tmp_path / f"runs/{i}/result.json").read_text())
        record["config"]["dataset"] = {"path": "data/cities/"}
        (tmp_path / f"runs/{i}/result.json").write_text(json.dumps(record))
    assert "Convergence on cities" in make_report(tmp_path).text


def finished(**choices: str) -> RunFolder:
    config = {"model": {"dim": int(choices.pop("dim", "32"))}, "seed": int(choices.pop("seed", 0))}
    record = {"choices": {"dataset": "wn18rr"} | choices, "config": config, "valid/mrr": 0.3}
    return RunFolder(Path("x"), (), record, None)


@pytest.mark.parametrize(
    "runs",
    [
        [finished(strategy=f"s{i}", loss=f"l{i % 3}", activation=f"a{i // 3}") for i in range(9)],
        [finished(strategy="s", model=f"m{i}") for i in range(30)],
        [finished(strategy=f"s{i % 2}", model=f"m{i // 2}") for i in range(20)],
        [finished(loss=a, model=b, dim=c) for a in "xyz" for b in "uvw" for c in ("8", "32", "64")],
        [finished(loss="x"), finished(loss="y", model="m")],
    ],
)
def test_no_two_settings_look_alike(runs):
    names = differences(runs)
    styles = run_styles(runs, names, "valid/mrr", runs)
    assert len({(style.color, style.dash) for style in styles}) == len(runs)
    assert {style.color for style in styles} <= set(PALETTE)
    shown = {(entry.color, entry.dash) for style in styles for entry in style.entries}
    assert len(shown) == len({entry for style in styles for entry in style.entries})


def test_bookkeeping_and_recipes_are_no_differences():
    runs = [finished(loss="x", experiment=f"e{i}", logger=f"l{i}", seed=str(i)) for i in range(2)]
    for i, run in enumerate(runs):
        run.record["config"] |= {"loss": {"_target_": f"hale.m{i}.Loss"}, "logger": {"mode": i}}
    assert differences(runs) == ["seed"]
    dims = [finished(loss="x", dim=dim) for dim in ("32", "64")]
    for run, rate in zip(dims, (0.1, 0.2), strict=True):
        run.record["config"]["lr"] = rate
    assert differences(dims) == ["model.dim"]
    dims.append(finished(loss="x", dim="64"))
    dims[2].record["config"]["lr"] = 0.3
    assert differences(dims) == ["model.dim", "lr"]


def test_replicas_look_alike_and_the_legend_lists_what_is_drawn(tmp_path):
    for i, (dataset, model) in enumerate(
        [("wn18rr", "rotl"), ("wn18rr", "rote"), ("fb15k237", "rotl"), ("fb15k237", "mure")] * 2
    ):
        make_run(tmp_path / f"runs/{i}", 0.3, {"model": model}, dataset, seed=i // 4)
    page = make_report(tmp_path)
    curves = {a["data-run"]: a["stroke"] for a in page.named("g") if a.get("class") == "run"}
    assert curves["0"] == curves["4"] == curves["2"] == curves["6"]
    assert len({curves[run] for run in "0123"}) == 3
    assert len(page.named("ul")) == 1 + 2
    fb15k237, wn18rr = page.text.split("Convergence on ")[1:]
    assert "mure" in fb15k237.split("runs on")[0]
    assert "mure" not in wn18rr
    assert "rote" not in fb15k237


def test_dashes_and_colours_are_all_different():
    assert len(set(DASHES)) == len(DASHES) >= 8
    assert len(set(PALETTE)) == len(PALETTE) == 8
    assert all(len(dash) % 2 == 0 for dash in DASHES)


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
@given(st.floats(0, 1e6) | st.floats(0, 1))
def test_ticks_are_round_and_hold_the_values(high):
    found = ticks(high)
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 8
    assert found[0] == 0
    assert found[-1] >= high * (1 - 1e-6)
    assert all(len(f"{tick:.6g}") <= 7 for tick in found)
    if high < SMALLEST:
        assert found[-1] == 1


@pytest.mark.parametrize("value", [0.0, 2e-10, 0.0195, 0.35, 1.0])
def test_axes_begin_at_zero_and_name_their_units(value):
    line = Line("run", "label", "#000", (), [(1.0, value), (2.0, value)])
    chart = line_chart("MRR on valid", "seconds of training", "MRR (0 to 1)", [line])
    texts = [part.split("<")[0] for part in chart.split(">")]
    assert texts.count("0") == 2  # of both axes
    assert "MRR (0 to 1)" in texts
    assert "seconds of training" in texts
    assert "e-" not in "".join(texts)


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
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_but_tables_is_wider_than_the_screen(tmp_path, width):
    """A script after the page's own measures it, in a frame as wide as the screen."""
    for i, loss in enumerate(("hale", "sam_neg")):
        make_run(tmp_path / f"runs/{i}", 0.3, {"loss": loss, "model": "m" * (i + 1)})
    make_report(tmp_path)
    page = (tmp_path / "report.html").read_text().replace("Content-Security-Policy", "x")
    probe = (
        "<script>parent.postMessage([document.documentElement.scrollWidth,"
        "Math.max(...[...document.querySelectorAll('svg, h1, .legend, .scroll')]"
        ".map((e) => e.getBoundingClientRect().right)),"
        "document.querySelectorAll('.hint.wide').length].join(), '*')</script></body>"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", probe))
    (tmp_path / "frame.html").write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>onmessage = (event) => { document.title = event.data; }</script>"
    )
    out = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path}/profile", "--window-size=1400,1000",
         "--virtual-time-budget=3000", "--dump-dom", f"file://{tmp_path}/frame.html"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    needed, right, hints = map(float, out.split("<title>")[1].split("</title>")[0].split(","))
    assert needed <= width
    assert right <= width
    assert hints == (width == 390)


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
