"""Filtered ranking of a whole test split, hale against PyKEEN: ``python -m benchmarks.ranking``.

Both rank the same random 32-dimensional vectors by the same protocol, on FB15k-237 (a random graph
of its size where ``HALE_DATA_DIR`` is not set): both directions of every test triple, all entities
as candidates, realistic ties. The metrics must agree to 1e-4, or the benchmark fails. hale's time
includes building its index of known answers, as PyKEEN's includes its filter.
"""

import statistics
from collections.abc import Callable

import torch

from benchmarks.measure import (
    Row,
    benchmark_graph,
    has_pykeen,
    interleaved,
    parse,
    parser,
    quieten,
    random_graph,
    ratio,
    report,
)
from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.batches import QueryBatch
from hale.graphs.data_module import QueryDataModule
from hale.graphs.kg import KnowledgeGraph
from hale.models.euclidean import RotL
from hale.scoring.activations import Identity
from hale.scoring.table import ScoreMatrix

TOLERANCE = 1e-4
"""Greatest difference of MRR and Hits@k, and relative one of MR."""
PYKEEN_BATCH = 128
"""Triples that PyKEEN ranks at once; with TransE it holds this x E x 32 values several times."""


def by_hale(graph: KnowledgeGraph, score: Callable[[QueryBatch], ScoreMatrix]) -> dict[str, float]:
    """Metrics of the test split."""
    data = QueryDataModule(graph, batch_size=4096, seed=0)
    data.setup()
    return evaluate(score, data.test_dataloader(), RankingMetrics(data.num_relations))


def sizes(graph: KnowledgeGraph, model: str) -> Row:
    """The first columns of every row."""
    return {"graph": graph.name, "E": graph.num_entities, "queries": 2 * len(graph.test),
            "model": model}  # fmt: skip


def alone(graph: KnowledgeGraph, repetitions: int) -> Row:
    """Hale's time for RotL, which PyKEEN does not have."""
    torch.manual_seed(0)
    model = RotL(graph.num_entities, 2 * graph.num_relations, 32)

    def score(batch: QueryBatch) -> ScoreMatrix:
        return model.scores(batch.entity_B, batch.relation_B, Identity())

    seconds = interleaved({"hale": lambda: by_hale(graph, score)}, repetitions)["hale"]
    return sizes(graph, "RotL") | {"hale s": statistics.median(seconds)}


def against_pykeen(graph: KnowledgeGraph, repetitions: int) -> list[Row]:
    """Times of both for two of PyKEEN's models.

    Raises:
        SystemExit: the metrics differ.
    """
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import ComplEx, TransE

    from benchmarks.pykeen_scores import factory, scorer

    quieten()

    def by_pykeen(model: TransE | ComplEx) -> dict[str, float]:
        found = RankBasedEvaluator(filtered=True).evaluate(
            model, graph.test, batch_size=PYKEEN_BATCH, use_tqdm=False,
            additional_filter_triples=[graph.train, graph.valid],
        )  # fmt: skip
        names = {"mrr": "inverse_harmonic_mean_rank", "mr": "arithmetic_mean_rank"}
        names |= {f"hits@{k}": f"hits_at_{k}" for k in (1, 3, 10)}
        return {k: found.get_metric(f"both.realistic.{name}") for k, name in names.items()}

    rows = []
    for name, model in {
        "TransE (L2)": TransE(
            triples_factory=factory(graph), random_seed=0, embedding_dim=32, scoring_fct_norm=2
        ),
        "ComplEx": ComplEx(triples_factory=factory(graph), random_seed=0, embedding_dim=16),
    }.items():
        ours: dict[str, float] = {}
        theirs: dict[str, float] = {}
        score = scorer(model.eval())
        seconds = interleaved(
            {
                "hale": lambda score=score, ours=ours: ours.update(by_hale(graph, score)),
                "pykeen": lambda model=model, theirs=theirs: theirs.update(by_pykeen(model)),
            },
            repetitions,
            warm_up=0,
        )
        worst = max(abs(ours[k] - theirs[k]) / max(theirs[k], 1.0) for k in theirs)
        if worst > TOLERANCE:
            raise SystemExit(f"{name}: metrics differ by {worst}: hale {ours}, PyKEEN {theirs}")
        medians = {f"{k} s": statistics.median(v) for k, v in seconds.items()}
        rows.append(
            sizes(graph, name)
            | medians
            | ratio(seconds["pykeen"], seconds["hale"])
            | {"mrr": ours["mrr"], "difference of metrics": worst}
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    given = parse(parser(__doc__))
    if given.quick:
        graph, repetitions = random_graph("random", 300, 4, (3000, 50, 100)), 2
    else:
        graph, repetitions = benchmark_graph("fb15k237"), 3
    rows = [alone(graph, repetitions)]
    if has_pykeen():
        rows += against_pykeen(graph, 1 if not given.quick else repetitions)
    report(given, ranking=rows)


if __name__ == "__main__":
    main()
