import ctypes
import os
import platform
import statistics
import subprocess
import sys
from functools import cache, partial
from itertools import chain, islice, repeat
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_entity_logsumexp import (
    ACTIVATIONS,
    IDS,
    PAIRS,
    differentiate,
    draw,
    mask,
    naive,
    relative,
)

from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.data_module import QueryDataModule
from hale.graphs.family import family
from hale.graphs.queries import Known
from hale.losses.query_sampling import QuerySampling
from hale.models.euclidean import RotL
from hale.scoring.activations import Halin, Hanon, Identity, Temperature, XExp
from hale.scoring.comparators import NegativeDot, Poincare, SquaredEuclidean
from hale.scoring.kernels import binding, native, operations, pages
from hale.scoring.kernels import compile as compiling
from hale.scoring.kernels.compile import CompileError, find_compiler, shared_library
from hale.training.module import LinkPrediction

try:
    find_compiler()
except CompileError as error:
    pytest.skip(str(error), allow_module_level=True)

VALUE, GRADIENT, GRADIENT_BF16 = 2e-5, 1e-4, 1e-2
QUERY_GRADIENT = GRADIENT_BF16
EUCLIDEAN = (SquaredEuclidean(), Hanon())
SHAPES = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def agree(rows, entities, dim, comparator, activation, masked, seed=0, std=None):
    """Errors of the value and of the three gradients against float64 autograd are in bounds."""
    inputs, weight = draw(rows, entities, dim, seed, std=std)
    known = mask(rows, entities, seed) if masked else None
    rest = (comparator, activation, known)
    actual = differentiate(native_entity_logsumexp, inputs, weight, *rest)
    doubles = [tensor.double() for tensor in inputs]
    expected = differentiate(naive, doubles, weight.double(), *rest)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=VALUE, atol=VALUE)
    assert relative(actual[1], expected[1]) < QUERY_GRADIENT
    assert relative(actual[2], expected[2]) < GRADIENT
    assert relative(actual[3], expected[3]) < GRADIENT_BF16


@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_float64_autograd(comparator, activation, masked):
    for rows, entities, dim in ((1, 1, 1), (5, 7, 3), (33, 400, 70), (102, 1003, 32)):
        agree(rows, entities, dim, comparator, activation, masked and entities > 1)


def native_entity_logsumexp(query_ND, scale_N, entity_ED, comparator, activation, known=None):
    kernel = operations.find_kernel(comparator, activation)
    return native.native_entity_logsumexp(kernel, query_ND, scale_N, entity_ED, known)


def aim(monkeypatch, flags):
    """Compile for what ``flags`` say alone, whatever the processor has beyond it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("these are flags of x86")
    monkeypatch.setattr(compiling, "TARGETS", (tuple(flags.split()),))
    monkeypatch.setattr(binding, "_library", cache(binding._library.__wrapped__))
    monkeypatch.setattr(operations, "load", cache(binding.load.__wrapped__))


@pytest.fixture(params=["-march=native -mno-avx512bf16", "-march=haswell", "-march=x86-64"])
def _fp32(request, monkeypatch):
    """Kernels for processors without bf16 products: weights are rounded for the entities alone."""
    if "haswell" in request.param and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs AVX2")
    aim(monkeypatch, request.param)
    monkeypatch.setattr(sys.modules[__name__], "QUERY_GRADIENT", GRADIENT)


@pytest.mark.parametrize("target", compiling.TARGETS, ids=" ".join)
def test_what_the_compiler_knows_of_this_processor_is_used(target, tmp_path, monkeypatch):
    """A mistake in code for one processor would be made up for by code for a lesser one."""
    empty = tmp_path / "empty.c"
    empty.touch()
    known = subprocess.run(
        [*find_compiler(), *target, "-c", str(empty), "-o", str(tmp_path / "empty.o")],
        capture_output=True,
        check=False,
    )
    if known.returncode:
        pytest.skip("the compiler does not know these flags")
    monkeypatch.setattr(compiling, "TARGETS", (target,))
    monkeypatch.setenv("HALE_CACHE_DIR", str(tmp_path))
    assert shared_library(binding.SOURCES, ("ACTIVATION=hanon",)).is_file()


def processor() -> set[str]:
    """The instruction sets of this processor, as /proc/cpuinfo names them."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split()}


@pytest.mark.skipif("sse2" not in processor(), reason="needs /proc/cpuinfo of an x86 processor")
def test_the_variant_is_the_best_of_this_processor():
    has = processor()
    if "avx512f" in has:
        names = {"avx512"}
        if "avx512_bf16" in has:
            names = {"avx512-bf16"} | ({"amx-bf16"} if "amx_bf16" in has else set())
    else:
        names = {"avx2"} if {"avx2", "fma"} <= has else {"sse2"}
    assert operations.variant(*EUCLIDEAN) in names
    assert operations.variant(Poincare(), Halin()) == operations.variant(*EUCLIDEAN)


@pytest.mark.parametrize(("flags", "name"), [("-march=haswell", "avx2"), ("-march=x86-64", "sse2")])
def test_the_variant_is_the_one_that_was_compiled(monkeypatch, flags, name):
    if name not in processor():
        pytest.skip(f"the processor has no {name}")
    aim(monkeypatch, flags)
    assert operations.variant(*EUCLIDEAN) == name


def test_an_unsupported_pair_has_no_variant():
    with pytest.raises(RuntimeError, match="does not support XExp"):
        operations.variant(SquaredEuclidean(), XExp(limit=61.0))


@SHAPES
@given(
    st.integers(1, 150), st.integers(2, 300), st.integers(1, 70), st.booleans(), st.integers(0, 99)
)
@pytest.mark.parametrize("flags", ["", "-march=native -mno-amx-tile"], ids=["best", "vectors"])
def test_agrees_at_any_shape(flags, monkeypatch, rows, entities, dim, masked, seed):
    if flags:
        aim(monkeypatch, flags)
    agree(rows, entities, dim, *EUCLIDEAN, masked, seed)


@pytest.mark.usefixtures("_fp32")
@SHAPES
@given(
    st.integers(1, 70), st.integers(2, 300), st.integers(1, 40), st.booleans(), st.integers(0, 99)
)
def test_agrees_at_any_shape_in_fp32(rows, entities, dim, masked, seed):
    agree(rows, entities, dim, *EUCLIDEAN, masked, seed)


@pytest.mark.usefixtures("_fp32")
def test_poincare_agrees_in_fp32():
    for rows, entities, dim in ((1, 2, 3), (43, 400, 70)):
        agree(rows, entities, dim, Poincare(), Halin(beta=3.0), masked=True)


def test_many_queries_go_in_blocks(monkeypatch):
    inputs, weight = draw(90, 300, 8)
    known = mask(90, 300)
    expected = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN, known)
    library = operations.find_kernel(*EUCLIDEAN).library
    monkeypatch.setattr(library, "hale_most_rows", lambda *_: 32)
    actual = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN, known)
    for one, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_retained_graph_differentiates_again(activation):
    inputs, weight = draw(20, 50, 8)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    lse = (native_entity_logsumexp(*leaves, SquaredEuclidean(), activation) * weight).sum()
    first = torch.autograd.grad(lse, leaves, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(lse, leaves), strict=True):
        assert torch.equal(one, other)


def test_two_graphs_do_not_share_scratch():
    (first, weight), (second, _) = draw(20, 50, 8, seed=1), draw(20, 50, 8, seed=2)
    expected = [
        differentiate(native_entity_logsumexp, x, weight, *EUCLIDEAN) for x in (first, second)
    ]
    leaves = [[tensor.clone().requires_grad_() for tensor in x] for x in (first, second)]
    losses = [(native_entity_logsumexp(*x, *EUCLIDEAN) * weight).sum() for x in leaves]
    for loss, x, wanted in zip(losses, leaves, expected, strict=True):
        assert all(map(torch.equal, torch.autograd.grad(loss, x), wanted[1:]))


@pytest.mark.parametrize("comparator", [SquaredEuclidean(), Poincare(), NegativeDot()])
@pytest.mark.parametrize("rows", [3, 16, 70])
def test_what_scratch_memory_held_before_does_not_matter(rows, comparator):
    inputs, weight = draw(rows, 304, 16)  # whole blocks: nothing is written behind the last
    rest = (comparator, Identity())
    expected = differentiate(native_entity_logsumexp, inputs, weight, *rest)
    for byte in (0, 0xFF):  # 0xFFFF and 0xFFFFFFFF are NaN
        native._spare[:] = [torch.full((1 << 22,), byte, dtype=torch.uint8)]
        actual = differentiate(native_entity_logsumexp, inputs, weight, *rest)
        for a, e in zip(actual, expected, strict=True):
            assert torch.isfinite(a).all()
            assert a.equal(e)


def test_the_result_does_not_depend_on_threads():
    inputs, weight = draw(70, 3000, 16)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch runs on libgomp on Linux")
def test_threads_of_its_own_give_what_those_of_pytorch_give(monkeypatch):
    assert hasattr(ctypes.CDLL(None), "GOMP_parallel")  # what a weak symbol is looked up in
    inputs, weight = draw(70, 3000, 16)
    torch.set_num_threads(2)
    pool = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN)
    elsewhere = binding._library(("ACTIVATION=hanon", "GOMP_parallel=no_such_function"))
    kernel = operations.find_kernel(*EUCLIDEAN[:2])._replace(library=elsewhere)
    monkeypatch.setattr(operations, "find_kernel", lambda *_: kernel)
    own = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN)
    assert all(map(torch.equal, pool, own))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("activation", [Identity(), Temperature(0.5)])
def test_sums_that_overflow_or_underflow(sign, activation):
    inputs, weight = draw(20, 300, 8)
    query, scale, entity = inputs
    far = (query, scale * 1e4, sign * entity.abs() * query[:1].sign())
    rest = (NegativeDot(), activation, mask(20, 300))
    actual = differentiate(native_entity_logsumexp, far, weight, *rest)
    expected = differentiate(naive, [x.double() for x in far], weight.double(), *rest)
    assert expected[0].abs().max() > 1e3
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-5, atol=1e-2)
    for one, wanted in zip(actual[1:], expected[1:], strict=True):
        assert relative(one, wanted) < 3e-2  # a rounded score of 1e4 is off by 1e-3


def test_far_rows_do_not_disturb_near_ones():
    (query, scale, entity), weight = draw(20, 300, 8)
    query[3] *= 100
    rest = (SquaredEuclidean(), XExp())
    actual = differentiate(native_entity_logsumexp, (query, scale, entity), weight, *rest)
    doubles = [tensor.double() for tensor in (query, scale, entity)]
    expected = differentiate(naive, doubles, weight.double(), *rest)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-4, atol=1e-4)


def test_a_run_takes_the_same_course_as_by_the_reference(monkeypatch):
    """Seed by seed: the losses of the first steps, and the MRR after many."""
    graph = family(seed=0)

    def course(kernel: str, seed: int) -> tuple[list[float], float]:
        monkeypatch.setenv("HALE_KERNEL", kernel)
        torch.manual_seed(seed)
        model = RotL(graph.num_entities, 2 * graph.num_relations, 16)
        module = LinkPrediction(
            model, Hanon(), QuerySampling(0.2, weight=2.0, mask_known=True),
            partial(torch.optim.Adam, lr=0.05),
        )  # fmt: skip
        data = QueryDataModule(graph, 512, seed)
        data.setup()
        optimizer = module.configure_optimizers()
        losses = []
        for batch in islice(chain.from_iterable(repeat(data.train_dataloader())), 300):
            optimizer.zero_grad()
            loss = module.loss_parts(batch)["loss"]
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        metrics = evaluate(module, data.val_dataloader(), RankingMetrics(data.num_relations))
        return losses, metrics["mrr"]

    differences = []
    for seed in range(3):
        (losses, mrr), (expected, expected_mrr) = course("native", seed), course("reference", seed)
        assert losses[:30] == pytest.approx(expected[:30], rel=1e-2)
        assert losses != expected  # two ways of computing
        assert mrr > 0.15  # it learns
        differences.append(mrr - expected_mrr)
    assert max(map(abs, differences)) < 0.03  # seeds differ by .03 (standard deviation)
    assert abs(statistics.mean(differences)) < 0.015


def test_known_answers_are_skipped_not_subtracted():
    (query, scale, entity), weight = draw(4, 2000, 8)
    entity = entity + 30  # all far but those that are known, whose e^0 dwarfs the rest
    entity[:4] = query
    known = Known.of_pairs(*torch.cartesian_prod(torch.arange(4), torch.arange(4)).T, 4)
    rest = (SquaredEuclidean(), Hanon(gamma=30.0), known)
    actual = differentiate(native_entity_logsumexp, (query, scale, entity), weight, *rest)
    doubles = [tensor.double() for tensor in (query, scale, entity)]
    expected = differentiate(naive, doubles, weight.double(), *rest)
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-5, atol=0)


def test_a_row_without_entities_is_minus_infinity_and_has_no_gradient():
    inputs, weight = draw(3, 5, 2)
    known = Known.of_pairs(torch.full((5,), 1), torch.arange(5), 3)
    lse, query, scale, entity = differentiate(
        native_entity_logsumexp, inputs, weight, *EUCLIDEAN, known
    )
    assert lse[1] == -torch.inf
    assert lse[[0, 2]].isfinite().all()
    assert (query[1] == 0).all()
    assert scale[1] == 0
    assert entity.isfinite().all()


@pytest.mark.parametrize(("comparator", "activation"), PAIRS, ids=IDS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_never_swallowed(comparator, activation, place):
    inputs, weight = draw(40, 200, 8)
    inputs[place][(7,) * inputs[place].dim()] = torch.nan
    lse, *gradients = differentiate(native_entity_logsumexp, inputs, weight, comparator, activation)
    assert lse.isnan().all() if place == 2 else lse.isnan().nonzero().tolist() == [[7]]
    assert gradients[2].isnan().any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("answers", [[5], [-1, 2], [3, 2], [2, 2]])
def test_known_answers_out_of_range_or_order_are_refused(answers, dtype):
    inputs, _ = draw(3, 5, 2)
    edges = torch.tensor([0, 0, len(answers), len(answers)])
    known = Known(edges[:-1], edges[1:], torch.tensor(answers, dtype=dtype))
    with pytest.raises(IndexError, match=r"known answers out of range or order.* 0 to 4"):
        native_entity_logsumexp(*inputs, *EUCLIDEAN, known)


def test_no_gradient_no_graph():
    inputs, _ = draw(3, 5, 2)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    with torch.no_grad():
        assert not native_entity_logsumexp(*leaves, *EUCLIDEAN).requires_grad


MEMORY = """
import torch
from pathlib import Path
from hale.scoring.activations import Halin, Hanon
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels.operations import entity_logsumexp
torch.set_num_threads(2)
query, scale = torch.randn(100, 2, requires_grad=True), torch.ones(100, requires_grad=True)
entity = torch.randn(400_000, 2, requires_grad=True)
run = lambda rows, all: entity_logsumexp(
    query[:rows], scale[:rows], entity[:all], SquaredEuclidean(), Hanon()).sum().backward()
run(2, 10)
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
before = peak()
run(100, 400_000)
print(peak() - before)
"""


def python(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_scratch_memory_is_bounded():
    gradient = 400_000 * 2 * 4 / 1024
    assert gradient < int(python(MEMORY)) < gradient + 64 * 1024


FALLBACK = """
import torch
from hale.scoring.activations import Halin, Hanon
from hale.scoring.comparators import SquaredEuclidean
from hale.scoring.kernels import operations
from hale.scoring.kernels.operations import entity_logsumexp
operations.log.warning = lambda text, *values: print(text % values)
inputs = torch.ones(2, 3), torch.ones(2), torch.ones(4, 3)
print(entity_logsumexp(*inputs, SquaredEuclidean(), Hanon()).isfinite().all().item())
"""


def test_without_a_compiler_the_reference_serves():
    hide_ziglang = "import sys; sys.modules['ziglang'] = None\n"
    output = python(hide_ziglang + FALLBACK, PATH="", HALE_KERNEL="").splitlines()
    assert output[0].startswith("the native kernel is not available: no C compiler found; install")
    assert output[1] == "True"


def test_an_unwritable_cache_does_not_matter(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert python(FALLBACK, HALE_CACHE_DIR=str(tmp_path / "file"), HALE_KERNEL="") == "True"


def test_the_cache_is_found_again_and_holds_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("HALE_CACHE_DIR", str(tmp_path))
    path = shared_library(binding.SOURCES, ("ACTIVATION=linear",))
    stamp = path.stat().st_mtime_ns
    assert shared_library(binding.SOURCES, ("ACTIVATION=linear",)) == path
    assert path.stat().st_mtime_ns == stamp
    assert list((tmp_path / "kernels").iterdir()) == [path]


def test_a_failed_build_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("HALE_CACHE_DIR", str(tmp_path))
    with pytest.raises(CompileError, match=r"cc.* failed: .*error"):
        shared_library(binding.SOURCES, ("ACTIVATION=nonsense",))


def test_large_gradients_take_the_pages_of_those_that_are_gone(monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 0)
    monkeypatch.setattr(pages, "_last", [])
    like = torch.empty(3, 5)
    first = pages.empty_like(like).fill_(1)
    second = pages.empty_like(like).fill_(2)
    assert (first == 1).all()
    address = second.data_ptr()
    del second
    third = pages.empty_like(like)
    assert third.data_ptr() == address
    assert third.shape == like.shape
    assert third.is_contiguous()
    view = third[1:]
    del third
    assert pages.empty_like(like).data_ptr() != address
    assert view.data_ptr() == address + 5 * 4
    assert pages.empty_like(torch.empty(4, 5)).numel() == 20


def test_a_gradient_that_is_kept_is_not_that_of_the_next_step(monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 0)
    monkeypatch.setattr(pages, "_last", [])
    inputs, weight = draw(5, 40, 8)
    kept = [
        differentiate(native_entity_logsumexp, inputs, w, *EUCLIDEAN, None)
        for w in (weight, 2 * weight)
    ]
    for one, two in zip(kept[0][1:], kept[1][1:], strict=True):
        assert relative(2 * one, two.double()) < 1e-6
    assert pages._last


def test_the_defaults_of_pytorch_do_not_reach_the_kernel():
    inputs, weight = draw(5, 40, 8)
    expected = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN, None)
    torch.set_default_dtype(torch.float64)
    try:
        found = differentiate(native_entity_logsumexp, inputs, weight, *EUCLIDEAN, None)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
