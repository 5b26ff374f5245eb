"""Objectives: how they are written, what is refused, and how served requests stand to them by hand."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrate.capacity.slo import judge, parse_slo
from calibrate.records.errors import CalibrateError
from sim import EngineLimits
from sim.serving.result import ServingResult, Steps, StepTotals
from sim.steps.batch import StepTable


def served(ttft_ms, itl_ms, output=11):
    """Requests of so many outputs that arrive a second apart and take those times."""
    size = len(ttft_ms)
    arrival = np.arange(size) * 1e6
    first = arrival + 1e3 * np.asarray(ttft_ms, dtype=float)
    none = np.zeros(0)
    table = StepTable((), np.zeros(0, dtype=np.intp), none.astype(int), np.zeros((8, 0)))
    return ServingResult(
        engine=EngineLimits(),
        closed=False,
        prompt_tokens=np.full(size, 5),
        output_tokens=np.full(size, output),
        arrival_us=arrival,
        joined_us=arrival,
        first_token_us=first,
        finish_us=first + 1e3 * np.asarray(itl_ms, dtype=float) * (output - 1),
        preemptions=np.zeros(size, dtype=int),
        steps=Steps(table, none, none, none.astype(int), none.astype(int)),
        totals=StepTotals(1, 1.0, np.zeros(4), 1),
    )


@pytest.mark.parametrize(
    ("text", "name", "most_us"),
    [
        ("ttft_p99=2s", "ttft_p99", 2e6),
        ("itl_p50=50ms", "itl_p50", 5e4),
        ("e2e_p99.9 = 1.5 min", "e2e_p99.9", 9e7),
        ("TTFT_mean=800us", "ttft_mean", 800.0),
        ("itl_p95=2e1ms", "itl_p95", 2e4),
    ],
)
def test_a_limit_is_read_with_its_unit(text, name, most_us):
    (limit,) = parse_slo([text]).limits
    assert (limit.name, limit.most_us) == (name, pytest.approx(most_us))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_p99=2", "the unit is missing; say 2ms or 2s"),
        ("tpot_p99=20ms", "'tpot' is no metric (known: ttft, itl, e2e); it is called itl here"),
        ("ttf_p99=20ms", "did you mean 'ttft'?"),
        ("ttft=2s", "the statistic is missing"),
        ("ttft_p99", "the time is missing"),
        ("ttft_p0=2s", "'p0' is no statistic"),
        ("ttft_p100=2s", "'p100' is no statistic"),
        ("ttft_max=2s", "'max' is no statistic"),
        ("ttft_p99=2h", "'h' is no unit of time"),
        ("ttft_p99=soon", "'soon' is no time"),
        ("ttft_p99=0s", "the time must be above 0"),
        ("ttft_p99=1e999s", "the time must be above 0, and finite"),
        ("ttft_p99=-1s", "'-1s' is no time"),
        ("ttft_p99=1.2.3s", "is no time"),
        ("", "'' is no metric"),
    ],
)
def test_what_is_no_limit_is_refused_with_the_fix(text, said):
    with pytest.raises(CalibrateError) as refused:
        parse_slo([text])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "goodput", "said"),
    [
        (["ttft_p99=1s", "ttft_p99=2s"], None, "ttft_p99: is given twice"),
        (["ttft_p99=1s"], 1.5, "--goodput 1.5: must be a share"),
        (["ttft_p99=1s"], float("nan"), "must be a share"),
        ([], 0.9, "there is none that judges a request"),
        (["ttft_mean=1s"], 0.9, "there is none that judges a request"),
    ],
)
def test_objectives_that_contradict_themselves_are_refused(texts, goodput, said):
    with pytest.raises(CalibrateError) as refused:
        parse_slo(texts, goodput)
    assert said in str(refused.value)


def test_no_limit_is_no_objective():
    assert parse_slo([]) is None


def test_requests_are_held_against_every_limit_and_statistics_against_their_own():
    slo = parse_slo(["ttft_p50=100ms", "itl_p99=20ms"], goodput=0.5)
    found = judge(served([50, 90, 300, 80], [10, 30, 10, 10]), slo)
    ttft, itl = found.figures
    assert ttft.value_us == pytest.approx(85e3)
    assert itl.value_us == pytest.approx(1e3 * np.percentile([10, 30, 10, 10], 99))
    assert (ttft.met, itl.met) == (True, False)
    assert found.share == 0.5  # the second misses its ITL, the third its TTFT
    assert (found.met, found.missed) == (False, ("itl_p99",))
    assert found.to_dict(8.0)["goodput_requests_per_s"] == 4.0


def test_the_share_that_is_wanted_can_be_missed_alone():
    slo = parse_slo(["ttft_p50=100ms"], goodput=0.9)
    found = judge(served([50, 90, 300, 80], [10] * 4), slo)
    assert found.figures[0].met
    assert found.missed == ("goodput",)


def test_the_warm_up_is_not_judged():
    slo = parse_slo(["ttft_p99=100ms"])
    late = served([500, 500, 80, 80], [10] * 4)
    assert not judge(late, slo).met
    assert judge(late, slo, skipped=2).share == 1.0


def test_a_limit_of_a_mean_judges_no_single_request():
    found = judge(served([50, 250], [10, 10]), parse_slo(["ttft_mean=200ms"]))
    assert (found.met, found.share) == (True, 1.0)


def test_outputs_of_one_token_have_no_itl_to_miss():
    found = judge(served([50, 60], [0, 0], output=1), parse_slo(["itl_p99=1ms"]))
    assert found.met
    assert found.to_dict(1.0)["limits"][0]["value_ms"] is None


@given(st.text(max_size=20) | st.from_regex(r"(ttft|itl|e2e)_p\d+=[0-9.e+-]*[a-z]{0,3}"))
def test_any_text_is_a_limit_or_refused_in_words(text):
    with contextlib.suppress(CalibrateError):
        (limit,) = parse_slo([text]).limits
        assert 0 < limit.most_us < float("inf")
