"""The compiled scheduler against a plain-Python one, and against what must hold of any schedule."""

import dataclasses
import math
import sys

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba.core import caching

from sim import (
    Batch,
    EngineLimits,
    SimError,
    Trace,
    WorkloadError,
    load_architecture,
    load_hardware,
    simulate,
)
from sim.architecture import Architecture, Experts
from sim.models.registry import PARAMETERS
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v3.model import RooflineV3
from sim.serving import scheduler_start, step_loop
from sim.serving.step_kernels import step_kernel
from sim.serving.workload import trace
from tests.conftest import GUIDE_H100
from tests.sim.reference_scheduler import Reference

LLAMA = load_architecture("llama-3.1-8b")
H100 = load_hardware({"H100": GUIDE_H100})
MODEL = RooflineV1()


@st.composite
def servings(draw):
    """A few requests, often more than the engine's seats, memory and budget can take at once."""
    size = draw(st.integers(1, 14))
    block_size = draw(st.sampled_from([1, 3, 4, 16]))
    tokens = st.integers(1, draw(st.sampled_from([4, 12, 40])))
    prefix_tokens = draw(st.lists(st.integers(0, 30), max_size=3))
    prefix = [draw(st.integers(-1, len(prefix_tokens) - 1)) for _ in range(size)]
    prompt = [draw(tokens) + (prefix_tokens[p] if p >= 0 else 0) for p in prefix]
    for i in range(size):  # some prompts are nothing but their prefix
        if prefix[i] >= 0 and prefix_tokens[prefix[i]] > 0 and draw(st.booleans()):
            prompt[i] = prefix_tokens[prefix[i]]
    output = [draw(tokens) for _ in range(size)]
    cached = [draw(st.integers(0, n)) if draw(st.booleans()) else 0 for n in prompt]
    gap = draw(st.sampled_from([0.0, 3_000.0, 8_000.0, 40_000.0]))
    arrivals = np.cumsum([draw(st.floats(0, 1)) * gap for _ in range(size)])
    if draw(st.booleans()):
        arrivals = np.where(np.arange(size) < draw(st.integers(1, size)), arrivals[0], np.inf)
    longest = max(p + o for p, o in zip(prompt, output, strict=True))
    seats = draw(st.integers(1, 8))
    blocks = draw(st.integers(0, 12)) + -(-longest // block_size) + 1
    chunked = draw(st.booleans())
    engine = EngineLimits(
        max_num_batched_tokens=max(draw(st.integers(1, 64)), seats, 0 if chunked else longest),
        max_num_seqs=seats,
        kv_cache_tokens=blocks * block_size,
        block_size=block_size,
        chunked_prefill=chunked,
        async_scheduling=draw(st.booleans()),
        prefix_caching=draw(st.booleans()),
        prefill_first=draw(st.booleans()),
        api_us=draw(st.sampled_from([0.0, 500.0])),
    )
    columns = (np.array(c, dtype=np.int64) for c in (prompt, output, cached, prefix, prefix_tokens))
    return Trace(arrivals, *columns, warm=draw(st.booleans())), engine


def reference(requests, engine, model=MODEL):
    kernel = step_kernel(model, LLAMA, H100, 1)
    return Reference(requests, engine, kernel.step_time_us).run()


def check_against_reference(requests, engine, model=MODEL):
    result = simulate(requests, engine, model, LLAMA, H100)
    expected = reference(requests, engine, model)
    steps = result.steps
    rows = np.column_stack(
        [
            steps.start_us,
            steps.duration_us,
            steps.table.moments.T,
            steps.waited_for,
            steps.kv_blocks,
        ]
    )
    assert rows.tolist() == np.array(expected.steps).tolist()
    for name, field in (
        ("joined_us", "joined"),
        ("first_token_us", "first"),
        ("finish_us", "finish"),
    ):
        assert getattr(result, name).tolist() == [getattr(r, field) for r in expected.requests]
    assert result.preemptions.tolist() == [r.preemptions for r in expected.requests]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(servings(), st.sampled_from([MODEL, RooflineV3()]))
@pytest.mark.slow
def test_the_schedule_is_that_of_the_reference(serving, model):
    check_against_reference(*serving, model)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(servings())
def test_what_must_hold_of_any_schedule(serving):
    requests, engine = serving
    result = simulate(requests, engine, MODEL, LLAMA, H100)
    steps = result.steps
    num_prefill, new, _, single, _, _, num_decode, _ = steps.table.moments
    # every token is made, and computed at least once but for what is cached
    assert np.isfinite(result.finish_us).all()
    computed = (new + single + num_decode).sum()
    assert (
        computed + requests.prompt_tokens.sum()
        >= (requests.prompt_tokens + requests.output_tokens - 1).sum()
    )
    if not result.preemptions.any() and not engine.prefix_caching:
        assert computed == (requests.prompt_tokens + requests.output_tokens - 1).sum()
        assert num_decode.sum() == (requests.output_tokens - 1).sum()
    # causality
    assert (result.joined_us >= result.arrival_us + engine.api_us - 1e-6).all()
    assert (result.first_token_us > result.joined_us).all()
    assert (result.finish_us >= result.first_token_us).all()
    assert (result.itl_us[requests.output_tokens > 1] > 0).all()
    assert (np.diff(steps.start_us) >= steps.duration_us[:-1] * (1 - 1e-12)).all()
    # first come, first served
    assert (np.diff(result.joined_us) >= 0).all()
    # limits
    assert (steps.kv_blocks <= engine.blocks).all()
    assert (num_prefill + num_decode <= engine.max_num_seqs).all()
    assert (new + single + num_decode <= engine.max_num_batched_tokens).all()
    # The one token a preempted request lacks is a decode
    if engine.prefill_first and not result.preemptions.any():
        assert not ((num_prefill > 0) & (num_decode > 0)).any()


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("prefill_first", [False, True])
@pytest.mark.parametrize("model", [MODEL, RooflineV3()], ids=lambda model: model.name)
def test_a_longer_run_that_preempts_is_that_of_the_reference(ahead, prefill_first, model):
    rng = np.random.default_rng(7)
    requests = trace(
        np.cumsum(rng.exponential(0.005, 150)), rng.integers(1, 700, 150), rng.integers(1, 90, 150)
    )
    engine = EngineLimits(
        max_num_batched_tokens=512,
        max_num_seqs=24,
        kv_cache_tokens=4000,
        async_scheduling=ahead,
        prefill_first=prefill_first,
    )
    check_against_reference(requests, engine, model)
    assert simulate(requests, engine, model, LLAMA, H100).preemptions.sum() > 5


@pytest.mark.parametrize("per_layer_overhead", [False, True])
@pytest.mark.parametrize(
    ("name", "tp"), [("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("bloom-7b1", 2)]
)
def test_the_compiled_step_time_is_the_models(name, tp, per_layer_overhead):
    rng = np.random.default_rng(tp)
    arch = load_architecture(name)
    model = RooflineV1(per_layer_overhead)
    hardware = H100.with_values(
        {key: value * rng.uniform(0.5, 1.5) for key, value in GUIDE_H100.items()}
    )
    kernel = step_kernel(model, arch, hardware, tp)
    for _ in range(100):
        prefill = [
            (int(rng.integers(0, 4000)), int(rng.choice([1, 7, 300, 4000])))
            for _ in range(rng.integers(0, 5))
        ]
        decode = [
            (int(rng.integers(1, 9000)),) for _ in range(rng.integers(0 if prefill else 1, 150))
        ]
        batch = Batch.from_requests(prefill, decode)
        expected = model.step_time_us(batch, arch, hardware, tp)
        assert kernel.step_time_us(batch.moments) == pytest.approx(expected, rel=1e-12)


MIXTURE = Architecture(
    "mixture", 4, 512, 8, 2, 1024, 3000, experts=Experts(16, 2, 700, 300, num_dense_layers=1)
)
ALL_ACTIVE = dataclasses.replace(MIXTURE, name="all-active", experts=Experts(4, 4, 700))
FP8 = LLAMA.with_dtype("fp8")


def rooflines_v3():
    """Some or all of the parameters at random, host time often the longer."""
    bounds = {name: p for name, p in PARAMETERS.items() if name in RooflineV3.defaults()}
    ranges = {
        name: st.floats(max(p.lower, 0.05 if p.lower == 0 else p.lower), p.upper)
        for name, p in bounds.items()
    }
    chosen = st.fixed_dictionaries(
        {}, optional={name: range_ | st.just(0.0) for name, range_ in ranges.items()}
    )
    positive = {"gemmMfu", "attentionMfu", "weightBwFraction", "kvBwFraction", "allReduceBwGBps"}
    return chosen.map(lambda values: {k: v for k, v in values.items() if v or k not in positive})


@st.composite
def batches(draw):
    """A step of at least one request."""
    tokens = st.integers(1, 9000)
    prefill = draw(
        st.lists(
            st.tuples(st.integers(0, 9000), st.just(1) | tokens, st.integers(1, 20)), max_size=4
        )
    )
    decode = draw(
        st.lists(st.tuples(tokens, st.integers(1, 300)), min_size=0 if prefill else 1, max_size=4)
    )
    return Batch.from_requests(prefill, decode)


@pytest.mark.parametrize(
    "arch", [LLAMA, FP8, MIXTURE, ALL_ACTIVE], ids=lambda arch: f"{arch.name}-{arch.dtype}"
)
@settings(max_examples=150, deadline=None)
@given(
    batches(), rooflines_v3(), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["H100", "A100-SXM"])
)
@pytest.mark.slow
def test_roofline_v3_compiled_is_the_model(arch, batch, values, tp, gpu):
    model = RooflineV3()
    hardware = load_hardware({gpu: {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, **values}})
    expected = model.step_time_us(batch, arch, hardware, tp)
    assert step_kernel(model, arch, hardware, tp).step_time_us(batch.moments) == pytest.approx(
        expected, rel=1e-12
    )


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A model that the scheduler has no compiled form of."""

    name = "foreign"
    scale: float = 1.0

    def limits(self, arch):
        return []

    def check_length(self, arch, longest):
        return None

    def step_time_us(self, batch, arch, hardware, tp=1):
        return self.scale * MODEL.step_time_us(batch, arch, hardware, tp)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(servings())
def test_any_other_model_is_asked_for_every_step(serving):
    requests, engine = serving
    ours = simulate(requests, engine, MODEL, LLAMA, H100)
    foreign = simulate(requests, engine, Foreign(), LLAMA, H100)
    np.testing.assert_allclose(foreign.finish_us, ours.finish_us, rtol=1e-9)
    assert foreign.steps.table.moments.tolist() == ours.steps.table.moments.tolist()


def test_a_model_without_a_duration_is_named():
    with pytest.raises(
        SimError, match=r"foreign gives a step of llama-3.1-8b on H100 no finite duration"
    ):
        simulate(trace([0.0], 5, 5), EngineLimits(), Foreign(math.nan), LLAMA, H100)


def test_a_request_that_could_never_be_served_is_refused():
    with pytest.raises(
        WorkloadError, match="request 1 needs 7 blocks of 16 tokens; the KV cache has 6"
    ):
        simulate(
            trace([0.0, 0.0], [50, 90], 10), EngineLimits(kv_cache_tokens=100), MODEL, LLAMA, H100
        )
    with pytest.raises(WorkloadError, match="without chunked prefill"):
        simulate(trace([0.0], 9000, 1), EngineLimits(chunked_prefill=False), MODEL, LLAMA, H100)


def test_the_loop_keeps_no_array_alive():
    requests = trace([0.0, 0.0], 20, 30)
    engine = EngineLimits()
    kernel = step_kernel(MODEL, LLAMA, H100, 1)
    limits = scheduler_start.limits(requests, engine, kernel)
    state = scheduler_start.state(requests, engine, limits)
    before = [sys.getrefcount(array) for array in state]
    assert step_loop.advance(state, limits, kernel.kind, kernel.constants) == step_loop.DONE
    assert [sys.getrefcount(array) for array in state] == before


def test_a_place_without_a_writable_folder_compiles_anew(monkeypatch):
    for name in ("CacheImpl", "CompileResultCacheImpl"):
        monkeypatch.setattr(getattr(caching, name), "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(reference)
    assert callable(step_loop._loop(1))
