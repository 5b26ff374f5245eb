"""Speed of recommendations: a simulated point on one core, and the sweep of a GPU; targets are asserted in CPU time."""

import time

import pytest

from calibrate.capacity.candidates import Choices, lay_out
from calibrate.capacity.recommend import Stated, recommend
from calibrate.capacity.requests import Requests
from calibrate.capacity.search import enough, find_rate
from calibrate.capacity.slo import parse_slo
from calibrate.capacity.sweep import Question
from calibrate.capacity.uncertainty import uncertainty_of
from sim import Workload, latency_model, load_architecture, load_hardware
from sim.serving.lengths import Normal
from sim.serving.workload import Poisson
from tests.conftest import GUIDE_H100

POINT_S = 0.050
SWEEP_S, CORES = 10.0, 2
DRAWS = 32

H100 = load_hardware({"H100": GUIDE_H100})
SLO = parse_slo(["ttft_p99=2s", "itl_p99=50ms"])
CHATBOT = Workload(1, Poisson(1.0), Normal(256, 100, 1, 1024), Normal(256, 100, 1, 1024))
CHOICES = Choices(
    [H100], {"H100": latency_model("roofline-v3")}, [1, 2, 4, 8], [256, 1024], [2048, 8192]
)


def cpu_seconds(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    replicas, _ = lay_out(CHOICES, load_architecture("llama-3.1-8b"))
    find_rate(next(iter(replicas.values())), CHATBOT, SLO, size=200)


@pytest.mark.parametrize("tp", [1, 8])
def test_a_simulated_point(tp):
    replicas, _ = lay_out(CHOICES, load_architecture("llama-3.1-8b"))
    replica = next(one for key, one in replicas.items() if key.tp == tp)
    found = find_rate(replica, CHATBOT, SLO)
    requests = Requests.drawn(CHATBOT, 1, enough(600)).at(found.rate)
    seconds = min(cpu_seconds(lambda: replica.serve(requests))[1] for _ in range(10))
    print(
        f"\na point of {len(requests):,} requests at {found.rate:.3g} a second: "
        f"{seconds * 1e3:.1f} ms (target {POINT_S * 1e3:g})"
    )
    assert seconds <= POINT_S


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b"])
def test_a_sweep_of_four_degrees_and_four_limits_with_bands(model):
    question = Question(CHATBOT, SLO, DRAWS, seed=0)
    unknown = {"H100": uncertainty_of("H100", None, DRAWS, 0)}

    def sweep():
        return recommend(
            CHOICES, load_architecture(model), question, Stated(None, {}), unknown, CORES
        )

    found, seconds = cpu_seconds(sweep)
    print(
        f"\n{model}: {len(found.choices)} candidates, {DRAWS} draws: {seconds:.1f} s of processor time, "
        f"{seconds / CORES:.1f} s on {CORES} cores (target {SWEEP_S:g})"
    )
    assert seconds / CORES <= SWEEP_S
