"""What is printed: a terminal that cannot show it, or that nobody reads any longer."""

import io
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hale.cli import run_command
from hale.runs.prefixes import prefixes_of, shorten
from hale.runs.tables import FittedTable
from hale.runs.terminal import Unfailing, escape_unencodable

TINY = [
    "debug=smoke", "threads=1", "budget.steps=3", "validations=1", "model.dim=4",
    "data.valid_queries=20", "data.test_queries=20", "hydra.run.dir=out",
]  # fmt: skip


class Broken(io.StringIO):
    """A stream of which the reader has gone after some characters."""

    encoding = "ascii"

    def __init__(self, error: Exception, characters: int = 0) -> None:
        super().__init__()
        self.error, self.left, self.attempts = error, characters, 0

    def write(self, text: str) -> int:
        self.left -= len(text)
        if self.left < 0:
            self.attempts += 1
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed file")]
)
def test_a_stream_that_breaks_is_silent_from_then_on(error):
    broken = Broken(error, characters=5)
    console = Console(file=Unfailing(broken), width=60)
    for _ in range(3):
        console.print("1234")
    assert broken.getvalue() == "1234\n"
    assert broken.attempts == 1


def test_what_an_encoding_lacks_is_escaped_without_changing_the_stream():
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="cp1252")
    console = Console(file=Unfailing(stream), width=60)
    console.print("Zo\u00eb \u05d3 \U0001f600")
    stream.flush()
    assert written.getvalue().decode("cp1252").split() == ["Zo\u00eb", "\\u05d3", "\\U0001f600"]
    assert stream.errors == "strict"


def test_a_run_follows_stdout_wherever_it_points(monkeypatch):
    console = Console(file=Unfailing())
    for _ in range(2):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        console.print("here")
        assert sys.stdout.getvalue() == "here\n"
    monkeypatch.setattr(sys, "stdout", None)
    console.print("nowhere")


def test_a_command_without_a_stdout_is_one_line(trained_folder, monkeypatch, capsys, tmp_path):
    ask = ["predict", str(trained_folder), "--head", "e1", "--relation", "one", "-k", "2"]
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(ask) == 1
    assert run_command([*ask, "--out", str(tmp_path / "a.tsv")]) == 0
    assert "hale predict: stdout is closed" in capsys.readouterr().err
    assert len((tmp_path / "a.tsv").read_text().splitlines()) == 3


def test_escaping_leaves_other_streams_alone(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    escape_unencodable()
    assert sys.stdout is stream


def test_a_run_outlives_its_terminal(tmp_path):
    """``hale ... | true``, with names that ASCII lacks."""
    (tmp_path / "d\u00e9j\u00e0").mkdir()
    lines = [f"\u00e9{i}\tr\t\u00e9{(i + 1) % 30}\n" for i in range(30)]
    for split, some in (("train", lines), ("valid", lines[:2]), ("test", lines[2:4])):
        (tmp_path / "d\u00e9j\u00e0" / f"{split}.tsv").write_text("".join(some), "utf-8")
    command = [
        sys.executable,
        "-m",
        "hale.run",
        *TINY,
        "dataset=tsv",
        "hydra.job.chdir=true",  # hydra 922 and 2414: a relative path is that of the start
        'dataset.path="d\u00e9j\u00e0"',
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=write, stderr=subprocess.PIPE, text=True,
        timeout=300,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert json.loads((tmp_path / "out/result.json").read_text())["steps"] == 3
    assert not (tmp_path / "out/error.txt").exists()


RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def test_namespaces_are_well_known_or_numbered_by_how_often_they_occur() -> None:
    names = [f"{RDF}type", "http://b.org/x", "http://a.org/1", "http://a.org/2", "Ada Berg"]
    assert prefixes_of(names) == {"http://a.org/": "ns1", RDF: "rdf", "http://b.org/": "ns2"}


texts = st.text(max_size=8) | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "urn+x", "HTTPS"]), st.sampled_from(["a.org", "b.org/p/q", ""]),
    st.sampled_from(["/", "#", "", "/#"]), st.text(max_size=4),
)  # fmt: skip


@given(st.lists(texts))
def test_a_shortened_name_can_be_written_out_again(names: list[str]) -> None:
    prefixes = prefixes_of(names)
    assert len(set(prefixes.values())) == len(prefixes)
    spaces = {prefix: namespace for namespace, prefix in prefixes.items()}
    for name in names:
        short = shorten(name, prefixes)
        if short != name:
            prefix, _, local = short.partition(":")
            assert spaces[prefix] + local == name
            assert local


def test_a_table_lists_its_prefixes_and_keeps_what_is_no_iri() -> None:
    long = "https://example.org/" + 10 * "very/long/" + "place#Ada"
    rows = [
        {"head": long, "relation": f"{RDF}type", "tail": "http://x.org", "rank": 1},
        {"head": "C://", "relation": "a/b", "tail": "see http://x.org/y", "rank": 2},
    ]
    file = io.StringIO()
    Console(file=file, width=200).print(FittedTable(rows))
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert lines[2] == ["ns1:Ada", "rdf:type", "http://x.org", "1"]
    assert lines[3] == ["C://", "a/b", "see", "http://x.org/y", "2"]
    assert lines[4:] == [["ns1:", long.removesuffix("Ada")], ["rdf:", RDF]]
