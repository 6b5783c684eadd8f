"""Triple classification: thresholds against brute force, and the command on a trained model."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hale
from hale.cli import run_command
from hale.evaluation.classification import (
    best_threshold,
    classification_metrics,
    classify,
    fit_thresholds,
)

SCORED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=9)


def right(threshold: float, scored: list[tuple[int, bool]]) -> int:
    return sum((score >= threshold) == true for score, true in scored)


@given(SCORED)
def test_no_other_threshold_classifies_more_rightly(scored):
    score_T = torch.tensor([float(score) for score, _ in scored])
    true_T = torch.tensor([true for _, true in scored])
    found = best_threshold(score_T, true_T)
    others = [-math.inf, math.inf, *(score + half for score, _ in scored for half in (-0.5, 0.5))]
    most = max(right(other, scored) for other in others)
    assert right(found, scored) == most
    counted_true = sum(score >= found for score, _ in scored)
    for other in others:
        if right(other, scored) == most:
            assert counted_true <= sum(score >= other for score, _ in scored)


def test_the_threshold_lies_midway():
    score_T = torch.tensor([0.0, 1.0, 2.0, 4.0])
    assert best_threshold(score_T, torch.tensor([False, False, True, True])) == 1.5


def test_neighbours_in_float32_are_parted():
    score_T = torch.tensor([1.0, 1 + 2**-23])
    true_T = torch.tensor([False, True])
    relation_T = torch.zeros(2, dtype=torch.long)
    threshold_R = fit_thresholds(score_T, relation_T, true_T, 1)
    assert classify(score_T, relation_T, threshold_R).equal(true_T)


def test_each_relation_has_its_own_and_an_absent_one_that_of_all():
    score_T = torch.tensor([1.0, 2.0, 5.0, 6.0])
    relation_T = torch.tensor([0, 0, 2, 2])
    true_T = torch.tensor([False, True, False, True])
    threshold_R = fit_thresholds(score_T, relation_T, true_T, 3)
    assert threshold_R.tolist() == [1.5, best_threshold(score_T, true_T), 5.5]
    assert classify(score_T, relation_T, threshold_R).equal(true_T)


@pytest.mark.parametrize("label", [True, False])
def test_a_relation_of_one_class_has_the_threshold_of_all(label):
    score_T = torch.tensor([1.0, 2.0, 5.0, 6.0])
    relation_T = torch.tensor([0, 0, 1, 1])
    true_T = torch.tensor([False, True, label, label])
    overall = best_threshold(score_T, true_T)
    assert fit_thresholds(score_T, relation_T, true_T, 2).tolist() == [1.5, overall]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_metrics_by_counting(pairs):
    predicted_T, true_T = torch.tensor(pairs).unbind(1)
    tp = sum(p and t for p, t in pairs)
    fp = sum(p and not t for p, t in pairs)
    fn = sum(t and not p for p, t in pairs)
    metrics = classification_metrics(predicted_T, true_T)
    expected = {
        "accuracy": sum(p == t for p, t in pairs) / len(pairs),
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "precision": tp / (tp + fp) if tp + fp else math.nan,
        "recall": tp / (tp + fn) if tp + fn else math.nan,
    }
    assert metrics == pytest.approx(expected, nan_ok=True)


def test_plausibility_is_minus_the_mean_of_both_distances(trained_folder, graph):
    trained = hale.load(trained_folder)
    entity_ED = trained.model.entity.detach()
    expected = []
    for h, r, t in graph.test.tolist():
        total = 0.0
        for e, relation, answer in ((h, r, t), (t, r + graph.num_relations, h)):
            at = torch.tensor([e]), torch.tensor([relation])
            query_D = trained.model.query(entity_ED[at[0]], at[1]).detach()[0]
            total += float(
                trained.model.scale(at[1]) * (query_D - entity_ED[answer]).square().sum()
            )
        expected.append(-total / 2)
    assert trained.plausibility(graph.test).tolist() == pytest.approx(expected, rel=1e-4)
    assert trained.plausibility(graph.test[:0]).tolist() == []


def test_the_command_fits_on_valid_and_tells_of_test(tmp_path, trained_folder, graph, capsys):
    known = {tuple(triple) for split in graph.splits.values() for triple in split.tolist()}
    words = ["classify", str(trained_folder), "--format", "json"]
    triples, true = {}, {}
    for split in ("valid", "test"):
        moved = [(h, r, (t + 17) % graph.num_entities) for h, r, t in graph.splits[split].tolist()]
        false = [triple for triple in moved if triple not in known]
        lines = [f"{graph.entities[h]}\t{graph.relations[r]}\t{graph.entities[t]}\n"
                 for h, r, t in false]  # fmt: skip
        (tmp_path / split).write_text("".join(lines))
        words += [f"--{split}-negatives", str(tmp_path / split)]
        triples[split] = torch.tensor([*graph.splits[split].tolist(), *false])
        true[split] = torch.arange(len(triples[split])) < len(graph.splits[split])

    trained = hale.load(trained_folder)
    score = {split: trained.plausibility(triples[split]) for split in triples}
    relation = {split: triples[split][:, 1] for split in triples}
    threshold_R = fit_thresholds(score["valid"], relation["valid"], true["valid"], 3)
    assert run_command(words) == 0
    for row in json.loads(capsys.readouterr().out):
        split = row["split"]
        right_T = classify(score[split], relation[split], threshold_R) == true[split]
        assert (row["count"], row["accuracy"]) == (
            len(right_T),
            pytest.approx(right_T.double().mean()),
        )

    assert run_command([*words, "--per-relation"]) == 0
    each = json.loads(capsys.readouterr().out)
    shown = {row["relation"]: row["threshold"] for row in each}
    assert shown == {
        name: threshold if math.isfinite(threshold) else None
        for name, threshold in zip(graph.relations, threshold_R.tolist(), strict=True)
    }
    assert sum(row["accuracy"] * row["count"] for row in each) == pytest.approx(int(right_T.sum()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "ring has no hard negatives, only codex_s and codex_m have"),
        (["--valid-negatives", "some.tsv"], "give both --valid-negatives and --test-negatives"),
        (["--valid-negatives", "no.tsv", "--test-negatives", "no.tsv"], "no.tsv"),
    ],
)
def test_a_mistake_is_one_line(trained_folder, capsys, options, message):
    assert run_command(["classify", str(trained_folder), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hale classify: ")
    assert message in line
