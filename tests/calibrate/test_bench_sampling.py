"""When a point has been sampled enough, and what is done about a GPU that slows itself down. No GPU is needed."""

import contextlib
import csv
import itertools
from types import SimpleNamespace

import pytest

from calibrate.bench import session
from calibrate.bench.point import Point, Prepared, Stage
from calibrate.bench.retry import HOPELESS, RESTS_S, Retries
from calibrate.bench.session import Findings, Limits, measure_stages
from calibrate.bench.timing import Sampling, measure
from tests.calibrate.fake_gpu import STEADY, THROTTLED, FakeDevice

NOBODY_WAITS_S = 1e6
ONCE = Sampling(min_samples=2, max_samples=2)


def idle():
    """A run that does nothing."""


def timed(times, timeout_s=NOBODY_WAITS_S, **sampling):
    device = FakeDevice(itertools.cycle(times))
    return measure(device, idle, Sampling(**sampling), timeout_s), device


def test_quiet_samples_end_at_the_fewest():
    timing, device = timed([100.0, 100.2])
    assert (timing.replicates, device.asked("device")) == (10, [10])
    assert timing.latency_us == pytest.approx(100.1)
    assert timing.noise == pytest.approx(0.00105, rel=0.01)


def test_noise_is_sampled_until_the_mean_is_known_to_half_a_percent():
    """A tenth of noise takes 400 samples; the rounds are 10, 20, 40 … in all, so 640."""
    timing, device = timed([90.0, 110.0])
    assert timing.noise == pytest.approx(0.1, rel=1e-3)
    assert timing.replicates == 640
    assert device.asked("device") == [10, 10, 20, 40, 80, 160, 320]


def test_a_coarser_noise_ends_earlier():
    assert timed([90.0, 110.0], max_noise=0.02)[0].replicates == 40


def test_samples_have_a_largest_number():
    assert timed([90.0, 110.0], max_samples=100)[0].replicates == 100


def test_no_more_are_begun_once_the_time_is_up():
    assert timed([90.0, 110.0], timeout_s=0.0, min_samples=7)[0].replicates == 7


def test_a_batch_follows_the_cold_samples_and_is_a_fifth_of_them():
    timing, device = timed([100.0])
    assert device.calls == [("device", 10), ("batch", 2)]
    assert timing.batch_us == 5.0


def point(size=1):
    return Point({"op": "read", "bytes": size}, 1, lambda: Prepared(idle))


def retried(retries, states, times=(1.0, 1.0, 2.0, 2.0, 3.0, 3.0)):
    device = FakeDevice(itertools.cycle(times), iter(states))
    one = point()
    return *retries.measured(device, one, one.prepare(), ONCE, 0.0), device


def test_a_throttled_point_is_measured_again_after_a_rest():
    retries = Retries()
    timing, state, device = retried(retries, [THROTTLED, STEADY])
    assert device.asked("rest") == [RESTS_S[0]]
    assert (timing.latency_us, state, retries.again) == (2.0, STEADY, 1)


def test_a_point_that_stays_throttled_is_kept_and_says_so():
    retries = Retries()
    timing, state, device = retried(retries, [THROTTLED] * 3)
    assert device.asked("rest") == list(RESTS_S)
    assert (timing.latency_us, state) == (3.0, THROTTLED)
    assert (retries.again, retries.in_vain) == (2, 1)


def test_a_gpu_that_is_slow_throughout_is_not_waited_for():
    retries = Retries(in_vain=HOPELESS)
    *_, device = retried(retries, [THROTTLED])
    assert device.asked("rest") == []
    *_, device = retried(retries, [STEADY])
    assert retries.in_vain == 0
    *_, device = retried(retries, [THROTTLED, STEADY])
    assert device.asked("rest") == [RESTS_S[0]]


def test_a_campaign_has_the_last_try_its_noise_and_a_note(tmp_path, monkeypatch):
    torch = SimpleNamespace(inference_mode=contextlib.nullcontext, OutOfMemoryError=MemoryError)
    monkeypatch.setattr(session, "import_torch", lambda: torch)
    states = [THROTTLED, STEADY, *[THROTTLED] * 3]
    device = FakeDevice(itertools.cycle([9.0, 11.0]), iter(states))
    findings = Findings()
    stage = Stage("memory", [point(1), point(2), point(3)], 0.0, 1.0)
    measure_stages(device, [stage], tmp_path, Limits(100, None, ONCE), findings, lambda *_: None)
    with (tmp_path / "memory.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sm_clock_mhz"] for row in rows] == ["1755", "1200", "1755"]
    assert [row["noise"] for row in rows] == ["0.14142"] * 3
    assert [row["batch_us"] for row in rows] == ["5.000"] * 3
    assert findings.notes() == [
        "3 measurements were repeated after a rest: the GPU had slowed itself down",
        "1 point measured while the GPU slowed itself down: power cap",
    ]
