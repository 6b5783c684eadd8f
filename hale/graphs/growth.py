"""Graphs that grow: triples are added and removed, and every id stays what it was.

New names get the ids after the old ones, in the order in which they appear. No name is removed,
also where no triple has it any longer.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hale.errors import DatasetError
from hale.graphs.frames import rows_or_frame
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.named_triples import (
    KnownNames,
    NamedTriples,
    Vocabulary,
    distinct,
    joined,
    keys,
    to_ids,
)
from hale.graphs.names import NameIds, shown
from hale.graphs.paths import as_path, find_files
from hale.graphs.reading import SPLITS, Unseen, admitted, require_unseen
from hale.graphs.triple_file import Form, read_blocks

Ids = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Growth:
    """A grown graph, and how it differs from the old one.

    Args:
        graph: whose first names are those of the old graph.
        old_entities: number of entities of the old graph.
        old_relations: number of its relations.
        added: triples added, over all splits.
        removed: triples removed, over all splits.
    """

    graph: KnowledgeGraph
    old_entities: int
    old_relations: int
    added: int
    removed: int

    def __str__(self) -> str:
        entities = self.graph.num_entities - self.old_entities
        relations = self.graph.num_relations - self.old_relations
        removed = f", {self.removed:,} triples removed" if self.removed else ""
        return (
            f"{self.added:,} triples added, with {entities:,} new entities and {relations:,} new "
            f"relations{removed}"
        )


def sources(given: object, form: Form) -> dict[str, Iterable[NamedTriples]]:
    """Triples to add or to remove, by the split that they are for.

    Args:
        given: a folder with train, valid and test; another folder, or a file, or ``-``, all for
            train; or what :meth:`KnowledgeGraph.from_triples` takes for rows, for train.
        form: of the files.

    Raises:
        DatasetError: there is nothing to read.
    """
    if not isinstance(given, str) and not hasattr(given, "__fspath__"):
        return {"train": rows_or_frame(given, "rows", form.columns)}
    path = as_path(given)
    files = find_files(path, form)
    if isinstance(files, dict):
        return {split: read_blocks(file, form) for split, file in files.items()}
    return {"train": (block for file in files for block in read_blocks(file, form))}


def grow(
    graph: KnowledgeGraph,
    add: Mapping[str, Iterable[NamedTriples]],
    remove: Iterable[NamedTriples] = (),
    unseen: Unseen = "error",
) -> Growth:
    """Add triples to splits of a graph, after others are removed from whichever split has them.

    A triple that is to be added and that a split already has is skipped, also where it has another
    weight: remove it too.

    Args:
        graph: is not changed.
        add: triples by split; train is read first.
        remove: triples of the graph.
        unseen: what to do with a triple for valid or test with a name that neither the graph nor
            the triples for train have: ``error``, ``keep`` or ``drop``.

    Raises:
        ArgumentError: ``unseen`` is not one of its values.
        DatasetError: malformed content, a triple to remove that the graph does not have, nothing
            that changes the graph, or a split that would be left without triples.
    """
    require_unseen(unseen)
    kept, weight_T, removed = _without(graph, remove)
    vocabularies = _Grown(graph.entities), _Grown(graph.relations)
    known = np.concatenate(list(kept.values()))
    added = 0
    for split in (name for name in SPLITS if name in add):
        new_T3, new_weight_T = _read(add[split], split, vocabularies, unseen)
        fresh_T, known = _fresh(new_T3, known)
        if split == "train":
            weight_T = _weights(weight_T, len(kept[split]), new_weight_T, fresh_T)
        kept[split] = np.concatenate((kept[split], new_T3[fresh_T]))
        added += int(fresh_T.sum())
    if not added and not removed:
        raise DatasetError("nothing to update: the graph has all triples that were to be added")
    grown = _graph(graph.name, vocabularies, kept, weight_T)
    return Growth(grown, graph.num_entities, graph.num_relations, added, removed)


class _Grown(Vocabulary):
    """Ids of a graph's names and of new ones; a name in another normalisation is the graph's."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__((name, i) for i, name in enumerate(names))
        self._old = NameIds(self)

    def __missing__(self, name: str) -> int:
        alike = self._old.alike(name)
        return self._old[alike[0]] if len(alike) == 1 else super().__missing__(name)


def _graph(
    name: str,
    vocabularies: tuple[Vocabulary, Vocabulary],
    splits: Mapping[str, Ids],
    weight_T: Weights | None,
) -> KnowledgeGraph:
    entities, relations = map(tuple, vocabularies)
    train, valid, test = (torch.from_numpy(splits[split]) for split in SPLITS)
    weight = None if weight_T is None else torch.from_numpy(weight_T)
    return KnowledgeGraph(name, entities, relations, train, valid, test, weight)


def _without(
    graph: KnowledgeGraph, blocks: Iterable[NamedTriples]
) -> tuple[dict[str, Ids], Weights | None, int]:
    """The triples of each split and the weights of train that are left, and how many are not."""
    splits = {name: triple_T3.numpy() for name, triple_T3 in graph.splits.items()}
    weight_T = None if graph.weight is None else graph.weight.numpy()
    names = KnownNames("entity", graph.entities), KnownNames("relation", graph.relations)
    gone = [np.empty((0, 3), np.int64)]
    have = np.concatenate(list(splits.values()))
    for block in blocks:
        id_N3 = to_ids(block, *names).astype(np.int64)
        missing_N = ~_contained(id_N3, have)
        if missing_N.any():
            position = int(missing_N.argmax())
            triple = ", ".join(shown(name) for name in block.names(position))
            raise DatasetError(
                f"{block.place(position)}: the graph has no triple ({triple}) to remove"
            )
        gone.append(id_N3)
    gone_T3 = np.concatenate(gone)
    for name, triple_T3 in splits.items():
        left_T = ~_contained(triple_T3, gone_T3)
        if not left_T.any():
            raise DatasetError(f"all triples of {name} would be removed: keep some")
        splits[name] = triple_T3[left_T]
        if name == "train" and weight_T is not None:
            weight_T = weight_T[left_T]
    return splits, weight_T, len(have) - sum(map(len, splits.values()))


def _read(
    blocks: Iterable[NamedTriples],
    split: str,
    vocabularies: tuple[Vocabulary, Vocabulary],
    unseen: Unseen,
) -> tuple[Ids, Weights | None]:
    """Distinct triples for a split, and their weights if they have any."""
    chunks, weights = [], []
    trained = len(vocabularies[0]), len(vocabularies[1])
    dropped = 0
    for block in blocks:
        id_N3, weight_N = admitted(
            block, vocabularies, trained, "keep" if split == "train" else unseen, _unseen
        )
        chunks.append(id_N3)
        weights.append(weight_N)
        dropped += len(block.head) - len(id_N3)
    if dropped:
        for vocabulary, length in zip(vocabularies, trained, strict=True):
            vocabulary.truncate(length)
        log.warning("%s: dropped %d new triples with names that are not in train", split, dropped)
    return distinct(*joined(chunks, weights))


def _unseen(block: NamedTriples, row: int, at: int) -> str:
    return (
        f"{block.place(row)}: '{shown(block.names(row)[at])}' is neither in the graph nor in the "
        "new train: fix it, or set dataset.unseen to keep or drop"
    )


def _fresh(new_T3: Ids, known_T3: Ids) -> tuple[npt.NDArray[np.bool_], Ids]:
    """Which triples are not among those known, and all of both."""
    fresh_T = ~_contained(new_T3, known_T3)
    if skipped := int((~fresh_T).sum()):
        log.info("%d triples that the graph has already are skipped", skipped)
    return fresh_T, np.concatenate((known_T3, new_T3[fresh_T]))


def _weights(
    old_T: Weights | None, count: int, new_T: Weights | None, fresh_T: npt.NDArray[np.bool_]
) -> Weights | None:
    """Weights of the ``count`` old triples of train and of the fresh ones.

    A triple without one has 1; None if no triple has any.
    """
    if old_T is None and new_T is None:
        return None
    old_T = np.ones(count, np.float32) if old_T is None else old_T
    new_T = np.ones(len(fresh_T), np.float32) if new_T is None else new_T
    return np.concatenate((old_T, new_T[fresh_T]))


def _contained(triple_T3: Ids, among_U3: Ids) -> npt.NDArray[np.bool_]:
    """Whether each triple is among others, ``bool_T``."""
    if not len(triple_T3) or not len(among_U3):
        return np.zeros(len(triple_T3), bool)
    key_T, key_U = keys([triple_T3.T, among_U3.T])
    return np.isin(key_T, key_U)
