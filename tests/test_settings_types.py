"""Every setting is refused by name if it is of another type, or accepted as it is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from hale.errors import HaleError, expected, fits, require_type
from hale.settings import conf_dir
from hale.settings.build import build
from hale.settings.checks import require_settings
from hale.settings.compose import compose
from hale.settings.types import ONE, SEVERAL
from hale.training.fit import fit

WRONG = (
    "no", "off", "1_0", "", True, False, None, 0, -1, 1, 24, 1000.0, 2.5, -2.5, math.nan,
    math.inf, [], ["a"], [1], [0.5, 0.5], [True, None], {"a": 1}, 2**60, 10**30, 10**400,
)  # fmt: skip
FREE = ("hydra", "defaults")
OPTIONAL: dict[str, tuple[type, ...]] = {
    "threads": (int,), "budget.steps": (int,), "budget.seconds": (int, float),
    "data.valid_queries": (int,), "data.test_queries": (int,),
    "trainer.gradient_clip_val": (int, float), "trainer.devices": (int, str, list),
    "model.init_std": (int, float), "model.relation_dim": (int,), "dataset.columns": (list,),
    "dataset.weight": (int, str), "dataset.format": (str,), "logger.wandb.tags": (list,),
    "optimizer.fused": (bool,), "callbacks.lr_monitor.logging_interval": (str,),
    "logger.mlflow.tracking_uri": (str,), "logger.wandb.timeout": (int, float),
    "logger.wandb.mode": (str,), "budget.spent": (int, float),
    "trainer.log_every_n_steps": (int,), "trainer.limit_val_batches": (int, float),
    "trainer.limit_test_batches": (int, float),
}  # fmt: skip
"""Settings that may be null, and the other types of each."""
CONTRADICTED = {"budget.spent": "budget.steps must be a finite number above"}
"""What another setting says where the two contradict each other."""


@cache
def base() -> DictConfig:
    cfg = compose(["logger=none", "budget.steps=5"])
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def leaves(node: Any, name: str = "") -> Iterator[str]:
    if not isinstance(node, dict):
        yield name
        return
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield from leaves(value, f"{name}.{key}" if name else str(key))


def settings() -> Iterator[tuple[str, str, str]]:
    """Group, choice and name of every leaf of conf/."""
    top = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"), resolve=False)
    for name in leaves({key: value for key, value in top.items() if key not in FREE}):
        yield "", "", name
    seen = set()
    for group in (*ONE[:-1], *SEVERAL):
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False) or {}
            for name in leaves({k: v for k, v in loaded.items() if k not in FREE}):
                setting = f"{group}.{name}", receiver(loaded)
                if setting not in seen:  # models share a constructor
                    yield group, path.stem, f"{group}.{name}"
                seen.add(setting)


def receiver(loaded: dict[str, Any]) -> Any:
    """The constructor or function that takes a choice's values."""
    targets = [
        node["_target_"]
        for node in (loaded, *loaded.values())
        if isinstance(node, dict) and "_target_" in node
    ]
    found = get_object(targets[0]) if targets else None
    return found.__init__ if isinstance(found, type) else found


def with_choice(group: str, choice: str) -> DictConfig:
    cfg = base().copy()
    if group:
        node = OmegaConf.load(conf_dir() / group / f"{choice}.yaml")
        inherited = node.pop("defaults", [])
        for other in inherited:
            node = OmegaConf.merge(OmegaConf.load(conf_dir() / group / f"{other}.yaml"), node)
        OmegaConf.set_struct(cfg, False)
        cfg[group] = node
        if group == "dataset" and choice == "tsv":
            cfg.dataset.path = "somewhere"
        if group == "loss" and OmegaConf.is_missing(node, "teachers"):
            cfg.loss.teachers = ["somewhere"]
    return cfg


def check(cfg: DictConfig, group: str) -> None:
    """All that is checked of a setting before training, with little to compute."""
    require_settings(cfg, {})
    if group == "model":
        build(cfg, "model", num_entities=3, num_relations=2)
    elif group in ("optimizer", "schedule", "trainer"):
        build(cfg, group)


def legitimate(name: str, default: Any, value: Any) -> bool:
    """Whether a value is of the type of a setting's default, or what a setting may be instead."""
    if name == "dataset.path":  # a folder may be named nan
        return isinstance(value, str | bool | int | float)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    types: tuple[type, ...] = OPTIONAL.get(name, ())
    if name in OPTIONAL and value is None:
        return True
    if default is not None:
        types += (int, float) if type(default) is float else (type(default),)
    return type(value) in types


@pytest.mark.parametrize(("group", "choice", "name"), [*settings()])
def test_a_value_of_another_type_is_refused_by_the_settings_name(group, choice, name):
    cfg = with_choice(group, choice)
    default = OmegaConf.select(cfg, name)
    plain = OmegaConf.to_container(default) if OmegaConf.is_config(default) else default
    accepted = []
    for value in WRONG:
        OmegaConf.update(cfg, name, value, merge=False)
        try:
            check(cfg, group)
        except HaleError as error:
            line = str(error)
            assert name in line or CONTRADICTED.get(name, name) in line, (value, line)
            assert len(line.splitlines()) == 1
            assert len(line) < 500
        else:
            accepted.append(value)
    for value in accepted:
        assert legitimate(name, plain, value), (name, value)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("budget=5", "budget is a group of settings: set budget.NAME=..., not budget=..."),
        ("data=null", "data is a group of settings"),
        ("+data.foo=1", "data.foo is not a setting"),
        ("+data.batch_sise=1", "data.batch_sise is not a setting: did you mean batch_size?"),
        ("+model.dimm=3", "model.dimm is not a setting of RotL: did you mean dim?"),
        ("~schedule", "schedule must be a choice of the config group schedule, got null"),
        ("+logger.mine=5", "logger.mine must be a choice of the config group logger, got 5"),
        ("model._target_=hale.models.Nope", "model._target_ must be the path of a class or func"),
        ("model._target_=3", "model._target_ must be text, got 3"),
        ("loss._partial_=maybe", "Could not override 'loss._partial_'"),
        ("loss=5", "Could not find 'loss/5'"),
        ("model=true", "Could not find 'model/true'"),
        ("seed=4294967296", "seed must be a whole number of at least 0 and of at most 4294967295"),
        ("threads=100000", "threads must be a whole number of at least 1 and of at most 1024"),
        ("budget.steps=null budget.seconds=1e300", "budget.seconds must be a finite number above"),
        ("optimizer.betas=[0.9,1.5]", "optimizer.betas must be a finite number of at least 0"),
        ("logger=wandb logger.wandb.project=2024", "quote it, 'logger.wandb.project=\"2024\"'"),
        ("+trainer.precision=7", "trainer.precision must be 64, 32, 16"),
    ],
)
def test_a_mistake_in_the_form_of_settings_is_one_line(typed, message):
    def refused() -> None:
        cfg = compose(["logger=none"] * ("logger=" not in typed) + typed.split())
        require_settings(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), {})

    with pytest.raises(HaleError) as error:
        refused()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_step_too_large_for_the_memory_names_what_to_lower(graph):
    settings = {"loss": "sam_neg", "loss.num_negatives": 2**45, "validations": 1}
    with pytest.raises(HaleError, match=r"does not fit in memory: lower data\.batch_size") as error:
        fit(graph, "transe", steps=1, dim=2, settings=settings)
    assert "loss.num_negatives" in str(error.value)
    with pytest.raises(HaleError, match=r"model does not fit in memory with model\.dim=\d{14}"):
        fit(graph, "transe", steps=1, dim=2**45)


HINTS: tuple[Any, ...] = (
    bool, int, float, str, int | None, str | None, list[int], Sequence[str | int] | None,
    tuple[float, float], Literal["a", "b"] | None, Mapping[str, int], int | Literal["auto"],
)  # fmt: skip
SAMPLES: tuple[Any, ...] = (
    True, 3, 2.5, "a", None, [1, 2], ["x", 1], (0.5, 1), {"a": 1}, "auto", math.inf, 2**80, [None],
    {}, [], (0.5, 1, 2), "b", {1: 1},
)  # fmt: skip
FITTING: dict[int, set[str]] = {
    0: {"True"}, 1: {"3"}, 2: {"3", "2.5"}, 3: {"'a'", "'auto'", "'b'"}, 4: {"3", "None"},
    5: {"'a'", "'auto'", "'b'", "None"}, 6: {"[1, 2]", "[]"},
    7: {"[1, 2]", "['x', 1]", "[]", "None"}, 8: {"[1, 2]", "(0.5, 1)"}, 9: {"'a'", "'b'", "None"},
    10: {"{'a': 1}", "{}"}, 11: {"3", "'auto'"},
}  # fmt: skip
"""What fits each annotation."""


@pytest.mark.parametrize("at", range(len(HINTS)))
def test_what_fits_an_annotation(at):
    assert {repr(value) for value in SAMPLES if fits(value, HINTS[at])} == FITTING[at]
    for value in SAMPLES:
        if not fits(value, HINTS[at]):
            with pytest.raises(HaleError, match=r"^it must be .*, got ") as error:
                require_type("it", value, HINTS[at])
            assert expected(HINTS[at]) in str(error.value)


def test_the_words_for_a_type():
    words = {
        bool: "true or false", int | None: "a whole number or null",
        int | Literal["auto", "all"] | None: "a whole number, auto, all or null",
        Sequence[str | int]: "a list (each text or a whole number)",
        tuple[float, float]: "a list of 2 (each a finite number)",
        float | Fraction: "a finite number", Fraction: "Fraction",
    }  # fmt: skip
    assert {hint: expected(hint) for hint in words} == words
