"""The commands beside training: what a user types and what comes back."""

import csv
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hydra
import numpy as np
import pandas
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import hale
from hale.cli import COMMANDS, output, run_command
from hale.cli.export import _words
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.statistics import counts, unseen
from hale.models.euclidean import TransE
from hale.runs.model_folder import write_model
from hale.runs.tables import FittedTable, plain
from hale.settings.compose import compose

ROOT = Path(__file__).resolve().parent.parent
HALE = [sys.executable, "-m", "hale"]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; its stdout, after an exit without an error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def fail(capsys, monkeypatch, tmp_path):
    """Run a command that is to fail; its one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        assert run_command([str(argument) for argument in arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith(f"hale {arguments[0]}: ")
        return line

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def named_model(folder: Path, *names: str) -> Path:
    """An untrained model of entities with these names, a loop of each in every split."""
    triple_T3 = torch.tensor([(e, 0, e) for e in range(len(names))])
    graph = KnowledgeGraph("odd", names, ("r",), triple_T3, triple_T3, triple_T3)
    config = {
        "model": {"_target_": "hale.models.euclidean.TransE", "dim": 4},
        "activation": {"_target_": "hale.scoring.activations.Identity"},
    }
    folder.mkdir()
    write_model(folder / "model", TransE(len(names), 2, 4), graph, {"config": config})
    return folder


def test_predict_gives_the_answers_of_the_library(call, trained_folder):
    model = hale.load(trained_folder)
    expected = model.predict(head="e7", relation="two", k=5)
    rows = rows_of(call("predict", trained_folder, "--head", "e7", "--relation", "two", "-k", 5))
    assert [row["tail"] for row in rows] == [answer.entity for answer in expected]
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [row["known"] == "true" for row in rows] == [answer.known for answer in expected]
    assert [float(row["score"]) for row in rows] == pytest.approx([a.score for a in expected])
    assert {(row["head"], row["relation"]) for row in rows} == {("e7", "two")}

    text = call("predict", trained_folder / "model", "--tail", "id:7", "--relation", "id:1",
                "--filter-known", "--format", "json")  # fmt: skip
    heads = model.predict(tail="e7", relation="two", filter_known=True)
    assert [row["head"] for row in json.loads(text)] == [answer.entity for answer in heads]
    assert {(row["tail"], row["known"]) for row in json.loads(text)} == {("e7", False)}

    table = call("predict", trained_folder, "--head", "e7", "--relation", "two", "--format",
                 "table")  # fmt: skip
    assert expected[0].entity in table
    assert "ring: best answers" in table


def test_predict_answers_a_file_of_queries(call, fail, trained_folder):
    Path("queries.tsv").write_text("e1\tone\t?\n?\ttwo\te5\n")
    out = call("predict", trained_folder, "--queries", "queries.tsv", "-k", 2, "--out", "a.tsv")
    assert out == ""
    rows = rows_of(Path("a.tsv").read_text())
    model = hale.load(trained_folder)
    expected = [
        *(("e1", "one", a.entity) for a in model.predict(head="e1", relation="one", k=2)),
        *((a.entity, "two", "e5") for a in model.predict(tail="e5", relation="two", k=2)),
    ]
    assert [(row["head"], row["relation"], row["tail"]) for row in rows] == expected
    for text, message in (
        ("e1\tone\te2\n", "queries.tsv:1: exactly one of head and tail must be ?"),
        ("e1\tone\t?\n?\tone\t?\n", "queries.tsv:2: exactly one"),
        ("e1\tone\t?\ne1\tfour\t?\n", "queries.tsv:2: no relation is named 'four'"),
        ("e99\tone\t?\n", "queries.tsv:1: no entity is named 'e99': did you mean"),
        ("e1\tone\n", "queries.tsv:1: got 2 tab-separated fields"),
        ("", "has no queries"),
        ("e1" + "\t" * 10_000_000, "queries.tsv:1: line is longer than"),
        ("\x1b[2J\tone\t?\n", "no entity is named '\\x1b[2J'"),
    ):
        Path("queries.tsv").write_text(text)
        assert message in fail("predict", trained_folder, "--queries", "queries.tsv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nowhere", "--head", "a", "--relation", "b"], "nowhere is not a folder"),
        (["predict", ".", "--head", "a", "--relation", "b"], "config.json is missing"),
        (["predict", "RUN"], "give either --relation with --head or --tail, or --queries"),
        (["predict", "RUN", "--head", "e1"], "give the --relation"),
        (["predict", "RUN", "--relation", "one"], "exactly one of head and tail"),
        (["predict", "RUN", "--relation", "one", "--queries", "x"], "give either"),
        (["predict", "RUN", "--queries", "nowhere.tsv"], "nowhere.tsv cannot be read: No such"),
        (["predict", "RUN", "--head", "e1", "--relation", "one", "-k", "0"],
         "k must be a whole number of at least 1"),
        (["predict", "RUN", "--head", "e1", "--relation", "one", "--format", "parquet"],
         "Parquet needs a file"),
        (["predict", "RUN", "--head", "e1", "--relation", "one", "--out", "no/where.tsv"],
         "cannot write no/where.tsv"),
        (["predict", "RUN", "--head", "e1", "--relation", "one", "--out", "."], "cannot write ."),
        (["evaluate", "RUN", "--triples", "nowhere.tsv"], "cannot be read"),
        (["evaluate", "RUN", "--triples", "."], "cannot be read: Is a directory"),
        (["export", "RUN", "--out", "/dev/null/x"], "cannot make the folder /dev/null/x"),
        (["results", "nowhere"], "nowhere is not a folder"),
        (["results", "."], "holds no finished runs"),
        (["results", "RUN", "--sort", "beauty"], "--sort must be one of model, loss"),
        (["stats", "nothing"], "nothing is neither a path nor a dataset: choose one of family"),
        (["stats", "."], ". is a folder without train, valid and test or other files of triples"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(fail, trained_folder, arguments, message):
    assert message in fail(*(trained_folder if a == "RUN" else a for a in arguments))


def test_parquet_is_written_or_refused(call, fail, trained_folder):
    arguments = ["predict", trained_folder, "--head", "e1", "--relation", "one", "--format",
                 "parquet", "--out", "a.parquet"]  # fmt: skip
    if importlib.util.find_spec("pyarrow") is None:
        assert "Parquet needs pyarrow: pip install pyarrow" in fail(*arguments)
        assert not Path("a.parquet").exists()
    else:
        from pyarrow import parquet

        call(*arguments)
        assert len(parquet.read_table("a.parquet")) == 10


def test_evaluate_repeats_the_metrics_of_training(call, trained_folder, graph):
    record = json.loads((trained_folder / "result.json").read_text())
    for split in ("valid", "test"):
        both, tail, head = rows_of(call("evaluate", trained_folder, "--split", split))
        assert [row["count"] for row in (both, tail, head)] == ["40", "20", "20"]
        for row, prefix in ((both, ""), (tail, "tail/"), (head, "head/")):
            for metric in ("mrr", "mr", "hits@1", "hits@10", "amri"):
                assert float(row[metric]) == pytest.approx(
                    record[f"{split}/{prefix}{metric}"], rel=1e-5
                )
    rows = rows_of(call("evaluate", trained_folder, "--per-relation"))
    assert {row["relation"] for row in rows} <= set(graph.relations)
    counts = [int(row["count"]) for row in rows]
    assert (sum(counts), counts) == (40, sorted(counts, reverse=True))
    weighted = sum(float(row["mrr"]) * int(row["count"]) for row in rows) / 40
    assert weighted == pytest.approx(record["test/mrr"], rel=1e-5)


def test_evaluate_under_other_protocols(call, trained_folder, graph):
    model = hale.load(trained_folder)
    both = rows_of(call("evaluate", trained_folder, "--exclude-own"))[0]
    mrr = float(model.evaluate(graph.test, exclude_own=True).compute()["mrr"])
    assert mrr > float(model.evaluate(graph.test).compute()["mrr"])
    assert float(both["mrr"]) == pytest.approx(mrr, rel=1e-5)
    Path("mine.tsv").write_text("e1\tone\te2\ne1\tone\te3\n")
    assert not unseen(counts(graph, graph.train.numpy()), graph.test.numpy()).any()
    plain, dropped = (
        call("evaluate", trained_folder, "--triples", "mine.tsv", *more)
        for more in ((), ("--drop-unseen",))
    )
    assert plain == dropped


def test_evaluate_takes_a_file_of_triples(call, fail, trained_folder, graph):
    names = [
        (graph.entities[h], graph.relations[r], graph.entities[t])
        for h, r, t in graph.test.tolist()
    ]
    Path("mine.tsv").write_text("".join("\t".join(triple) + "\n" for triple in names))
    of_file = call("evaluate", trained_folder, "--triples", "mine.tsv")
    assert of_file == call("evaluate", trained_folder, "--split", "test")
    Path("mine.tsv").write_text("e1\tone\tzoe\n")
    message = fail("evaluate", trained_folder, "--triples", "mine.tsv")
    assert "mine.tsv:1: no entity is named 'zoe'" in message


def test_exports_hold_every_name_and_vector(call, trained_folder):
    model = hale.load(trained_folder)
    vectors = np.stack(list(model.embeddings().values()))
    assert call("export", trained_folder, "--out", "out").split() == ["out/entities.tsv"]
    rows = rows_of(Path("out/entities.tsv").read_text())
    assert [row["entity"] for row in rows] == list(model.graph.entities)
    read = np.array([[float(row[str(d)]) for d in range(8)] for row in rows], np.float32)
    assert np.array_equal(read, vectors)

    call("export", trained_folder, "--format", "numpy", "--out", "out")
    arrays = np.load("out/embeddings.npz", allow_pickle=False)
    names = json.loads(Path("out/names.json").read_text())
    assert np.array_equal(arrays["entity"], vectors)
    assert arrays["translation"].shape == (6, 8)
    assert names["entities"] == list(model.graph.entities)
    assert names["relations"] == list(model.graph.relations)

    call("export", trained_folder, "--format", "word2vec", "--out", "out")
    first, *lines = Path("out/entities.w2v.txt").read_text().splitlines()
    assert first == "60 8"
    assert [line.split(" ")[0] for line in lines] == list(model.graph.entities)
    assert np.array_equal(np.array([line.split(" ")[1:] for line in lines], np.float32), vectors)

    call("export", trained_folder, "--format", "projector", "--out", "out")
    assert np.array_equal(np.loadtxt("out/vectors.tsv", delimiter="\t", dtype=np.float32), vectors)
    assert Path("out/metadata.tsv").read_text().split() == list(model.graph.entities)
    assert "vectors.tsv" in Path("out/projector_config.pbtxt").read_text()


def test_odd_names_stay_inside_their_fields_and_folders(call, fail, tmp_path):
    evil = (
        "../../etc/passwd",
        "/etc/passwd",
        "=cmd()",
        "[red]a[/red]",
        "a b",
        '"q',
        "\x1b[2J",
        "?",
    )
    folder = named_model(tmp_path / "evil", *evil)
    before = set(tmp_path.rglob("*"))
    for form in ("tsv", "numpy", "word2vec", "projector"):
        call("export", folder, "--format", form, "--out", "out")
    new = set(tmp_path.rglob("*")) - before
    assert new - {tmp_path / "out"} == set((tmp_path / "out").iterdir())
    lines = Path("out/entities.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == list(evil)
    assert "\na_b " in Path("out/entities.w2v.txt").read_text()
    table = call("predict", folder, "--head", "/etc/passwd", "--relation", "r", "--format", "table")
    assert "[red]a[/red]" in table
    assert "\\x1b[2J" in table
    assert "\x1b" not in table


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb"])
def test_names_that_tsv_cannot_hold_are_refused(call, fail, tmp_path, name):
    folder = named_model(tmp_path / "tabs", "plain", name)
    for form in ("tsv", "projector"):
        message = fail("export", folder, "--format", form, "--out", "out")
        assert "has a tab or a line end, which TSV cannot hold" in message
        assert not list(Path("out").iterdir())
    call("export", folder, "--format", "numpy", "--out", "out")
    assert json.loads(Path("out/names.json").read_text())["entities"] == ["plain", name]
    assert "TSV cannot hold" in fail("predict", folder, "--head", "plain", "--relation", "r")
    text = call("predict", folder, "--head", "plain", "--relation", "r", "--format", "json")
    assert {row["tail"] for row in json.loads(text)} == {"plain", name}


def test_word2vec_makes_names_distinct_and_says_so(call, capsys, tmp_path):
    names = ("a b", "a_b", "a\u00a0 b", "a_b_2", " ", "\u00a0", "_", " a", "a", "c d", "\u2028c")
    folder = named_model(tmp_path / "two", *names)
    assert run_command(["export", str(folder), "--format", "word2vec", "--out", "out"]) == 0
    assert "warning: 4 of 11 names are those of other entities once" in capsys.readouterr().err
    first, *lines = Path("out/entities.w2v.txt").read_text().split("\n")[:-1]
    assert first == "11 4"
    assert [line.split()[0] for line in lines] == [
        "a_b_3", "a_b", "a_b_4", "a_b_2", "__2", "__3", "_", "_a", "a", "c_d", "_c",
    ]  # fmt: skip
    vectors = hale.load(folder).embeddings()
    for name, line in zip(names, lines, strict=True):
        assert len(line.split(" ")) == len(line.split()) == 5
        assert np.array_equal(np.array(line.split(" ")[1:], np.float32), vectors[name])
    call("export", named_model(tmp_path / "one", "a b", "b"), "--format", "word2vec", "--out", "o")
    assert "warning" not in capsys.readouterr().err


NAMES = st.lists(st.text("a_2 \u00a0\u2003\x1c", min_size=1, max_size=5), max_size=12, unique=True)


@settings(deadline=None)
@given(NAMES)
def test_words_are_distinct_and_keep_names_without_white_space(names):
    words, renamed = _words(names)
    assert len(set(words)) == len(words) == len(names)
    kept = 0
    for name, word in zip(names, words, strict=True):
        assert word.split() == [word]
        if not any(c.isspace() for c in name):
            assert word == name
        expected = re.sub(r"\s+", "_", name)
        assert re.fullmatch(re.escape(expected) + r"(_\d+)?", word)
        kept += word == expected
    assert renamed == len(names) - kept


def test_results_are_collected_and_sorted(call, capsys, trained_folder, tmp_path):
    record = json.loads((trained_folder / "result.json").read_text())
    for name, change in (
        ("low", {"test/mrr": 0.1, "train_seconds": 9.0}),
        ("high", {"test/mrr": 0.9, "train_seconds": 99.0}),
        ("deep/mid", {"test/mrr": 0.5, "train_seconds": 5.0}),
        ("none", {"test/mrr": None}),
    ):
        folder = tmp_path / "runs" / name
        shutil.copytree(trained_folder / "model", folder / "model")
        (folder / "result.json").write_text(json.dumps(record | change))
    rows = rows_of(call("results", "runs"))
    assert [row["folder"] for row in rows] == ["high", "deep/mid", "low", "none"]
    assert [row["test/mrr"] for row in rows] == ["0.9", "0.5", "0.1", ""]
    rows = rows_of(call("results", "runs", "--sort", "train_seconds"))
    assert rows[0]["folder"] in ("none", "deep/mid")
    for name, text in (("broken", "{"), ("list", "[]"), ("empty", "{}")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_text(text)
    assert run_command(["results", "runs"]) == 0
    captured = capsys.readouterr()
    assert [row["folder"] for row in rows_of(captured.out)] == ["high", "deep/mid", "low", "none"]
    assert [line.split("runs/")[1].split("/")[0] for line in captured.err.splitlines()] == [
        "broken", "empty", "list",
    ]  # fmt: skip


def test_stats_of_a_folder_a_file_and_a_name(call, capsys, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train.txt").write_text("a\tlikes\tb\nb\tlikes\ta\na\tlikes\ta\na\thas\tc\n")
    (folder / "valid.txt").write_text("a\tlikes\tb\n")
    (folder / "test.txt").write_text("a\tlikes\tz\n")
    assert run_command(["stats", str(folder)]) == 0
    captured = capsys.readouterr()
    train, valid, test = rows_of(captured.out)
    assert (train["triples"], train["entities"], train["relations"]) == ("4", "3", "2")
    assert (train["loops"], valid["in train"], test["unseen"]) == ("1", "1", "1")
    assert "1 of 1 triples of valid (100.0%) are in train, too" in captured.err
    assert "1 of 1 triples of test (100.0%) have an entity or relation" in captured.err
    Path("one.tsv").write_text("".join(f"a{i}\tr\tb{j}\n" for i in range(5) for j in range(5)))
    assert [row["triples"] for row in rows_of(call("stats", "one.tsv"))] == ["21", "2", "2"]
    rows = rows_of(call("stats", "family", "--per-relation"))
    assert {row["relation"]: row["kind"] for row in rows}["father_of"] == "1-N"


def test_stats_names_a_command_that_trains(capsys, monkeypatch, tmp_path):
    """Hydra reads the command's settings as the triples that stats has read."""
    monkeypatch.chdir(tmp_path)

    def command_of(*arguments: str) -> list[str]:
        assert run_command(["stats", *arguments]) == 0
        last = capsys.readouterr().err.splitlines()[-1]
        start = "train on it: python -m hale.run "
        assert last.startswith(start)
        return shlex.split(last.removeprefix(start))

    assert command_of("family") == ["dataset=family"]
    triples = "".join(f"r\ta{i}\tb{j}\n" for i in range(9) for j in range(9))  # relation first
    for path in ("plain.tsv", "it's a=b, {1}\\.tsv", 'q"uo"te.tsv'):
        Path(path).write_text(triples)
        cfg = compose(command_of(path, "--columns", "1", "0", "2"))
        assert (cfg.dataset.path, cfg.dataset.columns) == (path, [1, 0, 2])
        graph = hydra.utils.instantiate(cfg.dataset)
        assert graph.relations == ("r",)
    Path("mine").mkdir()
    for split, text in (("train", "a\tr\tb\n"), ("valid", "a\tr\tz\n"), ("test", "b\tr\ta\n")):
        Path(f"mine/{split}.tsv").write_text(text)
    overrides = command_of("mine")
    assert overrides == ["dataset=tsv", "dataset.path=mine", "dataset.unseen=keep"]
    assert hydra.utils.instantiate(compose(overrides).dataset).num_entities == 3
    stdin = io.TextIOWrapper(io.BytesIO(Path("plain.tsv").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert command_of("-")[1] == "dataset.path=-"


def test_the_front_door_lists_everything_and_stays_light(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hale", "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name, module in COMMANDS.items():
        assert f"hale {name} " in done.stdout
        assert module.SUMMARY in done.stdout
    assert "rotl" in done.stdout
    assert not any(line.endswith(" torch") for line in done.stderr.splitlines())
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hale", "predict", "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--filter-known" in done.stdout
    assert not any(line.endswith((" torch", " hydra")) for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predcit", "x"], "hale has no command 'predcit': did you mean predict?"),
        (["zzz"], "hale has no command 'zzz', hale --help lists them"),
        (["predict"], "the following arguments are required: FOLDER"),
        (["export", "x", "--out", "y", "--format", "pickle"], "invalid choice: 'pickle'"),
    ],
)
def test_a_wrong_command_exits_with_2(tmp_path, arguments, message):
    done = subprocess.run([*HALE, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_wants_a_run_folder(tmp_path):
    done = subprocess.run(
        [*HALE, "resume", "nowhere"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "hale resume: nowhere is not a run folder: it has no .hydra/config.yaml\n"
    done = subprocess.run([*HALE, "resume"], cwd=tmp_path, capture_output=True, text=True)
    assert "the following arguments are required: FOLDER" in done.stderr


def test_the_tab_key_completes_choices(tmp_path):
    line = "hale model=rot"
    done = subprocess.run(
        [*HALE, "-sc", "query=bash"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_COMP_LINE": line},
    )  # fmt: skip
    assert {"model=rotl", "model=rote", "model=rotate"} <= set(done.stdout.split())


def test_a_closed_stdout_is_not_an_error(trained_folder, tmp_path):
    command = [*HALE, "predict", str(trained_folder), "--head", "e1", "--relation", "one"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=True
    )
    os.close(writing)
    assert done.stderr == ""


METRICS = {
    "mrr": 0.00479, "hits@1": 0.0, "hits@10": 0.0041, "mr": 692.14, "amri": 0.3214,
    "tie_gap": 5e-05, "tail/mrr": 1.0, "parameters": 1311276, "count": 1320,
}  # fmt: skip
RELATIONS = ("cousin_of", "/film/film/release_date_s./film/film_regional_release_date", "親類関係")


def parts_of(name: str) -> list[str]:
    """What a table does not break."""
    return [part for part in re.split(r"[/_. ]+", name) if part]


def printed(rows: list[dict], width: int, drop: tuple[str, ...] = ()) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(FittedTable(rows, "title", drop, "--format tsv"))
    text = file.getvalue()
    assert all(cell_len(line) <= width for line in text.splitlines())
    return text


@pytest.mark.parametrize("width", [25, 30, 47, 60, 80, 110, 200])
@pytest.mark.parametrize("drop", [(), ("tie_gap", "amri", "mr"), tuple(METRICS)[::-1]])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_no_digit_and_no_column_is_lost_at_any_width(width, drop, count):
    rows = [{"relation": RELATIONS[i % 3]} | METRICS for i in range(count)]
    text = printed(rows, width, drop)
    note = " ".join(text.partition("not shown at")[2].split())
    dropped = [name for name in METRICS if name in drop and name in re.findall(r"[^ ,;]+", note)]
    assert bool(dropped) == ("has all" in note)
    for name, value in METRICS.items():
        assert all(part in text for part in parts_of(name))
        assert name in dropped or text.split().count(plain(value)) >= count, name
    assert all(part in text for i in range(min(count, 3)) for part in parts_of(RELATIONS[i]))


def test_a_wide_table_of_few_rows_is_turned_on_its_side():
    text = printed([{"split": s} | METRICS for s in ("train", "valid", "test")], 40, ("mrr",))
    lines = [line.split() for line in text.splitlines()]
    assert ["split", "train", "valid", "test"] in lines
    assert ["parameters", *["1311276"] * 3] in lines
    assert "not shown" not in text


@pytest.mark.parametrize("columns", [30, 80, 110])
@pytest.mark.parametrize(
    "arguments", [["evaluate", "RUN", "--per-relation"], ["predict", "RUN", "--head", "e7",
                  "--relation", "two"], ["results", "RUN"], ["stats", "family"],
                  ["recipe", "model=rotl", "dataset=wn18rr"]],
)  # fmt: skip
def test_every_line_fits_the_terminal(call, monkeypatch, trained_folder, columns, arguments):
    words = [trained_folder if word == "RUN" else word for word in arguments]
    rows = rows_of(call(*words, "--format", "tsv"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = re.sub(r"\x1b\[\d*m", "", call(*words))
    assert max(map(cell_len, text.splitlines())) <= columns
    first = next(iter(rows[0]))
    assert first in text.partition("not shown at")[0]
    for name in rows[0]:
        assert all(part in text for part in parts_of(name))
    for row in rows:
        assert all(part in text for part in parts_of(row[first]))


@settings(max_examples=60, deadline=None)
@given(st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), min_size=1)
    .filter(lambda name: name.strip(" \v\f")), min_size=1, max_size=8, unique=True,
))  # fmt: skip
@example(["007", "NA", "None", "nan", "null", "1e3", '"', "'a", "#b", "\ufeffx", "\u2028", "\\N"])
def test_a_written_table_is_read_back_by_the_line_of_the_manual(names):
    manual = (ROOT / "docs/using.md").read_text(encoding="utf-8")
    (line,) = re.findall(r'`(pandas\.read_csv\("answers\.tsv".*)`', manual)
    rows = [
        {"head": name, "relation": "r", "tail": name, "rank": 1, "score": -0.5, "known": True}
        for name in names
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.tsv"
        output.write_rows(rows, "tsv", str(path))
        table = eval(line.replace('"answers.tsv"', repr(str(path))), {"pandas": pandas})
    assert table.to_dict("records") == rows


def test_numbers_are_shown_to_four_digits():
    cells = (
        0.5,
        1e-05,
        0.0123456,
        692.14,
        0,
        1311276,
        0.0,
        None,
        True,
        float("nan"),
        "a\x1b",
        -3.0,
    )
    assert [plain(cell) for cell in cells] == [
        "0.5000", "1e-05", "0.0123", "692.1", "0", "1311276", "0.0000", "", "true", "", "a\\x1b",
        "-3.0000",
    ]  # fmt: skip


def test_results_types_numbers_and_counts(call, trained_folder):
    (row,) = json.loads(call("results", trained_folder, "--format", "json"))
    assert (row["seed"], type(row["parameters"]), type(row["test/mrr"])) == (0, int, float)


def test_a_name_that_begins_with_a_dash(call, tmp_path):
    folder = named_model(tmp_path / "odd", "-x", "y")
    rows = rows_of(call("predict", folder, "--head=-x", "--relation", "r"))
    assert {row["head"] for row in rows} == {"-x"}
    done = subprocess.run(
        [*HALE, "predict", "odd", "--head", "-x", "--relation", "r"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected one argument (if the name begins with -: --head=-NAME)" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["predict", "nowhere", "--head", "a", "--relation", "b"], ["evaluate", "nowhere"],
     ["classify", "nowhere"], ["export", "nowhere", "--out", "x"], ["stats", "nowhere"],
     ["results", "nowhere"], ["report", "nowhere"]],
)  # fmt: skip
def test_a_wrong_folder_is_reported_before_the_heavy_imports(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hale", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1
    assert "nowhere is " in lines[0]
    assert not any(line.endswith((" torch", " hydra")) for line in done.stderr.splitlines())


def test_a_table_is_for_terminals(monkeypatch, capsys):
    rows = [{"name": "x", "value": 0.5}]
    output.write_rows(rows)
    assert capsys.readouterr().out == "name\tvalue\nx\t0.5\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.write_rows(rows, title="title")
    assert "title" in capsys.readouterr().out
