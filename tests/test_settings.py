"""Recipes: rules that set what they should, wherever a choice is made; and the user's own parts."""

import csv
import itertools
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file

from hale.cli.recipe import setting_rows
from hale.errors import HaleError
from hale.settings import conf_dir
from hale.settings.compose import compose
from hale.settings.recipe import GROUPS, read_rules, recipe

RECIPES = sorted((conf_dir() / "recipe").glob("*.yaml"))
TINY = ["debug=smoke", "threads=1", "data.batch_size=4096", "trainer=cpu"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def hale(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hale.run", *arguments],
        cwd=cwd, env=os.environ | {"WANDB_MODE": "disabled"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_rules_name_choices_and_settings_that_exist(path):
    assert path.stem in [*choices("dataset"), "auto"]
    for rule in read_rules(path):
        for group, wanted in rule.choices.items():
            assert set(wanted) <= set(choices(group)), (path, rule)
        assert rule.values


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_combination_composes_and_sets_what_its_classes_take(path):
    """A key that the chosen leaf lacks would reach the class as an unknown argument."""
    rules, load = read_rules(path), cache(OmegaConf.load)
    for loss, activation, optimizer, model in itertools.product(*map(choices, GROUPS[1:])):
        names = dict(zip(GROUPS, (path.stem, loss, activation, optimizer, model), strict=True))
        for setting in recipe(rules, names):
            group, _, key = setting.partition(".")
            file = conf_dir() / group / f"{names.get(group)}.yaml"
            leaf = load(file if file.is_file() else conf_dir() / "config.yaml")
            known = leaf if file.is_file() or not key else leaf[group]
            assert (key or group) in known, (names, setting)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_optimizers_settings_are_for_that_optimizer(path):
    """A learning rate that was tuned for Adam must not reach Adagrad."""
    rules = [rule for rule in read_rules(path) if any("optimizer" in key for key in rule.values)]
    assert rules
    for rule in rules:
        assert rule.choices.get("optimizer") in (("adagrad",), ("adam",)), rule


def tuned(*overrides: str) -> dict[str, object]:
    cfg = compose(overrides)
    names = ("loss.alpha", "loss.weight", "activation.beta", "data.batch_size", "optimizer.lr",
             "optimizer.betas", "model.scale_lr_multiplier")  # fmt: skip
    return {name: OmegaConf.select(cfg, name) for name in names}


def test_values_follow_the_dimension_not_the_name_of_an_experiment():
    small, large = tuned("dataset=codex_m"), tuned("dataset=codex_m", "model.dim=256")
    assert (small["loss.weight"], small["optimizer.lr"]) == (4.0, 0.02)
    assert (large["loss.weight"], large["optimizer.lr"]) == (6.0, 0.012)
    assert list(large["optimizer.betas"]) == [0.9, 0.999]
    assert large["model.scale_lr_multiplier"] == 1.0
    in_table = tuned("experiment=table3", "dataset=codex_m", "strategy=hale", "model=rotl")
    assert in_table == large
    assert tuned("experiment=table5", "dataset=codex_m", "strategy=hale") == small
    assert all(small[name] != large[name] for name in small)


def test_values_follow_the_activation_not_the_name_of_an_experiment():
    alone = tuned("dataset=fb15k237", "activation=identity")
    assert alone["optimizer.lr"] == 0.01
    assert alone == tuned("experiment=table5", "dataset=fb15k237", "strategy=hale_wo_activation")
    assert tuned("dataset=fb15k237")["optimizer.lr"] == 0.03


def test_the_command_line_wins_even_with_the_default_value():
    cfg = compose(["dataset=fb15k237", "optimizer.lr=0.005", "loss.alpha=0.1"])
    assert (cfg.optimizer.lr, cfg.loss.alpha, cfg.loss.weight) == (0.005, 0.1, 3.0)
    assert compose(["dataset=fb15k237", "~recipe"]).optimizer.lr == 0.005


def test_a_strategy_wins_over_the_recipe(tmp_path):
    cfg = compose(["dataset=fb15k237", "strategy=hale_wo_rel_ratio"])
    assert cfg.model.relation_scale is False
    assert cfg.model.scale_lr_multiplier == 0.1


def test_the_jobs_of_a_sweep_have_recipes_of_their_own(tmp_path):
    done = hale(
        "-m", *TINY, "loss=hale,sam_neg", "model.dim=8,10", "budget.steps=2", "test=false",
        "~logger", "hydra.sweep.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("sweep/*/result.json"))]
    rates = {(r["choices"]["loss"], r["config"]["optimizer"]["lr"]) for r in records}
    assert rates == {("hale", 0.02), ("sam_neg", 0.005)}
    assert len(records) == 4
    assert "loss=hale" in records[0]["overrides"]


def test_hale_recipe_and_cfg_job_say_the_same(tmp_path):
    chosen = ["dataset=codex_m", "model.dim=256", "loss=hale"]
    shown = OmegaConf.create(hale(*chosen, "--cfg", "job", cwd=tmp_path).stdout)
    rows = {row["setting"]: row for row in setting_rows(chosen)}
    assert len(rows) > 25
    assert {json.loads(rows.pop(group)["value"]) for group in GROUPS[1:]} == {
        "rotl", "hale", "hanon", "adam",
    }  # fmt: skip
    for name, row in rows.items():
        value = OmegaConf.select(shown, name)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        assert json.loads(row["value"]) == plain, name
    assert rows["optimizer.lr"]["from"].startswith(
        "conf/recipe/codex_m.yaml: loss hale or mul_de, "
    )
    assert "dim >= 128" in rows["optimizer.lr"]["from"]
    assert rows["model.dim"]["from"] == "command line"
    assert rows["loss.square"]["from"] == "conf/loss/hale.yaml"
    assert rows["validations"]["from"] == "conf/config.yaml"


def test_hale_recipe_shows_what_few_epochs_would_change():
    rows = {r["setting"]: r["from"] for r in setting_rows(["dataset=wn18rr"])}
    assert rows["optimizer.lr"].endswith("; 0.03 in up to 120 epochs")
    assert "epochs" not in rows["data.batch_size"]
    chosen = ["dataset=wn18rr", "optimizer.lr=0.01"]
    rows = {r["setting"]: r["from"] for r in setting_rows(chosen)}
    assert rows["optimizer.lr"] == "command line"
    assert not any(
        "epochs" in r["from"] for r in setting_rows(["experiment=fig3", "dataset=wn18rr"])
    )


def test_hale_recipe_names_strategies_and_experiments():
    rows = {r["setting"]: r for r in setting_rows(["strategy=hale_wo_pos_square"])}
    assert rows["loss.square"] == {
        "setting": "loss.square", "value": "false", "from": "strategy hale_wo_pos_square",
    }  # fmt: skip
    with pytest.raises(HaleError, match="rotz"):
        list(setting_rows(["model=rotz"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "must be a list of rules"),
        ("- {set: {a: 1}, wenn: {loss: hale}}", "rule 1: a rule has `set`"),
        ("- set: {a: 1}\n- {when: {seed: 1}, set: {a: 2}}", "rule 2: `when` may name loss"),
        ("- {when: {min_dim: 64}, set: {b: 2}}", "b has a value for dim >= 64 and none below"),
    ],
)
def test_a_rule_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(HaleError, match=message):
        recipe(read_rules(tmp_path / "mine.yaml"), {})


def test_a_later_rule_wins_and_dimensions_nest(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "- set: {optimizer.lr: 1, x: [1, 2]}\n"
        "- {when: {model: [rotl, rote]}, set: {optimizer.lr: 2}}\n"
        "- {when: {min_dim: 64}, set: {optimizer.lr: 3, x: [3]}}\n"
        "- {when: {min_dim: 256}, set: {optimizer.lr: 4}}\n"
    )
    rules = read_rules(tmp_path / "mine.yaml")
    for model, dim, lr, x in (
        ("rotl", 32, 2, [1, 2]), ("transe", 63, 1, [1, 2]), ("rotl", 64, 3, [3]),
        ("transe", 256, 4, [3]),
    ):  # fmt: skip
        cfg = OmegaConf.create({"model": {"dim": dim}})
        for name, value in recipe(rules, {"model": model}).items():
            OmegaConf.update(cfg, name, value)
        assert (cfg.optimizer.lr, list(cfg.x)) == (lr, x)


def test_a_recipe_cannot_be_chosen_by_name(tmp_path):
    done = hale("recipe=wn18rr", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("recipe must be auto or search, or left out for the tuned recipe")
    assert len(done.stderr.splitlines()) == 1


def curve(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))


def logged(folder: Path) -> list[dict[str, str]]:
    (file,) = folder.glob("csv/*/metrics.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


def test_callbacks_of_the_users_choice(tmp_path):
    done = hale(
        *TINY, "logger=none", "callbacks=[early_stopping,lr_monitor]", "budget.steps=400",
        "validations=20", "optimizer.lr=1e-9", "callbacks.early_stopping.patience=2",
        "trainer.log_every_n_steps=10", "hydra.run.dir=out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert record["steps"] < 400
    assert len(curve(tmp_path / "out")) < 20
    rows = [row for row in logged(tmp_path / "out") if row["lr-Adam"]]
    assert float(rows[0]["lr-Adam"]) == pytest.approx(1e-9, rel=0.1)


def test_the_average_of_the_weights_is_what_is_kept(tmp_path):
    """With a decay of 1 the average never leaves where it starts: the weights after one step."""
    averaging = ["callbacks=weight_averaging", "callbacks.weight_averaging.decay=1.0"]
    kept = {}
    for name, steps, extra in (("averaged", 40, averaging), ("first", 1, []), ("plain", 40, [])):
        done = hale(
            *TINY, "logger=none", f"budget.steps={steps}", "validations=1", "optimizer.lr=0.02",
            *extra, f"hydra.run.dir={name}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kept[name] = load_file(tmp_path / name / "model/model.safetensors")["entity"]
    assert kept["averaged"].equal(kept["first"])
    assert not kept["averaged"].equal(kept["plain"])


def test_several_loggers_at_once(tmp_path):
    pytest.importorskip("tensorboard")
    done = hale(
        *TINY, "logger=[wandb,tensorboard]", "logger.wandb.mode=offline", "budget.steps=4",
        "validations=1", "hydra.run.dir=out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("out/wandb/offline-run-*"))
    assert list(tmp_path.glob("out/tensorboard/**/events.*"))


def test_mlflow_keeps_choices_and_curves(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for this test's own client
    done = hale(
        *TINY, "logger=mlflow", "logger.mlflow.tracking_uri=file:./kept", "budget.steps=20",
        "validations=2", "hydra.run.dir=out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"file:{tmp_path}/kept")
    (run,) = client.search_runs([client.get_experiment_by_name("hale").experiment_id])
    assert run.data.params["model"] == "rotl"
    history = client.get_metric_history(run.info.run_id, "valid/mrr")
    rows = curve(tmp_path / "out")
    assert [m.value for m in history] == pytest.approx([float(r["valid/mrr"]) for r in rows])


def test_a_logger_that_is_not_installed_is_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['tensorboard'] = sys.modules['tensorboardX'] = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "hale.run", *TINY, "logger=tensorboard", "budget.steps=1"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.startswith("logger=tensorboard needs a package: pip install")


def test_the_learning_rate_and_the_budgets_share_are_logged(tmp_path):
    done = hale(
        *TINY, "logger=none", "budget.steps=40", "validations=2", "optimizer.lr=0.01",
        "trainer.log_every_n_steps=10", "hydra.run.dir=out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row for row in logged(tmp_path / "out") if row["lr"]]
    assert [float(row["budget_share"]) for row in rows] == [0.25, 0.5, 0.75, 1.0]
    wanted = [0.01 * max(0.02, 1 - (step - 1) / 40) for step in (10, 20, 30, 40)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(wanted)
