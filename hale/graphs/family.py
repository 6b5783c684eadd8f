"""The embedded dataset: a genealogy generated from a seed, learnt in under a minute.

The people of several villages over five generations. They marry within their village and
generation, nobody closer than a second cousin, or marry a newcomer; children take the father's
surname. The facts of birth and marriage (``father_of``, ``mother_of``, ``spouse_of``) are all in
train, and so are most facts derived from them. Valid and test hold derived facts only, so train
contains the premises of every answer. The two directions of ``sibling_of`` and ``cousin_of`` are in
the same split, so that no held-out fact is a training fact reversed.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable

import torch

from hale.errors import require_whole
from hale.graphs.kg import KnowledgeGraph

VILLAGES = 12
COUPLES = 8
"""Founding couples of a village."""
GENERATIONS = 5
SINGLE = 0.15
"""Share of men who do not marry."""
NEWCOMER = 0.5
"""Share of brides from elsewhere; there are more where no local bride is distant enough kin."""
HELD_OUT = 0.08
"""Share of derived facts in valid, and in test."""

Pairs = set[tuple[int, int]]

WOMEN = (
    "Ada Alma Anna Clara Cora Dora Edith Ella Elsa Emma Erna Eva Flora Frida Greta Hanna Hedda "
    "Helen Hilda Ida Ines Irma Jana Julia Karin Klara Lea Lena Lina Lotte Lucy Maja Maria Marta "
    "Mathilda Mila Nina Nora Olga Paula Rosa Ruth Sara Selma Sofia Tilda Vera Wilma"
)
MEN = (
    "Adam Alan Albert Anton Arne Axel Bela Boris Bruno Carl Daniel David Edgar Emil Erik Ernst "
    "Felix Franz Georg Gustav Hans Henrik Hugo Ivan Jakob Jan Johan Jonas Josef Karl Kurt Lars "
    "Leo Linus Lukas Magnus Martin Max Nils Oskar Otto Paul Peter Rolf Simon Stefan Theo Viktor"
)
SURNAMES = (
    "Abel Adler Arden Bach Bauer Beck Berg Blom Bonde Brandt Brook Carlsen Dahl Decker Egger Falk "
    "Fischer Forster Frank Frost Gold Graf Haas Hagen Hall Hansen Hart Hill Holm Horn Huber Jansen "
    "Keller Klein Koch Kramer Krone Lang Lind Lund Marsh Mayer Meyer Moser Nagel Novak Olsen Park "
    "Petri Reed Richter Roth Sand Schmidt Stein Stone Strand Thorn Vogel Wagner Weber West Winter "
    "Wolf Wood Ziegler"
)


def family(seed: int = 0) -> KnowledgeGraph:
    """Generate the genealogy; the same on every platform.

    Args:
        seed: of births, names, marriages and the choice of held-out facts; at least 0.

    Raises:
        ArgumentError: the seed is not a whole number of at least 0.
    """
    require_whole("seed", seed, at_least=0)
    draw = random.Random(seed).random  # the one method whose values Python guarantees to keep
    people = _People(draw)
    for _ in range(VILLAGES):
        people.settle()
    base = {
        "father_of": people.father_of,
        "mother_of": people.mother_of,
        "spouse_of": people.spouse_of,
    }
    facts = base | derive(people.father_of | people.mother_of)
    train: list[tuple[int, int, int]] = []
    valid: list[tuple[int, int, int]] = []
    test: list[tuple[int, int, int]] = []
    for relation, (name, pairs) in enumerate(facts.items()):
        split_of: dict[frozenset[int], list[tuple[int, int, int]]] = {}
        for head, tail in sorted(pairs):
            pair = frozenset((head, tail))
            if pair not in split_of:
                at = 1.0 if name in base else draw()
                split_of[pair] = valid if at < HELD_OUT else test if at < 2 * HELD_OUT else train
            split_of[pair].append((head, relation, tail))
    splits = (torch.tensor(triples) for triples in (train, valid, test))
    return KnowledgeGraph("family", tuple(people.names), tuple(facts), *splits)


def derive(parent_of: Pairs) -> dict[str, Pairs]:
    """The relations derived from the pairs (parent, child), by name."""
    child_of = {(child, parent) for parent, child in parent_of}
    sibling_of = compose(child_of, parent_of)
    grandparent_of = compose(parent_of, parent_of)
    uncle_or_aunt_of = compose(sibling_of, parent_of)
    return {
        "sibling_of": sibling_of,
        "grandparent_of": grandparent_of,
        "great_grandparent_of": compose(grandparent_of, parent_of),
        "uncle_or_aunt_of": uncle_or_aunt_of,
        "cousin_of": compose(child_of, uncle_or_aunt_of),
    }


def compose(first: Pairs, second: Pairs) -> Pairs:
    """All (x, z), x != z, such that (x, y) is in ``first`` and (y, z) in ``second`` for some y."""
    after = defaultdict(list)
    for y, z in second:
        after[y].append(z)
    return {(x, z) for x, y in first for z in after[y] if x != z}


class _People:
    """People, numbered in the order of birth or arrival, with their parents and spouses."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.names: list[str] = []
        self.father_of: Pairs = set()
        self.mother_of: Pairs = set()
        self.spouse_of: Pairs = set()
        self._draw = draw
        self._namesakes: Counter[str] = Counter()
        self._surname: list[str] = []
        self._parents: list[frozenset[int]] = []

    def settle(self) -> None:
        """Add a village: its founders and their descendants."""
        couples = [self._marry(self._newcomer(MEN), self._newcomer(WOMEN)) for _ in range(COUPLES)]
        for _ in range(1, GENERATIONS):
            men, women = self._bear(couples)
            women.sort(key=lambda _: self._draw())
            grooms = [man for man in men if self._draw() >= SINGLE]
            couples = [self._marry(man, self._bride(man, women)) for man in grooms]

    def _bear(self, couples: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Give each couple two to four children; returns the sons and the daughters."""
        men: list[int] = []
        women: list[int] = []
        for couple in couples:
            father, mother = couple
            for _ in range(2 + int(3 * self._draw())):
                given, peers = (MEN, men) if self._draw() < 0.5 else (WOMEN, women)
                child = self._add(given, self._surname[father], frozenset(couple))
                self.father_of.add((father, child))
                self.mother_of.add((mother, child))
                peers.append(child)
        return men, women

    def _bride(self, man: int, women: list[int]) -> int:
        """Take a woman from ``women`` who is not close kin, or else a newcomer."""
        distant = [woman for woman in women if not self._near(woman) & self._near(man)]
        if not distant or self._draw() < NEWCOMER:
            return self._newcomer(WOMEN)
        women.remove(distant[0])
        return distant[0]

    def _near(self, person: int) -> frozenset[int]:
        """Parents and grandparents."""
        parents = self._parents[person]
        return parents.union(*(self._parents[parent] for parent in parents))

    def _marry(self, man: int, woman: int) -> tuple[int, int]:
        self.spouse_of |= {(man, woman), (woman, man)}
        return man, woman

    def _newcomer(self, given: str) -> int:
        return self._add(given, self._pick(SURNAMES), frozenset())

    def _add(self, given: str, surname: str, parents: frozenset[int]) -> int:
        """Name a person, numbering namesakes."""
        name = f"{self._pick(given)} {surname}"
        self._namesakes[name] += 1
        count = self._namesakes[name]
        self.names.append(name if count == 1 else f"{name} {count}")
        self._surname.append(surname)
        self._parents.append(parents)
        return len(self.names) - 1

    def _pick(self, names: str) -> str:
        options = names.split()
        return options[int(len(options) * self._draw())]
