"""The watch on steps of known truth: what it finds, what it names, and what it leaves alone."""

import math

import numpy as np
import pandas as pd
import pytest

from calibrate.watch.as_plain import as_plain
from calibrate.watch.causes import question
from calibrate.watch.detector import Detector, log_threshold
from calibrate.watch.noise import learn_noise
from calibrate.watch.reference import learn
from calibrate.watch.refit import refit
from calibrate.watch.ring import Steps
from calibrate.watch.rows import Rows
from calibrate.watch.slices import Settings, Slice
from calibrate.watch.thresholds import BETS, STEPS_A_DAY, TOLERANCE
from calibrate.watch.verdicts import moment
from calibrate.watch.watch import Watch
from calibrate.watch.watched import watched
from calibrate.watch.windows import Window, kept
from sim import StepTable, latency_model
from tests.watched import MODEL, noise, traffic, watched_rows

BY = ("node", "engine", "model")
V1 = latency_model("roofline-v1")


def watch_of(hardware, window=300, by=BY):
    return Watch(V1, hardware, by, Settings(window, 0.01))


def moved(steps, hardware, **values):
    """ln of how many times longer steps take at other values."""
    table = StepTable.from_columns(steps)
    return np.log(
        V1.predict_us(table, hardware.with_values(values)) / V1.predict_us(table, hardware)
    )


def fleet(hardware, changes, *, size=12_000, begin=9000, phases=(0.6, 0.4, 0.0), by=BY, **label):
    """A watch of some nodes, each with its change from step ``begin`` on: values, or a phase and its factor."""
    watch = watch_of(hardware, by=by)
    for seed, (node, change) in enumerate(changes.items()):
        steps = traffic(size, seed=seed, phases=phases)
        extra = noise(size, 0.04, 0.2, seed)
        if isinstance(change, dict):
            extra[begin:] += moved(steps, hardware, **change)[begin:]
        elif change is not None:
            is_decode = (steps["num_prefill_requests"] == 0).to_numpy()
            rows = is_decode if change[0] == "decode" else ~is_decode
            extra[begin:] += (rows * np.log(change[1]))[begin:]
        watch.take_in(watched_rows(steps, hardware, log_extra=extra, node=node, **label))
    return watched(watch, "calibration")


def slice_of(deviation, window=1000, number=1):
    """A slice that has seen steps of one shape with these deviations."""
    one = Slice(("decode",), number, Settings(window, 0.01))
    size = len(deviation)
    sizes = np.tile(np.array([[5.0], [10.0], [0.0]]), size)
    steps = Steps(
        np.zeros((8, size)), np.zeros(size, np.intp), deviation, np.arange(size, dtype=float)
    )
    one.take_in(steps, sizes)
    return one


def test_the_threshold_is_the_bound_of_a_day_over_all_slices():
    batches = STEPS_A_DAY / 50
    assert log_threshold(1, 50, 0.01) == pytest.approx(math.log(batches * 2 * 2 * len(BETS) / 0.01))
    chances = [
        2 * len(BETS) * batches / math.exp(log_threshold(number, 50, 0.01))
        for number in range(1, 5000)
    ]
    assert sum(chances) < 0.01
    assert sum(chances) == pytest.approx(0.01, rel=1e-3)


def test_cusum_of_a_bet_grows_by_the_e_value_of_each_batch_and_never_falls_below_none():
    detector = Detector()
    detector.update(2.0, 2.0, 10.0)
    detector.update(2.0, 2.0, 20.0)
    assert detector.logs[:4] == pytest.approx([2 * (bet * 2 - bet**2 / 2) for bet in BETS])
    assert detector.level == pytest.approx(4.0)
    assert detector.began == 10.0
    detector.update(-9.0, -9.0, 30.0)
    detector.update(3.0, 3.0, 40.0)
    assert detector.since[2] == 40.0
    assert detector.logs[2] == pytest.approx(2 * 3 - 2)


def test_bets_towards_faster_mirror_those_towards_slower():
    slower, faster = Detector(), Detector()
    slower.update(1.5, 1.5, 0.0)
    faster.update(-1.5, -1.5, 0.0)
    assert slower.logs.tolist() == faster.logs[[4, 5, 6, 7, 0, 1, 2, 3]].tolist()


def test_the_reference_takes_up_a_misfit_by_shape_so_that_other_traffic_is_no_drift():
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.uniform(0, 8, 9000), rng.uniform(8, 12, 9000), np.zeros(9000)])
    served = np.zeros(9000, dtype=np.intp)
    misfit = 0.1 + 0.03 * sizes[0] - 0.02 * sizes[1] + 0.05 * (np.floor(sizes[0]) == 3)
    known = learn(misfit + 0.02 * rng.standard_normal(9000), sizes, served)
    large = np.stack([np.full(50, 7.5), np.full(50, 11.5), np.zeros(50)])
    expected = 0.1 + 0.03 * 7.5 - 0.02 * 11.5
    assert known.expected(large, served[:50]) == pytest.approx(expected, abs=0.006)
    beyond = np.array([[11.0], [11.0], [0.0]])
    assert np.isnan(known.expected(beyond, served[:1]))
    assert np.isnan(known.expected(large[:, :1], np.array([1])))
    again = type(known).from_plain(known.to_plain())
    assert again.expected(sizes, served).tolist() == known.expected(sizes, served).tolist()


def test_noise_of_independent_steps_and_of_steps_that_err_together():
    alone = learn_noise(noise(10_000, 0.05), 50)
    assert alone.step == pytest.approx(0.05, rel=0.05)
    assert alone.batch == pytest.approx(0.05 / 50**0.5, rel=0.35)
    together = learn_noise(noise(20_000, 0.05, 0.9), 50)
    assert together.inflation == pytest.approx(1.9 / 0.1, rel=0.5)
    assert together.standard_error(2000) == pytest.approx(0.05 * (19 / 2000) ** 0.5, rel=0.3)


def test_a_pause_of_a_hundred_steps_length_is_no_drift():
    deviation = noise(60_000, 0.04)
    deviation[12_000::500] = np.log(100.0)
    assert slice_of(deviation).alarms == []


def test_a_slowdown_of_three_percent_is_found_within_a_thousand_steps_and_estimated():
    deviation = noise(14_000, 0.05, seed=3)
    deviation[12_000:] += np.log(1.03)
    (alarm,) = slice_of(deviation).alarms
    assert 11_800 <= alarm.since <= 12_400
    assert 12_000 <= alarm.at <= 13_000
    assert alarm.settled
    assert alarm.shift == pytest.approx(0.03, abs=0.006)


def test_a_change_within_the_tolerance_is_none_and_a_speed_up_is_found():
    deviation = noise(40_000, 0.03)
    deviation[12_000:] += 0.8 * TOLERANCE
    assert slice_of(deviation).alarms == []
    deviation[12_000:] += np.log(0.94)
    assert slice_of(deviation).alarms[0].shift == pytest.approx(0.94 * 1.008 - 1, abs=0.006)


@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.002, 0.004])
def test_steps_that_hardly_scatter_drift_too(spread):
    deviation = noise(14_000, spread)
    deviation[12_000:] += np.log(1.03)
    (alarm,) = slice_of(deviation).alarms
    assert alarm.shift == pytest.approx(0.03, abs=0.002)
    assert alarm.at < 13_000


def test_the_way_back_is_a_second_alarm_which_ends_at_the_reference():
    deviation = noise(30_000, 0.04)
    deviation[12_000:20_000] += np.log(1.08)
    first, second = slice_of(deviation).alarms
    assert first.shift == pytest.approx(0.08, abs=0.008)
    assert second.log_change == pytest.approx(0.0, abs=0.006)
    assert second.shift == pytest.approx(1 / 1.08 - 1, abs=0.008)


def test_a_window_has_its_factor_and_the_change_against_the_reference():
    one = slice_of(0.2 + noise(11_000, 0.05))
    assert len(one.windows) == 11
    assert one.windows[-1].factor == pytest.approx(np.exp(0.2), rel=0.01)
    assert one.windows[-1].change == pytest.approx(0.0, abs=0.01)
    low, high = one.windows[-1].ci90
    assert high / low == pytest.approx(np.exp(2 * 1.6449 * 0.05 / 1000**0.5), rel=0.01)


def test_windows_that_are_too_many_are_put_together_in_pairs():
    windows = [Window(n, n + 1, 10, 0.1, 0.2, n % 2, 0.3) for n in range(401)]
    half = kept(windows)
    assert len(half) == 201
    assert half[0] == Window(0, 2, 20, 0.1, 0.2, 0.5, pytest.approx(0.3 / 2**0.5))
    assert half[-1] == windows[-1]


@pytest.mark.parametrize(
    ("name", "value"), [("BwEffConstant", 0.67), ("mfuPrefill", 0.6), ("TOverheadMicros", 900.0)]
)
def test_the_parameter_that_moved_is_named_with_its_value(h100, name, value):
    steps = traffic(2500, seed=5, phases=(0.6, 0.4, 0.0))
    deviation = moved(steps, h100, **{name: value}) + noise(2500, 0.04, seed=5)
    table = StepTable.from_columns(steps)
    found = refit(V1, h100, table, deviation, np.full(2500, 0.04), 1.0)
    (one,) = found.moved
    assert (one.name, one.was) == (name, V1.parameters(h100)[name])
    assert one.now == pytest.approx(value, abs=4 * one.stderr)
    assert one.stderr < 0.05 * value
    assert name not in [other.name for other in (*found.rivals, *found.stayed)]
    assert {"mfuDecode", "BwEffConstant"} - {name} <= {other.name for other in found.stayed}
    assert found.explained > 0.8


def test_two_parameters_that_moved_are_both_named(h100):
    steps = traffic(4000, seed=6, phases=(0.5, 0.5, 0.0))
    change = moved(steps, h100, BwEffConstant=0.66, mfuPrefill=0.6)
    table = StepTable.from_columns(steps)
    found = refit(V1, h100, table, change + noise(4000, 0.03), np.full(4000, 0.03), 1.0)
    assert {one.name for one in found.moved} == {"BwEffConstant", "mfuPrefill"}
    assert set(found.covariance) == {"BwEffConstant", "mfuPrefill"}


def test_one_node_apart(h100):
    found = fleet(h100, {"n1": None, "n2": {"BwEffConstant": 0.66}, "n3": None})
    (said,) = found.verdicts
    assert said.kind == "node"
    assert "node n2 alone (n1, n3 did not move)" in said.sentence
    assert "BwEffConstant 0.72 → 0.6" in said.sentence
    assert "memory clock?" in said.sentence
    assert "since step 9," in said.sentence or "since step 8," in said.sentence
    assert found.has_drifted


def test_all_nodes_drift(h100):
    slower = {"BwEffConstant": 0.62, "mfuPrefill": 0.55}
    found = fleet(h100, {"n1": slower, "n2": slower})
    assert [said.kind for said in found.verdicts] == ["all"]
    assert "all 2 nodes" in found.verdicts[0].sentence
    assert "engine upgrade" in found.verdicts[0].advice


def test_one_phase_apart(h100):
    found = fleet(h100, {"n1": ("prefill", 1.1), "n2": ("prefill", 1.1)})
    assert [said.kind for said in found.verdicts] == ["phase"]
    assert "phase prefill alone (decode did not move)" in found.verdicts[0].sentence
    assert found.changes[0].refit.moved[0].name == "mfuPrefill"


def test_one_model_apart(h100):
    other = "llama-2-13b"
    watch = watch_of(h100)
    for seed, model in enumerate((MODEL, other)):
        steps = traffic(6000, seed=seed, models=(model,), phases=(1.0, 0.0, 0.0))
        extra = noise(6000, 0.04, seed=seed)
        extra[4000:] += np.log(1.06) * (model == other)
        watch.take_in(watched_rows(steps, h100, log_extra=extra))
    (said,) = watched(watch, "c").verdicts
    assert said.kind == "model"
    assert f"model {other} alone ({MODEL} did not move)" in said.sentence
    assert "One node is watched" in said.sentence


def test_one_engine_apart(h100):
    watch = watch_of(h100)
    for seed, engine in enumerate(("vllm 0.19", "vllm 0.20")):
        steps = traffic(6000, seed=seed, phases=(1.0, 0.0, 0.0))
        extra = noise(6000, 0.04, seed=seed)
        extra[4000:] += np.log(0.94) * (engine == "vllm 0.20")
        watch.take_in(watched_rows(steps, h100, log_extra=extra, engine=engine))
    (said,) = watched(watch, "c").verdicts
    assert (said.kind, "shorter" in said.sentence) == ("engine", True)


def test_nothing_drifts(h100):
    found = fleet(h100, {"n1": None, "n2": None})
    assert [said.kind for said in found.verdicts] == ["nothing"]
    assert not found.has_drifted
    assert "at most 0.01 a day over all slices" in found.definition


def test_a_change_that_is_over_says_so(h100):
    watch = watch_of(h100)
    steps = traffic(14_000, phases=(1.0, 0.0, 0.0))
    extra = noise(14_000, 0.04)
    extra[6000:9000] += np.log(1.06)
    watch.take_in(watched_rows(steps, h100, log_extra=extra))
    found = watched(watch, "c")
    assert [change.episode.is_over for change in found.changes] == [False, True]
    assert "again as calibrated" in found.verdicts[1].sentence


def test_traffic_that_moves_within_what_is_known_is_no_drift_whatever_the_misfit(h100):
    watch = watch_of(h100)
    before, after = (traffic(n, seed=n, phases=(1, 0, 0)) for n in (5000, 5001))
    after = after[after["num_decode_requests"] >= 32]
    for part, begin in ((before, 0.0), (after, 5000.0)):
        misfit = 0.04 * np.log2(np.maximum(part["num_decode_requests"].to_numpy(), 1))
        extra = misfit + noise(len(part), 0.04, seed=1)
        at = begin + np.arange(len(part), dtype=float)
        watch.take_in(watched_rows(part, h100, log_extra=extra, at=at))
    found = watched(watch, "c")
    assert [said.kind for said in found.verdicts] == ["nothing"]
    assert found.slices[0].windows[-1].factor > found.slices[0].windows[0].factor * 1.05


def test_traffic_outside_is_not_judged_and_points_are_named(h100):
    watch = watch_of(h100)
    steps = traffic(5000, phases=(1, 0, 0), largest=16)
    watch.take_in(watched_rows(steps, h100, log_extra=noise(5000, 0.04)))
    new = traffic(2000, seed=1, phases=(1, 0, 0), largest=512)
    new = new[new["num_decode_requests"] > 64]
    extra = np.log(1.3) + noise(len(new), 0.04)
    watch.take_in(watched_rows(new, h100, log_extra=extra, at=5000.0 + np.arange(len(new))))
    found = watched(watch, "c")
    assert [said.kind for said in found.verdicts] == ["outside"]
    assert 1 <= len(found.points) <= 8
    assert (found.points["num_decode_requests"] > 64).all()
    assert "Measure the" in found.verdicts[0].advice


def test_models_that_cannot_be_computed_are_counted_and_the_others_judged(h100):
    watch = watch_of(h100)
    steps = traffic(4000, models=(MODEL, "mixtral-8x7b"), phases=(1, 0, 0))
    table = StepTable.from_columns(steps)
    labels = pd.DataFrame({name: pd.Categorical([name] * 4000) for name in (*BY, "tp")})
    watch.take_in(Rows(table, np.full(4000, 9000.0), np.arange(4000.0), labels))
    found = watched(watch, "c")
    others = int((steps["model"] != MODEL).sum())
    assert sum(one.steps for one in found.slices) == 4000 - others
    assert any(f"{others:,} steps roofline-v1 cannot compute" in note for note in found.notes)


def test_too_few_steps_are_shown_and_not_judged(h100):
    watch = watch_of(h100)
    steps = traffic(700, phases=(1, 0, 0))
    watch.take_in(watched_rows(steps, h100, log_extra=0.3 + noise(700, 0.04)))
    found = watched(watch, "c")
    assert [said.kind for said in found.verdicts] == ["unknown"]
    assert found.slices[0].windows[0].factor == pytest.approx(np.exp(0.3), rel=0.02)
    assert as_plain(found)["slices"][0]["judged"] is False


def test_a_node_that_began_apart_is_said_though_it_does_not_change(h100):
    watch = watch_of(h100)
    for seed, node in enumerate(("n1", "n2", "n3")):
        steps = traffic(3500, seed=seed, phases=(1, 0, 0))
        extra = noise(3500, 0.04, seed=seed) + np.log(1.2) * (node == "n3")
        watch.take_in(watched_rows(steps, h100, log_extra=extra, node=node))
    found = watched(watch, "c", {"decode": -0.1})
    assert [said.kind for said in found.verdicts] == ["nothing"]
    assert any("Node n3 stands apart from the start: +" in note for note in found.notes)
    assert any("own steps that was -9.5%" in note for note in found.notes)


def test_the_order_of_blocks_is_that_of_rows_whatever_their_size(h100):
    steps = traffic(6000, phases=(0.7, 0.3, 0.0))
    extra = noise(6000, 0.04)
    extra[4500:] += np.log(1.07)
    whole, parts = watch_of(h100, 200), watch_of(h100, 200)
    rows = watched_rows(steps, h100, log_extra=extra)
    whole.take_in(rows)
    for begin in range(0, 6000, 701):
        parts.take_in(rows.take(np.arange(begin, min(begin + 701, 6000))))
    assert [vars(a) for a in whole.alarms] != []
    for a, b in zip(whole.alarms, parts.alarms, strict=True):
        assert (a.since, a.at, a.log_change) == (b.since, b.at, pytest.approx(b.log_change))
    assert watched(whole, "c").verdicts[0].kind == watched(parts, "c").verdicts[0].kind


def test_questions_of_causes_go_with_the_direction():
    assert question("BwEffConstant", slower=True) == "memory clock?"
    assert question("kvBwFraction", slower=True) == "memory clock?"
    assert "SM clock" in question("gemmMfu", slower=True)
    assert "engine version" in question("layerMicros", slower=False)
    assert question("something", slower=True) == ""


def test_moments_are_times_or_numbers_of_steps():
    assert moment(41_200.0) == "step 41,200"
    assert moment(1.79e9) == "2026-09-21 14:13 UTC"
    assert moment(float("nan")) == "an unknown time"
