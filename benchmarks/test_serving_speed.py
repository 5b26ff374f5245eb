"""Speed of the serving simulator on one core, compiled code read from the disk; targets are asserted."""

import subprocess
import sys
import time

import pytest

from sim import EngineLimits, Workload, load_architecture, load_hardware
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v3.model import RooflineV3
from sim.models.roofline_v4.model import RooflineV4
from sim.serving.lengths import Fixed, Normal
from sim.serving.simulation import simulate
from sim.serving.workload import Closed, Poisson
from tests.conftest import GUIDE_H100, ROOT

STEPS_PER_S = 2.5e6
STEPS_OF_EXPERTS_PER_S = 5e6
CALL_S = 2e-3
OPEN_LOAD_S = 1.0
FIRST_CALL_S = 5.0

V1 = RooflineV1()
V3 = RooflineV3()
LLAMA = load_architecture("llama-3.1-8b")
H100 = load_hardware({"H100": GUIDE_H100})


def serve(workload, model=V3):
    return simulate(workload, EngineLimits(), model, LLAMA, H100)


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    serve(Workload(2, Closed(1), Fixed(8), Fixed(8)))


@pytest.mark.parametrize("model", [V1, V3], ids=lambda model: model.name)
@pytest.mark.parametrize("lengths", [Fixed(512), Normal(512, 128)], ids=["fixed", "random"])
def test_steps_of_64_requests(benchmark, lengths, model):
    workload = Workload(20_000, Closed(64), lengths, lengths)
    result = benchmark.pedantic(serve, (workload, model), rounds=5, warmup_rounds=1)
    rate = len(result.steps) / benchmark.stats.stats.median
    print(
        f"\n{benchmark.name}: {rate / 1e6:.2f} million steps a second (target {STEPS_PER_S / 1e6:g})"
    )
    assert rate >= STEPS_PER_S


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-235b-a22b"])
def test_steps_of_64_requests_of_experts(benchmark, name):
    workload = Workload(20_000, Closed(64), Fixed(512), Fixed(512))
    arch = load_architecture(name).with_ep(8)
    arguments = (workload, EngineLimits(), RooflineV4(), arch, H100, 8)
    result = benchmark.pedantic(simulate, arguments, rounds=5, warmup_rounds=1)
    rate = len(result.steps) / benchmark.stats.stats.median
    target = STEPS_OF_EXPERTS_PER_S / 1e6
    print(f"\n{benchmark.name}: {rate / 1e6:.2f} million steps a second (target {target:g})")
    assert rate >= STEPS_OF_EXPERTS_PER_S


@pytest.mark.parametrize("size", [500, 1000])
def test_a_call_as_a_fit_makes_thousands_of(benchmark, size):
    workload = Workload(size, Poisson(8), Fixed(250), Fixed(250)).draw(0)
    benchmark.pedantic(serve, (workload,), rounds=50, warmup_rounds=2)
    print(
        f"\n{benchmark.name}: {benchmark.stats.stats.median * 1e3:.2f} ms (target {CALL_S * 1e3:g})"
    )
    assert benchmark.stats.stats.median <= CALL_S


def test_ten_thousand_requests_at_four_a_second(benchmark):
    workload = Workload(10_000, Poisson(4), Fixed(512), Fixed(512))
    benchmark.pedantic(serve, (workload,), rounds=5, warmup_rounds=1)
    print(f"\n{benchmark.name}: {benchmark.stats.stats.median:.3f} s (target {OPEN_LOAD_S:g})")
    assert benchmark.stats.stats.median <= OPEN_LOAD_S


def test_the_first_call_of_a_process():
    code = "from benchmarks.test_serving_speed import *; serve(Workload(10, Poisson(4), Fixed(512), Fixed(512)))"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    seconds = time.perf_counter() - start
    print(f"\nfirst call of a process, imports included: {seconds:.2f} s (target {FIRST_CALL_S:g})")
    assert seconds <= FIRST_CALL_S
