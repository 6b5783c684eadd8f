"""Triple classification: whether a triple is true, by a threshold on its score per relation.

The task and the hard negatives are those of CoDEx (Safavi and Koutra, 2020), whose script fits one
threshold for all relations. Thresholds are fitted on valid and only applied to test.

    T  triples, true and false     R  relations of the graph
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_f1_score,
    binary_precision,
    binary_recall,
)


def best_threshold(score_T: Tensor, true_T: Tensor) -> float:
    """The threshold with the highest accuracy; triples that reach it are classified as true.

    It lies midway between two scores, or is infinite if all or none should be classified as true.
    Of equally accurate thresholds it is the highest.

    Args:
        score_T: scores; the higher, the more plausible.
        true_T: whether each triple is true.
    """
    order_T = score_T.argsort(descending=True)
    score_T, true_T = score_T[order_T].double(), true_T[order_T]
    # gain[k]: true minus false triples among the k best, so its maximum has the highest accuracy
    sign_T = true_T.long() * 2 - 1
    gain = torch.cat((sign_T.new_zeros(1), sign_T.cumsum(0)))
    gain[1:-1][score_T[1:] == score_T[:-1]] = gain.min() - 1  # equal scores cannot be separated
    k = int(gain.argmax())
    if k == 0:
        return float("inf")
    if k == len(score_T):
        return float("-inf")
    return float((score_T[k - 1] + score_T[k]) / 2)


def fit_thresholds(
    score_T: Tensor, relation_T: Tensor, true_T: Tensor, num_relations: int
) -> Tensor:
    """The best threshold of each relation, ``threshold_R`` in float64.

    A relation without true or without false triples gets the best threshold of all triples
    together.
    """
    overall = best_threshold(score_T, true_T)
    threshold_R = torch.full((num_relations,), overall, dtype=torch.float64)
    for relation in set(relation_T.tolist()):
        of_relation_T = relation_T == relation
        if true_T[of_relation_T].any() and not true_T[of_relation_T].all():
            threshold_R[relation] = best_threshold(score_T[of_relation_T], true_T[of_relation_T])
    return threshold_R


def classify(score_T: Tensor, relation_T: Tensor, threshold_R: Tensor) -> Tensor:
    """Whether each triple is classified as true, ``bool_T``."""
    return score_T.double() >= threshold_R[relation_T]


def classification_metrics(predicted_T: Tensor, true_T: Tensor) -> dict[str, float]:
    """``accuracy``, ``f1``, ``precision`` and ``recall`` of a classification.

    What is not defined is NaN: the precision where nothing is classified as true, the recall where
    nothing is true, and F1 where both hold.
    """
    given = predicted_T.long(), true_T.long()
    shares = {"f1": binary_f1_score, "precision": binary_precision, "recall": binary_recall}
    metrics = {"accuracy": float(binary_accuracy(*given))}
    for name, share in shares.items():
        least, most = (float(share(*given, zero_division=value)) for value in (0, 1))
        metrics[name] = least if least == most else math.nan
    return metrics


class Labelled(NamedTuple):
    """Scored triples with their relations and labels."""

    score_T: Tensor
    relation_T: Tensor
    true_T: Tensor

    @classmethod
    def of(cls, true_T3: Tensor, false_T3: Tensor, score: Callable[[Tensor], Tensor]) -> "Labelled":
        """Score true and false triples of shape (T, 3)."""
        triple_T3 = torch.cat((true_T3, false_T3))
        true_T = torch.arange(len(triple_T3)) < len(true_T3)
        return cls(score(triple_T3), triple_T3[:, 1], true_T)

    def metrics(self, threshold_R: Tensor) -> dict[str, float]:
        """:func:`classification_metrics` with these thresholds."""
        predicted_T = classify(self.score_T, self.relation_T, threshold_R)
        return classification_metrics(predicted_T, self.true_T)

    def by_relation(self) -> dict[int, "Labelled"]:
        """The triples of each relation that occurs."""
        return {
            relation: Labelled(*(part[self.relation_T == relation] for part in self))
            for relation in sorted(set(self.relation_T.tolist()))
        }
