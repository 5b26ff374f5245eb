"""Draws with emcee: as wide as the sandwich, within the bounds, and honest about their own length."""

import dataclasses
import sys

import numpy as np
import pytest

from calibrate.fitting.covariance import NO_COVARIANCE, sandwich
from calibrate.records.errors import CalibrateError
from calibrate.report.corner_plot import draw_corner
from calibrate.trust.mcmc import sample
from tests.calibrate.test_fit import truth_campaign
from tests.calibrate.test_profile import solved

FREE = ("BwEffConstant", "mfuPrefill", "tpScalingExponent")


@pytest.fixture
def problem(h100):
    found, values = solved(h100, truth_campaign(h100, tps=(1, 4)), FREE)
    return found, values, sandwich(found, values)


@pytest.mark.slow
def test_the_draws_spread_as_the_sandwich_does_in_every_direction(problem):
    intervals = problem[2]
    found = sample(*problem, steps=1500)
    assert found.note == ""
    assert 0.1 < found.acceptance < 0.6
    draws = np.column_stack([found.values[name] for name in FREE])
    scale = np.array(list(intervals.stderr.values()))
    np.testing.assert_allclose(
        np.cov(draws.T) / np.outer(scale, scale),
        intervals.matrix / np.outer(scale, scale),
        atol=0.2,
    )
    for name in FREE:
        low, high = found.interval(name)
        assert high - low == pytest.approx(2 * intervals.half_width[name], rel=0.15)


def test_the_same_seed_gives_the_same_draws(problem):
    first, again, other = (sample(*problem, steps=30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values["mfuPrefill"], again.values["mfuPrefill"])
    assert not np.array_equal(first.values["mfuPrefill"], other.values["mfuPrefill"])


def test_a_short_chain_says_so(problem):
    told = []
    found = sample(*problem, steps=40, progress=told.append)
    assert told == [40]
    assert found.steps == 40
    assert "40 steps is only" in found.note


def test_no_draw_leaves_the_physical_bounds(h100):
    """An all-reduce of 1 µs under 20% noise: zero is within reach."""
    truth = h100.with_values({"allReduceLatency": 1.0})
    problem, values = solved(
        h100, truth_campaign(truth, seed=2, noise=0.2, tps=(1, 4)), (*FREE, "allReduceLatency")
    )
    values = {**values, "allReduceLatency": max(values["allReduceLatency"], 0.5)}
    problem = dataclasses.replace(problem, hardware=problem.hardware.with_values(values))
    found = sample(problem, values, sandwich(problem, values), steps=300)
    draws = found.values["allReduceLatency"]
    assert draws.min() >= 0.0
    assert draws.min() < 0.3


def test_without_intervals_there_is_nothing_to_scale_by(problem):
    assert sample(*problem[:2], NO_COVARIANCE) is None
    flat = dataclasses.replace(problem[2], matrix=np.zeros((3, 3)))
    assert sample(*problem[:2], flat) is None


def test_a_missing_extra_is_named(problem, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "emcee", None)
    monkeypatch.setitem(sys.modules, "corner", None)
    with pytest.raises(
        CalibrateError, match=r"emcee is not installed: pip install 'llm-calibrate\[mcmc\]'"
    ):
        sample(*problem)
    with pytest.raises(
        CalibrateError, match=r"corner is not installed: pip install 'llm-calibrate\[mcmc\]'"
    ):
        draw_corner({"a": [1.0, 2.0]}, {"a": 1.0}, {}, tmp_path)


@pytest.mark.parametrize("count", [2, 3])
def test_the_corner_plot_is_drawn_twice_and_always_the_same(tmp_path, count):
    rng = np.random.default_rng(0)
    names = ("BwEffConstant", "<b>$x_1$", "a name that is very long indeed, and 定 in it")[:count]
    draws = {name: rng.normal(size=500) for name in names}
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        plot = draw_corner(draws, dict.fromkeys(names, 0.0), {"BwEffConstant": "–"}, folder)
        written.append([(folder / f"corner.{kind}").read_bytes() for kind in ("png", "svg")])
    assert plot.name == "corner"
    assert written[0] == written[1]
    assert written[0][0].startswith(b"\x89PNG")


def test_a_parameter_that_never_moved_can_be_drawn(tmp_path):
    draw_corner({"a": [2.0] * 50, "b": np.linspace(0, 1, 50)}, {"a": 2.0, "b": 0.5}, {}, tmp_path)
    assert (tmp_path / "corner.png").stat().st_size > 0


def test_too_few_draws_are_refused(tmp_path):
    with pytest.raises(CalibrateError, match="needs more draws than 2"):
        draw_corner({"a": [1.0, 2.0], "b": [1.0, 3.0]}, {"a": 1.0, "b": 1.0}, {}, tmp_path)
    with pytest.raises(CalibrateError, match="two parameters or more"):
        draw_corner({"a": [1.0, 2.0]}, {"a": 1.0}, {}, tmp_path)
