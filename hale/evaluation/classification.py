"""Triple classification: whether a triple is true, by a threshold on its score for each relation.

The task and the hard negatives are CoDEx's (Safavi and Koutra, 2020); their own script fits one
threshold for all relations. Thresholds are fitted on valid, test is only classified.

    T  triples, true and false ones     R  relations of the graph
"""

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
    """The threshold at or above which most triples are classified rightly as true.

    It lies midway between two scores, or is infinite where all or none should count as true; of
    thresholds that serve equally it is the highest.

    Args:
        score_T: the higher, the likelier.
        true_T: whether each triple is true.
    """
    order_T = score_T.argsort(descending=True)
    score_T, true_T = score_T[order_T].double(), true_T[order_T]
    # right[k]: rightly classified if the k best count as true
    sign_T = true_T.long() * 2 - 1
    right = torch.cat((sign_T.new_zeros(1), sign_T.cumsum(0)))
    right[1:-1][score_T[1:] == score_T[:-1]] = right.min() - 1  # no threshold parts equal scores
    k = int(right.argmax())
    if k == 0:
        return float("inf")
    if k == len(score_T):
        return float("-inf")
    return float((score_T[k - 1] + score_T[k]) / 2)


def fit_thresholds(
    score_T: Tensor, relation_T: Tensor, true_T: Tensor, num_relations: int
) -> Tensor:
    """The best threshold of each relation, ``threshold_R`` in float64.

    A relation of which there is no triple gets the best one of all triples together.
    """
    of_all = best_threshold(score_T, true_T)
    threshold_R = torch.full((num_relations,), of_all, dtype=torch.float64)
    for relation in set(relation_T.tolist()):
        mine_T = relation_T == relation
        threshold_R[relation] = best_threshold(score_T[mine_T], true_T[mine_T])
    return threshold_R


def classify(score_T: Tensor, relation_T: Tensor, threshold_R: Tensor) -> Tensor:
    """Whether each triple counts as true, ``bool_T``."""
    return score_T.double() >= threshold_R[relation_T]


def classification_metrics(predicted_T: Tensor, true_T: Tensor) -> dict[str, float]:
    """``accuracy``, ``f1``, ``precision`` and ``recall`` of a classification."""
    functions = {
        "accuracy": binary_accuracy,
        "f1": binary_f1_score,
        "precision": binary_precision,
        "recall": binary_recall,
    }
    return {
        name: float(function(predicted_T.long(), true_T.long()))
        for name, function in functions.items()
    }


class Labelled(NamedTuple):
    """Scored triples, with their relations and whether each is true."""

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
        """:func:`classification_metrics` by these thresholds."""
        predicted_T = classify(self.score_T, self.relation_T, threshold_R)
        return classification_metrics(predicted_T, self.true_T)

    def by_relation(self) -> dict[int, "Labelled"]:
        """The triples of each relation that occurs."""
        return {
            relation: Labelled(*(part[self.relation_T == relation] for part in self))
            for relation in sorted(set(self.relation_T.tolist()))
        }
