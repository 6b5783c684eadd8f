"""A trained model's folder, and what is asked of it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import hale
from hale.errors import DivergedError, HaleError
from hale.evaluation import distances
from hale.evaluation.ranking import top_k
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.names import NameIds, resolve, shown
from hale.graphs.queries import Known
from hale.runs.files import write_folder_atomically
from hale.runs.model_folder import write_model
from hale.runs.trained import QUERIES_AT_ONCE, TrainedModel
from hale.scoring.activations import Hanon, Identity
from hale.scoring.comparators import NegativeDot, SquaredEuclidean
from hale.scoring.table import ScoreMatrix, Table
from hale.training.teachers import read_teachers

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(trained_folder) -> TrainedModel:
    return hale.load(trained_folder)


@pytest.fixture(scope="module")
def score_of(model):
    """Score of a query and an entity in float64, from the definition of RotL and Hanon."""

    def value(entity: int, relation: int, answer: int) -> float:
        parts = {k: v.double() for k, v in model.model.state_dict().items()}
        x, y = parts["entity"][entity].tolist(), parts["entity"][answer].tolist()
        turned = []
        for i, angle in enumerate(parts["angle"][relation].tolist()):
            a, b = x[2 * i], x[2 * i + 1]
            turned += [
                math.cos(angle) * a - math.sin(angle) * b,
                math.sin(angle) * a + math.cos(angle) * b,
            ]
        shift = parts["translation"][relation].tolist()
        alpha = math.log1p(math.exp(parts["raw_alpha"][relation].item()))
        scale = math.log1p(math.exp(parts["raw_scale"][relation].item()))
        denominator = 1 + sum(p * q for p, q in zip(turned, shift, strict=True))
        query = [alpha * (p + q) / denominator for p, q in zip(turned, shift, strict=True)]
        distance = scale * sum((p - q) ** 2 for p, q in zip(query, y, strict=True))
        return -1 / (1 / 10 + math.exp(-3 * (distance - 0.5)))

    return value


def known_answers(graph, entity, relation):
    triples = [tuple(t) for split in graph.splits.values() for t in split.tolist()]
    if relation < graph.num_relations:
        return {t for h, r, t in triples if (h, r) == (entity, relation)}
    return {h for h, r, t in triples if (t, r) == (entity, relation - graph.num_relations)}


def test_the_folder_holds_the_best_weights_and_the_graph(trained_folder, model, graph):
    best = torch.load(trained_folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    kept = model.model.state_dict()
    assert {f"model.{name}" for name in kept} <= set(best)
    assert all(torch.equal(best[f"model.{name}"], value) for name, value in kept.items())
    assert model.graph.fingerprint == graph.fingerprint
    assert (model.graph.name, model.activation) == ("ring", Hanon())
    assert model.record == json.loads((trained_folder / "result.json").read_text())
    assert hale.load(str(trained_folder / "model")).record == model.record
    assert {file.name for file in (trained_folder / "model").iterdir()} == {
        "config.json", "model.safetensors", "names.json", "triples.safetensors", "result.json",
    }  # fmt: skip


@pytest.mark.parametrize(("entity", "relation"), [(0, 0), (7, 2), (59, 3), (30, 5)])
def test_predictions_are_the_best_by_definition(model, graph, score_of, entity, relation):
    name, title = graph.entities[entity], graph.relations[relation % 3]
    query = {"head" if relation < 3 else "tail": name, "relation": title}
    expected = [score_of(entity, relation, e) for e in range(60)]
    known = known_answers(graph, entity, relation)
    every = model.predict(**query, k=1000)
    assert [answer.id for answer in every] == sorted(range(60), key=lambda e: -expected[e])
    for answer in every:
        assert answer.entity == graph.entities[answer.id]
        assert answer.score == pytest.approx(expected[answer.id], rel=1e-4)
        assert answer.known == (answer.id in known)
    assert [answer.id for answer in model.predict(**query, k=4)] == [a.id for a in every[:4]]
    new = model.predict(**query, k=1000, filter_known=True)
    assert [answer.id for answer in new] == [a.id for a in every if not a.known]
    assert len(new) == 60 - len(known)


def test_names_and_ids_are_the_same(model):
    by_name = model.predict(head="e7", relation="two")
    assert model.predict(head=7, relation=1) == by_name
    assert model.predict(head="id:7", relation="id:1") == by_name
    assert model.predict(head=np.int64(7), relation=np.int64(1)) == by_name


def test_scores_and_ranks_are_those_of_the_definition(model, graph, score_of):
    triples = graph.test.tolist()
    assert model.score(triples) == pytest.approx([score_of(*triple) for triple in triples], 1e-4)
    ranks = []
    for head, relation, tail in triples:
        pair = []
        for query, target in (((head, relation), tail), ((tail, relation + 3), head)):
            rivals = set(range(60)) - known_answers(graph, *query) - {target}
            own = score_of(*query, target)
            pair.append(1 + sum(score_of(*query, rival) > own for rival in rivals))
        ranks.append(pair)
    assert model.rank(triples).tolist() == ranks
    assert model.score([]).shape == (0,)
    assert model.rank([]).shape == (0, 2)
    means = model.evaluate(graph.test).compute()
    assert float(means["mrr"]) == pytest.approx(np.mean(1 / np.array(ranks)))


def test_evaluation_is_that_of_training(model, graph):
    for split in ("valid", "test"):
        for name, value in model.evaluate(graph.splits[split]).compute().items():
            assert float(value) == pytest.approx(model.record[f"{split}/{name}"], rel=1e-6)


def test_more_queries_than_are_scored_at_once(model, graph):
    triples = graph.train.tolist() * 3
    assert len(triples) > QUERIES_AT_ONCE
    ranks, scores = model.rank(triples), model.score(triples)
    assert np.array_equal(ranks[:140], ranks[140:280])
    assert scores[:140] == pytest.approx(scores[280:], rel=1e-5)
    queries = torch.tensor([model.query(h, r, None) for h, r, _ in triples])
    answers = model.answers(queries, k=2)
    assert len(answers) == len(triples)
    assert [a.id for a in answers[300]] == [a.id for a in answers[20]]


def test_neighbours_are_those_of_the_smallest_angle(model):
    vectors = np.stack(list(model.embeddings().values())).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[3]
    expected = [e for e in np.argsort(-cosine) if e != 3]
    near = model.neighbours("e3", k=100)
    assert [n.id for n in near] == expected
    assert [n.cosine for n in near] == pytest.approx(cosine[expected].tolist(), abs=1e-5)
    assert [n.id for n in model.neighbours(3, k=2)] == expected[:2]
    assert list(model.embeddings()) == list(model.graph.entities)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "e600", "relation": "one"}, "no entity is named 'e600': did you mean 'e6'"),
        ({"head": "e7", "relation": "oen"}, "no relation is named 'oen': did you mean 'one'"),
        ({"head": 60, "relation": 0}, "no entity has id 60: ids are 0 to 59"),
        ({"head": "id:60", "relation": 0}, "no entity has id 60"),
        ({"head": -1, "relation": 0}, "no entity has id -1"),
        ({"head": 0, "relation": 3}, "no relation has id 3"),
        ({"relation": "one"}, "exactly one of head and tail"),
        ({"head": "e7", "relation": "one", "tail": "e8"}, "exactly one of head and tail"),
        ({"head": True, "relation": 0}, "entity must be a name or an id, got true"),
        ({"head": 1.0, "relation": 0}, "entity must be a name or an id, got 1.0"),
        ({"head": "e7", "relation": None}, "relation must be a name or an id, got null"),
        ({"head": "e7", "relation": "one", "k": 1e3}, "k must be a whole number of at least 1"),
        ({"head": "e7", "relation": "one", "filter_known": "no"}, "must be true or false"),
        (
            {"head": "e7", "relation": "one", "k": 0},
            "k must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_a_wrong_question_is_one_line(model, arguments, message):
    with pytest.raises(HaleError) as error:
        model.predict(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_triples_and_empty_evaluations(model):
    for call in (model.score, model.rank):
        with pytest.raises(HaleError, match="a triple is"):
            call([("e1", "one")])
        with pytest.raises(HaleError, match="a triple is"):
            call("e1 one e2")
    with pytest.raises(HaleError, match="no triples to evaluate"):
        model.evaluate(torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(HaleError, match="k must be"):
        model.neighbours("e1", k=0)


def test_ids_of_any_integer_type_are_the_same_ids(model):
    triple_T3, query_B2 = model.graph.test, model.graph.test[:, :2]
    wanted = model.evaluate(triple_T3).compute(), model.answers(query_B2, k=3)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert model.evaluate(triple_T3.to(dtype)).compute() == wanted[0]
        assert model.answers(query_B2.to(dtype), k=np.int64(3)) == wanted[1]
        assert model.plausibility(triple_T3.to(dtype)).equal(model.plausibility(triple_T3))
    assert model.predict(head=np.int32(7), relation="one") == model.predict(head=7, relation="one")


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (torch.ones(2, 3), "triples must be ids, whole numbers, got torch.float32"),
        (torch.ones(2, 3, dtype=torch.bool), "triples must be ids, whole numbers, got torch.bool"),
        (torch.zeros(2, 2, dtype=torch.int64), r"triples must have the shape \(T, 3\), got \(2, 2"),
        (
            torch.tensor([[0, 0, 1], [60, 0, 0]]),
            r"triples\[1\]: no entity has id 60: ids are 0 to 59",
        ),
        (torch.tensor([[0, 3, 1]]), r"triples\[0\]: no relation has id 3: ids are 0 to 2"),
        (torch.tensor([[0, -1, 1]]), "no relation has id -1"),
        ([(0, 0, 1)], "triples must be Tensor"),
    ],
)
def test_what_are_no_ids_is_refused_before_it_is_an_address(model, triples, message):
    for call in (model.evaluate, model.plausibility):
        with pytest.raises(HaleError, match=message):
            call(triples)
    if isinstance(triples, torch.Tensor) and triples.dtype != torch.int64:
        with pytest.raises(HaleError, match="queries must be ids"):
            model.answers(triples[:, :2])


def test_python_names_an_argument_of_another_type(graph):
    rows = [("a", "r", "b")] * 3
    for call, message in (
        (lambda: KnowledgeGraph.from_triples(rows, held_out="0.1"), "held_out must be a finite"),
        (lambda: KnowledgeGraph.from_triples(rows, seed=1e3), "seed must be a whole number"),
        (lambda: KnowledgeGraph.from_triples(rows, unseen=True), "unseen must be error, keep"),
        (lambda: KnowledgeGraph.from_triples(rows, columns="hrt"), "columns must be a list"),
        (lambda: KnowledgeGraph.read("x", name=5), "name must be text or null, got 5"),
        (lambda: KnowledgeGraph.read(None), "path must be a file, a folder"),
        (lambda: hale.fit(graph, steps=1e3), "steps must be a whole number or null, got 1000.0"),
        (lambda: hale.fit(graph, seconds="60"), "seconds must be a finite number or null"),
        (lambda: hale.fit(rows), "graph must be KnowledgeGraph"),
        (lambda: hale.fit(graph, settings=["a"]), "settings must be a mapping or null"),
        (lambda: hale.fit(graph, settings={5: 1}), "settings must be a mapping or null"),
        (lambda: hale.fit(graph, settings={"loss.square": "no"}), "loss.square must be true or"),
        (lambda: hale.fit(graph, settings={"loss.weight": "2"}), "loss.weight must be a finite"),
        (lambda: hale.fit(graph, settings={"data.batch_size": 1e3}), "data.batch_size must be"),
        (lambda: hale.fit(graph, settings={"model.dim": None}), "model.dim must be a whole"),
        (lambda: hale.update(5, rows), "model must be text"),
        (lambda: hale.load(7), "path must be text"),
    ):
        with pytest.raises(HaleError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_names_are_shown_on_one_line_of_a_terminal():
    assert shown("\x1b[31mred\nnext\t\u202e") == "\\x1b[31mred\\nnext\\t\\u202e"
    assert len(shown("x" * 1000)) == 80
    with pytest.raises(HaleError) as error:
        resolve("entity", NameIds(a=0), "\x1b[2J\n" * 1000)
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)
    assert resolve("entity", NameIds({"id:1": 0, "b": 1}), "id:1") == 0  # a name comes first


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12), chunk=st.integers(1, 300),
    comparator=st.sampled_from([SquaredEuclidean(), NegativeDot()]),
)  # fmt: skip
def test_top_k_is_sorting(seed, k, chunk, comparator):
    draw = torch.Generator().manual_seed(seed)
    query_BD, entity_ED = (torch.randn(n, 3, generator=draw) for n in (7, 9))
    scale_B = torch.rand(7, generator=draw) + 0.5
    scores = ScoreMatrix(query_BD, scale_B, Table(entity_ED), comparator, Identity())
    known_BE = torch.rand(7, 9, generator=draw) < 0.5
    known_BE[0] = True
    score_BE = scores.at(torch.arange(9).expand(7, 9)).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(distances.BLOCK_BYTES, "cpu", chunk)
        patch.setattr(distances, "LEAST_ROWS", 1)
        plain_BK = top_k(scores, k)
        shuffled = torch.randperm(int(known_BE.sum()), generator=draw)
        left_BK = top_k(scores, k, Known.of_pairs(*known_BE.nonzero()[shuffled].T, 7))
    count = min(k, 9)
    assert plain_BK.tolist() == score_BE.argsort(1, descending=True)[:, :count].tolist()
    for row in range(7):
        order = score_BE[row].argsort(descending=True).tolist()
        wanted = [e for e in order if not known_BE[row, e]][:count]
        assert left_BK[row].tolist() == wanted + [-1] * (count - len(wanted))


def test_top_k_refuses_what_has_no_order():
    entity_ED = torch.eye(3)
    entity_ED[1, 1] = torch.nan
    scores = ScoreMatrix(
        torch.ones(1, 3), torch.ones(1), Table(entity_ED), NegativeDot(), Identity()
    )
    with pytest.raises(DivergedError):
        top_k(scores, 1)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "conf/model").glob("*.yaml")))
def test_every_model_comes_back_as_it_was(tmp_path, graph, name):
    leaf = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/model/{name}.yaml"))
    torch.manual_seed(0)
    made = instantiate(leaf, num_entities=60, num_relations=6).eval()
    activation = {"_target_": "hale.scoring.activations.Temperature", "temperature": 2.0}
    record = {"config": {"model": leaf, "activation": activation}}
    write_model(tmp_path / "model", made, graph, record)
    loaded = hale.load(tmp_path)
    entity_B, relation_B = torch.arange(12), torch.arange(12) % 6
    with torch.no_grad():
        before, after = (
            m.scores(entity_B, relation_B, loaded.activation).at(torch.arange(60).expand(12, 60))
            for m in (made, loaded.model)
        )
    assert torch.equal(before, after)
    assert loaded.activation.temperature == 2.0
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.training is False
    assert len(loaded.predict(tail="e3", relation="one", k=5)) == 5


def test_a_run_that_excludes_own_entities_and_what_comes_from_it(tmp_path, graph):
    settings = {"exclude_own": True, "validations": 1, "threads": 1}
    folder = tmp_path / "run"
    model = hale.fit(graph, "transe", steps=30, dim=8, folder=folder, settings=settings)
    grown = model.update(add=[("e0", "four", "zoe")], steps=2, folder=tmp_path / "grown")
    for each in (model, hale.load(folder), grown):
        assert each.model.irreflexive_R.all()
        answers = each.predict(head="e0", relation="one", k=100)
        assert len(answers) == each.graph.num_entities - 1
        assert "e0" not in {answer.entity for answer in answers}
        assert each.rank([("e0", "one", "e0")])[0, 0] > 55
    assert model.record["test/mrr"] == pytest.approx(
        float(model.evaluate(graph.test).compute()["mrr"])
    )


@pytest.fixture(scope="session")
def reordered(graph) -> KnowledgeGraph:
    """The ring with its entities and relations numbered the other way round."""
    last = torch.tensor([graph.num_entities, graph.num_relations, graph.num_entities]) - 1
    splits = {name: last - triple_T3 for name, triple_T3 in graph.splits.items()}
    return KnowledgeGraph("again", graph.entities[::-1], graph.relations[::-1], **splits)


def test_a_teacher_is_asked_by_name(trained_folder, model, graph, reordered):
    (teacher,) = read_teachers([str(trained_folder)], reordered)
    entities, relations = graph.num_entities, graph.num_relations
    rows = torch.cartesian_prod(torch.arange(entities), torch.arange(2 * relations))
    entity_B, relation_B = rows.T
    candidate_BX = torch.arange(entities).expand(len(rows), entities)
    score_BE = teacher.scores(entity_B, relation_B, candidate_BX)
    direction_B = relation_B // relations * relations
    own_B = entities - 1 - entity_B, direction_B + relations - 1 - relation_B % relations
    own_BE = model.model.scores(*own_B, model.activation).at(candidate_BX)
    torch.testing.assert_close(score_BE, own_BE.flip(1))
    assert not score_BE.requires_grad


@pytest.mark.parametrize("loss", ["distil_e", "mul_de"])
def test_a_student_learns_from_teachers_and_counts_their_seconds(
    tmp_path, trained_folder, model, reordered, loss
):
    settings = {"loss": loss, "loss.teachers": [str(trained_folder)] * 2, "threads": 1,
                "validations": 1, "activation": "hanon", "optimizer.lr": 0.05}  # fmt: skip
    student = hale.fit(reordered, "transe", steps=150, dim=8, settings=settings)
    record = student.record
    assert record["teacher_seconds"] == pytest.approx(2 * model.record["train_seconds"])
    assert record["test/mrr"] > record["untrained/mrr"]
    assert "teacher_seconds" not in model.record


def test_a_teacher_of_another_graph_is_refused_in_one_line(trained_folder, graph):
    names = ("zoe", *graph.entities[1:])
    other = KnowledgeGraph("other", names, graph.relations, **graph.splits)
    expected = "ring, lacks 1 of the 60 entity names, such as zoe: give a model that was trained on"
    with pytest.raises(HaleError, match=expected):
        read_teachers([str(trained_folder)], other)
    settings = {"loss": "mul_de", "loss.teachers": "text", "threads": 1}
    with pytest.raises(HaleError, match=r"^loss\.teachers must be a list"):
        hale.fit(graph, "transe", steps=2, settings=settings)
    with pytest.raises(HaleError, match=r"loss\.teachers has no value: set loss\.teachers="):
        hale.fit(graph, "transe", steps=2, settings={"loss": "distil_e"})


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "model"
    for text in ("old", "new"):
        with write_folder_atomically(target) as folder:
            (folder / "file").write_text(text)
        assert (target / "file").read_text() == text

    def interrupted():
        with write_folder_atomically(target) as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_import_hale_is_light():
    code = (
        "import hale, sys; assert 'torch' not in sys.modules; hale.load; "
        "assert 'torch' in sys.modules; assert 'pytorch_lightning' not in sys.modules\n"
        "try: hale.lode\nexcept AttributeError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no attribute 'lode'" in done.stdout
