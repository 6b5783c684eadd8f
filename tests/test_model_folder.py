"""Folders that are wrong, damaged or hostile: one line each, and nothing is executed."""

import builtins
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hale
from hale.errors import HaleError
from hale.runs.model_path import ModelFolderError


@pytest.fixture
def folder(trained_folder, tmp_path) -> Path:
    shutil.copytree(trained_folder / "model", tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as error:
        hale.load(folder)
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 600
    return message


def edit(folder: Path, file: str, change) -> None:
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


def test_wrong_folders(tmp_path):
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "config.json is missing" in refused(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert f"finish it with hale resume {tmp_path}" in refused(tmp_path)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("file", ["model.safetensors", "names.json", "triples.safetensors",
                                  "result.json"])  # fmt: skip
def test_a_missing_file(folder, file):
    (folder / file).unlink()
    assert f"{file} is missing: copy the whole folder again" in refused(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "triples.safetensors", "config.json",
                                  "names.json", "result.json"])  # fmt: skip
@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.3, 0.7, 0.99])
def test_a_file_cut_off_anywhere(folder, file, share):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(share * len(content))])
    assert f"{file} is damaged" in refused(folder)


@pytest.mark.parametrize("at", [0, 7, 8, 20, 100, -1, -400])
@pytest.mark.parametrize("file", ["model.safetensors", "triples.safetensors"])
def test_a_flipped_bit_anywhere(folder, file, at):
    content = bytearray((folder / file).read_bytes())
    content[at] ^= 0x10
    (folder / file).write_bytes(content)
    assert "is damaged" in refused(folder)


def test_a_changed_name_is_noticed(folder):
    edit(folder, "names.json", lambda names: names["entities"].reverse())
    assert "names.json and triples.safetensors do not match config.json" in refused(folder)


@pytest.mark.parametrize("names", [None, 3, ["a", 3], ["a", ""], ["a", "\ud800"], ["a"],
                                   ["a"] * 60, {"a": 1}])  # fmt: skip
@pytest.mark.parametrize("kind", ["entities", "relations"])
def test_invalid_names(folder, kind, names):
    edit(folder, "names.json", lambda content: content.update({kind: names}))
    assert "is damaged" in refused(folder)


def test_another_version(folder):
    edit(folder, "config.json", lambda config: config.update(format=3, hale="9.1\x1b[2J"))
    message = refused(folder)
    assert "has format 3, written by hale 9.1" in message
    assert f"hale {hale.__version__} reads format 2" in message


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "builtins.eval", "hale.models.base.QueryModel.scores",
     "hale.models.../../evil.Model", "hale.models.base.torch.load", "hale.run.main",
     "hale.models.euclidean.os.system", "", None, 7, ["hale.models.euclidean.RotL"],
     "hale.errors.HaleError",
     "hale.scoring.activations.Hanon\n", "\u202ehale.models.euclidean.RotL"],
)  # fmt: skip
@pytest.mark.parametrize("part", ["model", "activation"])
def test_only_classes_of_hale_are_built(folder, part, target, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("executed"))
    monkeypatch.setattr(builtins, "eval", lambda *_: pytest.fail("executed"))
    edit(folder, "config.json", lambda config: config[part].update(_target_=target))
    assert "only hale's own models and activations" in refused(folder)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", {"_target_": "hale.models.euclidean.Tensor"}),
        ("model", {"_target_": "hale.models.euclidean.nn"}),
        ("model", {"_target_": "hale.models.base.QueryModel"}),
        ("model", {"_target_": "hale.models.nothere.Model"}),
        ("model", {"_target_": "hale.models.euclidean.TransE"}),
        ("model", {"_target_": "hale.models.neural.ConvE"}),
        ("model", {"dim": 10**18}),
        ("model", {"dim": "8"}),
        ("model", {"dim": 8.0}),
        ("model", {"init_std": "x"}),
        ("model", {"init_std": -1}),
        ("model", {"num_entities": 5}),
        ("model", {"anything": 5}),
        ("model", {"relation_scale": False}),
        ("activation", {"_target_": "hale.scoring.activations.Activation"}),
        ("activation", {"_target_": "hale.scoring.activations.Tensor"}),
        ("activation", {"_target_": "hale.scoring.activations.math"}),
        ("activation", {"beta": "x"}),
        ("activation", {"beta": float("nan")}),
        ("activation", {"anything": 1}),
    ],
)
def test_invalid_arguments(folder, part, change):
    edit(folder, "config.json", lambda config: config[part].update(change))
    assert "is damaged" in refused(folder)


@pytest.mark.parametrize("content", [b"[1]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'"x"',
                                     b"1" * 10_000])  # fmt: skip
@pytest.mark.parametrize("file", ["config.json", "names.json", "result.json"])
def test_json_that_is_not_an_object(folder, file, content):
    (folder / file).write_bytes(content)
    assert f"{file} is damaged" in refused(folder)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def test_a_pickle_is_not_opened(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for file in ("model.safetensors", "triples.safetensors"):
        good = (folder / file).read_bytes()
        (folder / file).write_bytes(pickle.dumps(Bomb()))
        assert f"{file} is damaged" in refused(folder)
        torch.save({"entity": torch.zeros(2)}, folder / file)
        assert f"{file} is damaged" in refused(folder)
        (folder / file).write_bytes(good)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize(
    "header",
    [b"{}", b'{"entity": 3}', b"[" * 1000, b"\xff" * 50,
     b'{"entity":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,4]}}',
     b'{"entity":{"dtype":"F32","shape":[1],"data_offsets":[0,400000000000]}}',
     b'{"../../x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'],
)  # fmt: skip
@pytest.mark.parametrize("length", [None, 2**63, 2**64 - 1])
@pytest.mark.parametrize("file", ["model.safetensors", "triples.safetensors"])
def test_headers_that_lie(folder, file, header, length):
    size = len(header) if length is None else length
    (folder / file).write_bytes(size.to_bytes(8, "little") + header + b"\0" * 4)
    assert f"{file} is damaged" in refused(folder)


def resigned(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors and the digest that belongs to them, as a careful attacker would."""
    save_file(tensors, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit(folder, "config.json", lambda config: config.update(tensors_sha256=digest))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("angle"),
        lambda t: t.pop("entity"),
        lambda t: t.update(more=torch.zeros(1)),
        lambda t: t.update(entity=torch.zeros(61, 8)),
        lambda t: t.update(entity=torch.zeros(60, 10)),
        lambda t: t.update(entity=torch.tensor(1.0)),
        lambda t: t.update(entity=torch.zeros(60, 8, dtype=torch.int64)),
        lambda t: t.update(entity=torch.zeros(60, 8, dtype=torch.float64)),
        lambda t: t.update({n: v.half() for n, v in t.items()}),
        lambda t: t.update(angle=torch.zeros(6, 5)),
    ],
)
def test_tensors_of_another_model(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    resigned(folder, tensors)
    assert "is damaged" in refused(folder)


def test_weights_of_a_diverged_model_are_one_line(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["entity"][3] = torch.nan
    resigned(folder, tensors)
    with pytest.raises(HaleError, match="cannot be ranked"):
        hale.load(folder).predict(head=0, relation=0)


@pytest.mark.parametrize(
    "triples",
    [
        {},
        {"train": torch.zeros(3, 3)},
        {"train": torch.zeros(0, 3, dtype=torch.int64)},
        {"train": torch.full((3, 3), 10**9)},
        {"train": torch.full((3, 3), -1)},
        {"train": torch.tensor(3)},
        {"extra": torch.zeros(3, 3, dtype=torch.int64)},
    ],
)
def test_invalid_triples(folder, triples):
    kept = load_file(folder / "triples.safetensors") if triples else {}
    save_file(kept | triples, folder / "triples.safetensors")
    assert "is damaged" in refused(folder)
