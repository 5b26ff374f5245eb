"""The largest rate that meets an objective: of queues whose answer is known, and what binds."""

import dataclasses

import numpy as np
import pytest

from calibrate.capacity.binding import unreachable, what_binds
from calibrate.capacity.replica import Replica
from calibrate.capacity.requests import Requests
from calibrate.capacity.search import enough, find_rate
from calibrate.capacity.slo import judge, parse_slo
from calibrate.records.errors import CalibrateError
from sim import EngineLimits, Workload, latency_model, load_architecture, load_hardware
from sim.serving.lengths import Fixed, Normal
from sim.serving.workload import Closed, Constant, Gamma, Poisson, trace
from tests.conftest import GUIDE_H100

H100 = load_hardware({"H100": GUIDE_H100})
ONE_SEAT = EngineLimits(max_num_seqs=1, async_scheduling=False)


def replica(engine, model="roofline-v3", tp=1):
    return Replica(latency_model(model), load_architecture("llama-3.1-8b"), H100, tp, engine)


def service_s(one, prompt=100, output=20):
    alone = Requests(trace([0.0, 1.0], prompt, output)).alone
    return float(one.serve(alone).e2e_us.mean()) / 1e6


def test_one_seat_with_equal_jobs_is_the_queue_of_pollaczek_and_khinchine():
    one = replica(ONE_SEAT)
    service = service_s(one)
    # M/D/1 at half its capacity: a mean time in the system of 1.5 services
    slo = parse_slo([f"e2e_mean={1.5 * service}s"])
    load = Workload(1, Poisson(1.0), Fixed(100), Fixed(20))
    found = [find_rate(one, load, slo, seed, 20_000).rate * service for seed in range(4)]
    assert np.mean(found) == pytest.approx(0.5, rel=0.02)


def test_equal_gaps_fill_one_seat_to_the_last():
    one = replica(ONE_SEAT)
    slo = parse_slo([f"e2e_p99={1.001 * service_s(one)}s"])
    found = find_rate(one, Workload(1, Constant(1.0), Fixed(100), Fixed(20)), slo)
    assert found.rate * service_s(one) == pytest.approx(1.0, rel=0.011)
    assert found.best.holds
    assert not found.beyond.holds
    assert found.beyond.rate <= 1.0101 * found.rate


def test_a_loose_objective_ends_where_the_engine_falls_behind():
    one = replica(ONE_SEAT)
    load = Workload(1, Poisson(1.0), Fixed(100), Fixed(20))
    found = find_rate(one, load, parse_slo(["ttft_p99=10min"]), size=20_000)
    assert found.rate * service_s(one) == pytest.approx(1.0, abs=0.04)
    assert what_binds(found).waits_for == "max_num_seqs"


def test_rates_are_the_same_whatever_the_workload_called_its_own():
    slo = parse_slo(["ttft_p99=500ms"])
    one = replica(EngineLimits(max_num_seqs=64))
    lengths = Normal(200, 50, 1), Normal(50, 10, 1)
    loads = [Workload(10, Gamma(rate, 2.0), *lengths) for rate in (0.1, 1.0, 7.0)]
    first, *others = [find_rate(one, load, slo, seed=3, size=2000).rate for load in loads]
    assert others == [first] * 2


def test_a_recorded_pattern_is_scaled_as_a_whole():
    recorded = trace([0.0, 1.0, 1.5, 5.0], [10, 20, 30, 40], [5, 6, 7, 8])
    scaled = Requests.drawn(recorded, 0).at(6.0)
    assert np.diff(scaled.arrival_us) / 1e6 == pytest.approx(np.array([1.0, 0.5, 3.5]) * 0.6 / 6.0)
    assert scaled.output_tokens.tolist() == [5, 6, 7, 8]


def test_loads_without_a_rate_are_refused():
    with pytest.raises(CalibrateError, match="arrive all at once"):
        Requests.drawn(trace([2.0, 2.0], 10, 10), 0)
    with pytest.raises(CalibrateError, match="closed load has no rate"):
        Requests.drawn(Workload(4, Closed(2), Fixed(8), Fixed(8)), 0)


def test_what_one_request_cannot_meet_is_out_of_reach():
    one = replica(EngineLimits())
    load = Workload(1, Poisson(1.0), Fixed(100), Fixed(20))
    found = find_rate(one, load, parse_slo(["ttft_p99=1us", "itl_p99=1s"]))
    assert (found.best, found.rate) == (None, 0.0)
    assert what_binds(found).limits == ("ttft_p99",)
    assert "out of reach even for one request at a time: TTFT p99" in unreachable(found)


def test_long_steps_bind_by_itl_and_few_seats_by_ttft():
    load = Workload(1, Poisson(1.0), Fixed(512), Fixed(128))
    slow = find_rate(replica(EngineLimits()), load, parse_slo(["itl_p99=12ms"]))
    assert what_binds(slow).words == "ITL p99: steps take too long"
    few = replica(EngineLimits(max_num_seqs=8))
    queued = what_binds(find_rate(few, load, parse_slo(["ttft_p99=200ms"])))
    assert queued.waits_for == "max_num_seqs"
    assert queued.words == "TTFT p99: requests wait for max_num_seqs"


def test_a_small_cache_is_named():
    tight = replica(EngineLimits(kv_cache_tokens=4000))
    load = Workload(1, Poisson(1.0), Fixed(512), Fixed(128))
    assert what_binds(find_rate(tight, load, parse_slo(["ttft_p99=500ms"]))).waits_for == "kv_cache"


def test_the_rate_found_holds_and_a_little_more_does_not_on_the_same_requests():
    slo = parse_slo(["ttft_p99=300ms", "itl_p99=15ms"], goodput=0.99)
    one = replica(EngineLimits())
    found = find_rate(one, Workload(1, Poisson(1.0), Fixed(300), Fixed(60)), slo, seed=5)
    skipped = int(0.2 * len(found.requests))
    assert judge(one.serve(found.requests.at(found.rate)), slo, skipped).met
    beyond = one.serve(found.requests.at(found.beyond.rate))
    assert not judge(beyond, slo, skipped).met or found.beyond.falls_behind


def test_more_load_takes_more_requests_to_settle():
    assert enough(10) == 2000
    assert enough(500) == 6000
    assert enough(1e6) == 20_000


def test_a_faster_gpu_carries_more():
    slo = parse_slo(["ttft_p99=1s", "itl_p99=30ms"])
    load = Workload(1, Poisson(1.0), Fixed(300), Fixed(60))
    one = replica(EngineLimits())
    faster = dataclasses.replace(
        one, hardware=H100.with_values({"BwPeakTBs": 6.7, "TFlopsPeak": 1979.0})
    )
    assert find_rate(faster, load, slo).rate > 1.3 * find_rate(one, load, slo).rate
