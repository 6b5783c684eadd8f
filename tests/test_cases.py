"""What people met in this field's tools, each with its right value here.

``HELD`` names the tests elsewhere that hold a case; the others are tested below. The numbers are
those of the public issues and pull requests.
"""

import ast
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hale
from hale.cli import run_command
from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.models.euclidean import TransE
from hale.runs.model_folder import write_model
from hale.scoring.kernels.compile import CompileError, find_compiler, shared_library
from hale.settings.checks import require_settings
from hale.settings.compose import choice_as_text, compose
from hale.training.job import job_of

try:
    find_compiler()
    has_compiler = True
except CompileError:
    has_compiler = False

compiled = pytest.mark.skipif(not has_compiler, reason="no C compiler")
TESTS = Path(__file__).parent
HELD = {
    "uma-pi1/kge 234: a checkpoint is bound to the dataset's path": (
        "test_resume.py::test_the_content_decides_where_the_path_does_not",
        "test_resume.py::test_resumed_from_elsewhere_and_with_the_dataset_moved",
    ),
    "hydra 1163: no and off are text, and text is true": (
        "test_settings_types.py::test_a_value_of_another_type_is_refused_by_the_settings_name",
    ),
    "hydra 771, OmegaConf 640: an override with an interpolation; hydra 1577: names of folders": (
        "test_locks.py::test_what_is_remembered_is_what_a_run_was_trained_with",
    ),
    "Lightning 21553, 7143, 5538, 9855, 12205, 17903: options against the budget": (
        "test_budget.py::test_an_option_that_contradicts_the_budget_is_refused_by_name",
        "test_resume.py::test_steps_are_of_the_optimizer_when_gradients_are_accumulated",
    ),
    "pystiche 102: 0 is no logging": (
        "test_budget.py::test_without_logging_nothing_is_written_while_training",
    ),
    "double precision": ("test_budget.py::test_double_precision_trains_and_is_recorded",),
    "hydra 1163: a project named by a year": (
        "test_loggers.py::test_a_number_for_a_text_is_one_line",
    ),
    "hydra 1163: a folder named by a number": (
        "test_reading.py::test_paths_that_hydra_takes_for_numbers",
    ),
    "pydictor 27: a name that begins with a dash": (
        "test_commands.py::test_a_name_that_begins_with_a_dash",
    ),
    "Graphify 1338, deja-vu 1098: NFC and NFD": (
        "test_reading.py::test_a_name_is_found_in_any_normalisation",
    ),
    "AmpliGraph 261, dice-embeddings 8: a file named x.nt.tsv": (
        "test_reading.py::test_the_last_suffix_decides",
    ),
    "rdflib 335, 1276, rdf4j 850: escapes of IRIs, tags of languages": (
        "test_reading.py::test_literals_are_dropped_and_counted_or_kept",
    ),
    "gensim 2795, 2881: white space in words": (
        "test_commands.py::test_words_are_distinct_and_keep_names_without_white_space",
    ),
    "rich 3270, snowflake-cli 2941: a narrow terminal": (
        "test_commands.py::test_every_line_fits_the_terminal",
        "test_commands.py::test_no_digit_and_no_column_is_lost_at_any_width",
    ),
    "DRKG 29, pykeen 91: a header": ("test_reading.py::test_a_header_of_a_tsv_is_found_and_named",),
    "wandb 2048: an empty WANDB_MODE, and dryrun": (
        "test_loggers.py::test_modes_that_are_offline",
        "test_loggers.py::test_an_empty_mode_in_the_environment_is_offline",
    ),
    "wandb 4267, 3682, 4490: one id for several runs": (
        "test_loggers.py::test_runs_of_a_sweep_have_their_own_ids",
    ),
    "wandb 7671, 5017: no server": (
        "test_loggers.py::test_an_unreachable_server_is_one_line_that_says_what_to_do",
    ),
    "OpenKE 162, dgl-ke 207: separators; encodings; OpenKE 264, 287: comments": (
        "test_reading.py::test_what_is_wrong_with_lines",
    ),
    "AmpliGraph 261: quads": ("test_reading.py::test_graphs_of_quads_are_ignored_with_a_note",),
    "dgl-ke 131: odd dimensions": ("test_run.py::test_a_mistake_is_one_line",),
    "kge 220: NaN ranks first": (
        "test_ranking.py::test_scores_that_are_not_finite_raise",
        "test_run.py::test_a_mistake_is_one_line",
    ),
    "wandb 1006: no key": ("test_loggers.py::test_what_to_do_depends_on_what_went_wrong",),
    "a project a/b": ("test_loggers.py::test_what_wandb_does_not_take_is_one_line",),
    "Lightning 2035, 1455: signals": ("test_run.py::test_killed_and_resumed_ends_the_same",),
    "hydra 1577: the line that says how to resume is quoted for the shell": (
        "test_locks.py::test_the_line_that_says_how_to_resume_can_be_pasted",
    ),
    "hydra 922, 2414: hydra.job.chdir and a relative path": (
        "test_terminal.py::test_a_run_outlives_its_terminal",
    ),
    "a reader that closes stdout": ("test_commands.py::test_a_closed_stdout_is_not_an_error",),
    "an installed wheel": ("test_run.py::test_the_wheel_carries_conf_and_runs_elsewhere",),
}
ODD = (
    "nan", "NaN", "None", "null", "NA", "N/A", "007", "7", "True", "id:3", "00260881", "?", "1e3",
    "Zo\u00eb", "\u05d3\u05d5\u05d3", "\U0001f600", 'a "quoted" name', "it's", " x", "-5",
)  # fmt: skip


@pytest.mark.parametrize("case", HELD)
def test_a_case_is_held_by_a_test_elsewhere(case):
    for named in HELD[case]:
        file, function = named.split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in found, named
        asserting = [
            node
            for node in ast.walk(found[function])
            if isinstance(node, ast.Assert) or "pytest.raises" in ast.unparse(node)
        ]
        assert asserting, named


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """An untrained model whose entities have odd names."""
    folder = tmp_path_factory.mktemp("odd")
    size = len(ODD)
    triple_T3 = torch.tensor([(e, 0, (e + 1) % size) for e in range(size)])
    graph = KnowledgeGraph("odd", ODD, ("r",), triple_T3, triple_T3[:3], triple_T3[:3])
    config = {
        "model": {"_target_": "hale.models.euclidean.TransE", "dim": 4},
        "activation": {"_target_": "hale.scoring.activations.Identity"},
    }
    write_model(folder / "model", TransE(size, 2, 4), graph, {"config": config})
    return folder


def call(*arguments: object) -> int:
    return run_command([str(argument) for argument in arguments])


def test_exported_names_are_read_back_by_the_line_of_the_manual(odd, tmp_path, monkeypatch):
    """pandas 18143, 7518 and 57547, pykeen PR 883: NA becomes NaN, leading zeros vanish."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    assert call("export", odd, "--out", "vectors") == 0
    manual = (TESTS.parent / "docs/using.md").read_text(encoding="utf-8")
    (line,) = [line for line in manual.splitlines() if 'pandas.read_csv("vectors' in line]
    table = eval(line[line.index("pandas.read_csv") : line.rindex("`")], {"pandas": pandas})
    assert list(table.index) == list(ODD)
    wanted = hale.load(odd).model.entity
    assert torch.allclose(torch.tensor(table.to_numpy()).float(), wanted, atol=1e-5)


def test_every_odd_name_is_itself(odd, tmp_path, capsys):
    """pykeen PR 883: nan, None, 007 and 7 are names, and not each other."""
    model = hale.load(odd)
    for number, name in enumerate(ODD):
        if name == "id:3":  # a name comes before an id
            assert model.predict(head=name, relation="r", k=1)
        question = tmp_path / "q.tsv"
        question.write_text(f"{name}\tr\t?\n", encoding="utf-8")
        if name != "?":
            assert call("predict", odd, "--queries", question, "-k", 1, "--format", "json") == 0
            (row,) = json.loads(capsys.readouterr().out)
            assert row["head"] == name
        assert model.graph.entity_id[name] == number


def test_more_answers_than_there_are_entities(odd, capsys):
    """An own probe: k of 10^20 is all of them."""
    for many in (100_000, 10**20):
        arguments = ("--head", "nan", "--relation", "r", "-k", many, "--format", "json")
        assert call("predict", odd, *arguments) == 0
        assert len(json.loads(capsys.readouterr().out)) == len(ODD)


@pytest.mark.parametrize("name", ["Nobody", "id:37", "Nan", "id:-1"])
def test_an_unknown_name_is_one_line(odd, capsys, name):
    """pykeen 105, graphvite 49."""
    assert call("predict", odd, f"--head={name}", "--relation", "r") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert name.removeprefix("id:") in line


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("style", ["table", "tsv", "json"])
def test_a_terminal_that_cannot_show_a_name(odd, monkeypatch, encoding, style):
    """ctrl 17, python-knowledge-graph 1: UnicodeEncodeError on stdout."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    arguments = ("--head", "nan", "--relation", "r", "-k", 30, "--format", style)
    assert call("predict", odd, *arguments) == 0
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert "00260881" in text
    if style == "json":
        assert {row["tail"] for row in json.loads(text)} == set(ODD)
    else:
        assert "\\u05d3\\u05d5\\u05d3" in text
        assert "\\U0001f600" in text


@pytest.mark.parametrize("settings", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_a_question_in_a_locale_without_letters(odd, settings):
    """An own probe: what is typed comes in undecoded bytes where the locale is C."""
    command = [sys.executable, "-m", "hale", "predict", odd, "--head", "Zo\u00eb",
               "--relation", "r", "--format", "json"]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUTF8"}
    done = subprocess.run(
        [os.fsencode(word) for word in command], env=environment | settings, capture_output=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert len(json.loads(done.stdout)) == 10


def test_training_does_not_fail_because_of_the_terminal(graph, tmp_path, monkeypatch):
    """ctrl 17: a run that trained, wrote its record and then died of a dot in a title."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    names = ("Zo\u00eb", *graph.entities[1:])
    named = KnowledgeGraph("d\u00e9j\u00e0 vu", names, graph.relations, **graph.splits)
    hale.fit(named, "rotl", steps=2, dim=4, folder=tmp_path, settings={"validations": 1})
    sys.stdout.flush()
    assert "test" in written.getvalue().decode("ascii")
    assert (tmp_path / "result.json").is_file()


@pytest.mark.parametrize("entities", [1, 2])
def test_a_graph_in_which_nothing_can_be_ranked(tmp_path, entities):
    """pyg 9936, nni 1589, spaCy 10217: training ends in a division by zero, or in a NaN.

    One entity has no other to be compared with; of two, each other one is known.
    """
    triple_T3 = torch.cartesian_prod(torch.arange(entities), torch.zeros(1).long(),
                                     torch.arange(entities))  # fmt: skip
    names = tuple("ab")[:entities]
    nothing = KnowledgeGraph("nothing", names, ("r",), triple_T3, triple_T3[:1], triple_T3[-1:])
    with pytest.raises(HaleError) as refused:
        hale.fit(nothing, "rotl", steps=2, dim=4, folder=tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_direction_that_cannot_be_ranked_is_null(tmp_path):
    """The sibling of pyg 9936: to each query for tails every entity is a known answer."""
    train_T3 = torch.tensor([(0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 0), (1, 1, 2)])
    graph = KnowledgeGraph(
        "little", ("a", "b", "c"), ("r", "s"), train_T3, train_T3[1:2], train_T3[2:3]
    )
    hale.fit(graph, "rotl", steps=2, dim=4, folder=tmp_path, settings={"validations": 1})
    record = json.loads((tmp_path / "result.json").read_text())
    for split in ("valid", "test"):
        assert record[f"{split}/tail/amri"] is None
        assert math.isfinite(record[f"{split}/head/amri"])
        assert math.isfinite(record[f"{split}/mr"])


@pytest.mark.parametrize(
    "path",
    ["a=b", "donn\u00e9es", "\u6570\u636e", "~x", "it's", "a(b)", "a#b", 'say "b"', "{a}",
     "my data", "a:b", "a\\b", "100%", "a@b", "007", "1. \u00e9t\u00e9\\"],
)  # fmt: skip
def test_a_path_that_hydra_would_not_read(path):
    """hydra 1577, 2891, 2705 and 962: =, (, # and letters of other alphabets in a value."""
    assert compose(["dataset=tsv", f"dataset.path={path}"]).dataset.path == path
    assert choice_as_text(f"--config-dir={path}") == f"--config-dir={path}"


def require(overrides: list[str]) -> None:
    """Check settings as they are before a run."""
    job = job_of(["logger=none", "budget.steps=5", *overrides], Path("run"))
    require_settings(job.cfg, job.choices)


def test_what_hydra_reads_is_left_to_it():
    for override in ("a=b,c", "a=[1,2]", "a={b:1}", "a=${b}", "a='b=c'", "a=null", "a=choice(1,2)",
                     "~a", "-m", "a=", "hydra.run.dir=x"):  # fmt: skip
        assert choice_as_text(override) == override
    with pytest.raises(HaleError, match=r"^loss\.alpha must be a finite number"):
        require(["loss.alpha=0.5)"])


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("loss=sam_neg loss.num_negatives=1e3", "loss.num_negatives"),
        ("loss=sam_neg loss.num_negatives=2.5", "loss.num_negatives"),
        ("loss=contrastive loss.num_negatives=1e3", "loss.num_negatives"),
        ("seed=4294967296", "seed"),
        ("seed=null", "seed"),
        ("validations=null", "validations"),
        ("data.batch_size=null", "data.batch_size"),
        ("data.ranking_batch_size=null", "data.ranking_batch_size"),
        ("loss.alpha=null", "loss.alpha"),
        ("activation.beta=null", "activation.beta"),
        ("model.dim=null", "model.dim"),
        ("model.dim=1e2", "model.dim"),
        ("dataset.seed=null", "dataset.seed"),
        ("loss.square=no", "loss.square"),
        ("loss.mask_known=off", "loss.mask_known"),
        ("test=no", "test"),
        ("+trainer.limit_val_batches=0", "trainer.limit_val_batches"),
        ("+trainer.fast_dev_run=true", "trainer.fast_dev_run"),
    ],
)
def test_a_setting_is_named_when_it_is_refused(override, name):
    """pyBKT PR 48, stellargraph 1668 (1e3), numpy 17079 (seed), hydra 1163 (no and off)."""
    with pytest.raises(HaleError) as refused:
        require(override.split())
    assert str(refused.value).startswith(name), refused.value
    assert "\n" not in str(refused.value)


def test_a_model_too_large_for_any_memory_names_its_setting(graph):
    """An own probe: the allocator's words do not say which setting."""
    with pytest.raises(HaleError, match=r"model.*dim"):
        hale.fit(graph, "rotl", steps=1, settings={"model.dim": 10**12})


def kernel(folder: Path) -> Path:
    """A small library of C, compiled as the kernels are."""
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source/answer.c").write_text("int answer(void) { return 42; }\n")
    return shared_library(folder / "source", ())


def answer_of(library: Path) -> int:
    """Asked in a process of its own: a damaged library may end it, and a loaded one is kept."""
    code = f"import ctypes; print(ctypes.CDLL({str(library)!r}).answer())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)


@pytest.mark.parametrize("home", ["missing", "unwritable"])
@compiled
def test_a_user_without_a_home(tmp_path, monkeypatch, home):
    """hindsight 3934, scuba 11: a container's user without an entry of passwd."""

    def no_home(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "HALE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if home == "missing":
        monkeypatch.setattr(Path, "home", no_home)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert answer_of(kernel(tmp_path)) == 42


@pytest.mark.parametrize("size", [0, 1000])
@compiled
def test_a_damaged_kernel_in_the_cache_is_built_anew(tmp_path, monkeypatch, size):
    """pytorch 102539 and 6353, 'file too short': a kernel cut off killed every later run."""
    monkeypatch.setenv("HALE_CACHE_DIR", str(tmp_path / "cache"))
    first = kernel(tmp_path)
    first.write_bytes(first.read_bytes()[:size])
    again = kernel(tmp_path)
    assert again.stat().st_size > 1000
    assert answer_of(again) == 42
    assert kernel(tmp_path) == again


def test_linked_runs_are_listed(trained_folder, tmp_path, capsys):
    """cpython 77609, bids2table 56: a link to a run's folder is passed over in silence."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links/one").symlink_to(trained_folder, target_is_directory=True)
    (tmp_path / "links/loop").symlink_to(tmp_path / "links", target_is_directory=True)
    assert call("results", tmp_path / "links", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["test/mrr"] == json.loads((trained_folder / "result.json").read_text())["test/mrr"]


def test_a_damaged_run_does_not_hide_the_others(trained_folder, tmp_path, capsys):
    """The sibling of hydra 771: one folder that cannot be read."""
    for name in ("good", "bad"):
        shutil.copytree(trained_folder, tmp_path / name)
    (tmp_path / "bad/result.json").write_bytes(b"\xff{")
    assert call("results", tmp_path, "--format", "json") == 0
    printed = capsys.readouterr()
    assert [row["folder"] for row in json.loads(printed.out)] == ["good"]
    assert "bad" in printed.err


@pytest.mark.parametrize(
    ("lines", "triples"),
    [("a\tr\tb\n\n", 1), ("a\tr\tb\n\n\n \n", 1), ("a\tr\tb\nb\tr\ta", 2), ("a\tr\tb\r\n\r\n", 1)],
)
def test_blank_lines_at_the_end_of_a_file(tmp_path, lines, triples):
    """OpenKE 264 and 287."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(lines)
    assert len(KnowledgeGraph.read(tmp_path).train) == triples


def test_a_sampler_of_more_negatives_than_there_are_entities(tmp_path):
    """pyg 462: one triple, 256 negatives, a batch larger than the data."""
    triple_T3 = torch.tensor([(0, 0, 1)])
    graph = KnowledgeGraph("one", ("a", "b", "c"), ("r",), triple_T3, triple_T3, triple_T3)
    settings = {"loss": "sam_neg", "loss.num_negatives": 256, "validations": 1}
    model = hale.fit(graph, "transe", steps=2, dim=1, folder=tmp_path, settings=settings)
    assert model.model.entity.shape == (3, 1)
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_one_line(graph, tmp_path):
    """An own probe."""
    with pytest.raises(HaleError) as refused:
        hale.fit(graph, steps=1, folder=tmp_path, settings={"trainer": "gpu"})
    assert "trainer" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_behind_stdout_is_one_line(odd, monkeypatch, capsys):
    """An own probe."""
    full = Path("/dev/full").open("w")  # noqa: SIM115
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert call("predict", odd, "--head", "nan", "--relation", "r") == 1
    with pytest.raises(OSError, match="No space"):
        full.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line


def test_triples_of_another_dataset_are_named_by_line(odd, tmp_path, capsys):
    """An own probe: ``hale evaluate --triples`` of names that the model does not know."""
    path = tmp_path / "other.tsv"
    path.write_text("nan\tr\tNA\nNils Winter\tr\tnan\n")
    assert call("evaluate", odd, "--triples", path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "other.tsv:2" in line
    assert "Nils Winter" in line
