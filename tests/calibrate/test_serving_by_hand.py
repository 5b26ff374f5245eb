"""Chance, figures, weights and residuals of served load points against numbers worked out by hand."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest

from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem, Pull
from calibrate.serving import fit as solving
from calibrate.serving.figures import Replay, draw_enough
from calibrate.serving.mean_load import MeanLoad
from calibrate.serving.objective import (
    STEP,
    ServingData,
    ServingObjective,
    balance,
    expected_spread,
    stepped,
)
from calibrate.serving.point import SEEDS, ServingPoint
from calibrate.serving.points import FIGURES, ServingPoints
from calibrate.serving.problem import ServingProblem
from calibrate.serving.thresholds import MOST_RUNS
from sim import EngineLimits, Hardware, Workload, latency_model, load_architecture
from sim.models.registry import PARAMETERS
from sim.serving.lengths import Fixed
from sim.serving.workload import Stage
from tests.calibrate.test_fit import MODEL, truth_campaign

V3 = latency_model("roofline-v3")
LLAMA = load_architecture("llama-3.1-8b")
HARDWARE = Hardware("H100", {"apiMicros": 1000.0})
COLUMN = {figure: column for column, figure in enumerate(FIGURES)}
METRIC = np.array([metric for metric, _ in FIGURES])


def served(requests=(1000,), measured=None, runs=None, models=None):
    """Load points of so many requests each; labels that no test asks for are alike."""
    n = len(requests)
    points = tuple(
        ServingPoint(LLAMA, 1, Workload(size, Stage(4.0), Fixed(10), Fixed(4)), EngineLimits())
        for size in requests
    )
    frame = pd.DataFrame(
        {
            "run": [f"run {i}" for i in range(n)] if runs is None else runs,
            "model": models or ["one"] * n,
            "tp": 1,
            "engine": "vllm",
            "dtype": "bf16",
        }
    )
    return ServingPoints(points, frame, np.ones((n, 12)) if measured is None else measured)


def drawn_with(monkeypatch, spread):
    """Make ln of every drawn figure lie ``spread`` (12,) above and below in turn: eight have a deviation of √(8/7)."""

    def drawn_ms(replay, model, hardware):
        signs = [np.resize([1.0, -1.0], len(traces)) for traces in replay.traces]
        return [np.exp(np.outer(sign, spread)) for sign in signs]

    monkeypatch.setattr(Replay, "drawn_ms", drawn_ms)


def spread_of(mean, tail=0.0):
    return np.array([mean if statistic == "mean" else tail for _, statistic in FIGURES])


@pytest.mark.parametrize(
    ("requests", "draws"), [(1000, 1), (999, 2), (500, 2), (250, 4), (100, 10), (20, 16)]
)
def test_chance_is_that_of_the_measured_run_and_of_the_mean_of_ours(monkeypatch, requests, draws):
    """Of a thousand requests, one draw: √2 of one run's. The measured run stays one however many we draw."""
    drawn_with(monkeypatch, spread_of(0.01, tail=0.5))
    replay, chance = draw_enough(served([requests]), V3, HARDWARE)
    assert len(replay.traces[0]) == draws
    one = spread_of(0.01, tail=0.5) * (8 / 7) ** 0.5
    assert chance[0] == pytest.approx(one * (1 + 1 / draws) ** 0.5)


@pytest.mark.parametrize(
    ("mean", "draws"), [(0.0140, 1), (0.0280, 4), (0.0281, 5), (0.0420, 9), (0.08, 16)]
)
def test_draws_are_as_many_as_keep_chance_below_one_and_a_half_percent(monkeypatch, mean, draws):
    """0.03 is 0.02806·√(8/7): four draws halve it. There are sixteen at most."""
    drawn_with(monkeypatch, spread_of(mean))
    replay, chance = draw_enough(served([1000, 1000]), V3, HARDWARE)
    assert [len(traces) for traces in replay.traces] == [draws] * 2
    expected = mean * (8 / 7) ** 0.5 * (1 + 1 / draws) ** 0.5
    assert chance[:, COLUMN["itl", "mean"]] == pytest.approx(expected)


def test_a_figure_that_is_not_simulated_has_no_chance(monkeypatch):
    drawn_with(monkeypatch, spread_of(0.01, tail=np.nan))
    _, chance = draw_enough(served(), V3, HARDWARE)
    assert (chance[0] > 0).tolist() == [statistic == "mean" for _, statistic in FIGURES]
    assert np.isfinite(chance).all()


def test_draws_differ_and_each_has_a_seed_of_its_own():
    replay = Replay.of(served([50]).points, [SEEDS[:3]])
    arrivals = [trace.arrival_us for trace in replay.traces[0]]
    assert len({tuple(times) for times in arrivals}) == 3
    again = served([50]).points[0].workload.draw(SEEDS[2]).arrival_us
    assert arrivals[2].tolist() == again.tolist()


def test_figures_are_the_mean_over_draws(monkeypatch):
    drawn_with(monkeypatch, spread_of(np.log(2)))
    replay = Replay.of(served([1000, 1000]).points, [SEEDS[:1], SEEDS[:2]])
    found = replay.figures_ms(V3, HARDWARE)[:, COLUMN["ttft", "mean"]]
    assert found == pytest.approx([2, (2 + 1 / 2) / 2])


@pytest.mark.parametrize("tails", [True, False])
def test_statistics_of_a_hundred_requests(monkeypatch, tails):
    """1 to 100 ms: percentiles lie between the two nearest; a request of one token has no ITL."""
    times = np.arange(1.0, 101.0) * 1000
    itl = np.where(times == 1000, np.nan, 3000.0)
    result = types.SimpleNamespace(ttft_us=times, itl_us=itl, e2e_us=np.full(100, np.nan))
    monkeypatch.setattr("calibrate.serving.figures.simulate", lambda *_, **__: result)
    point = ServingPoint(
        LLAMA, 1, Workload(100, Stage(4.0), Fixed(10), Fixed(4)), EngineLimits(), tails=tails
    )
    (found,) = Replay.of([point], [[0]]).drawn_ms(V3, HARDWARE)
    tail = [50.5, 90.1, 99.01] if tails else [np.nan] * 3
    assert found[0] == pytest.approx(
        [50.5, *tail, 3.0, *([3.0] * 3 if tails else [np.nan] * 3), *[np.nan] * 4], nan_ok=True
    )


def test_what_is_expected_of_a_figure_is_chance_and_the_models_error(monkeypatch):
    """3% and 4% are 5%; a 99th percentile errs by four times 4%."""
    points = served()
    monkeypatch.setattr(solving, "draw_enough", lambda *_: (None, np.full((1, 12), 0.03)))
    problem = ServingProblem(points, V3, HARDWARE, "soft_l1", 0.04)
    _, data = solving._drawn(problem, HARDWARE)
    expected = [np.hypot(0.03, 0.16) if p == "p99" else 0.05 for _, p in FIGURES]
    assert data.sigma[0] == pytest.approx(expected)


def some_measured():
    """Three points of two models: TTFT mean of all, E2E mean of the first and last."""
    measured = np.full((3, 12), np.nan)
    measured[:, COLUMN["ttft", "mean"]] = 10.0
    measured[[0, 2], COLUMN["e2e", "mean"]] = 100.0
    return served([1000] * 3, measured, models=["a", "b", "b"])


def test_metrics_then_models_weigh_the_same():
    """Five figures: 2.5 for each metric; a model of one point of five weighs half of one that has two."""
    weight = balance(some_measured())
    expected = np.zeros((3, 12))
    expected[:, COLUMN["ttft", "mean"]] = 2.5 / 3
    expected[[0, 2], COLUMN["e2e", "mean"]] = 2.5 / 3, 5 / 3
    assert weight == pytest.approx(expected)


def objective(points, steps=None, apart=frozenset()):
    """An objective whose figures are e^(θ/1000) ms, all of them, under apiMicros θ."""
    data = ServingData(points, expected_spread(points, 0.05), balance(points))

    def figures(hardware):
        return np.full((len(points), 12), np.exp(hardware.values["apiMicros"] / 1000))

    return ServingObjective(data, figures, HARDWARE, steps, apart)


def test_residuals_and_their_slopes():
    """ln of predicted over measured, and one in a thousand a µs, both by a spread of 5%; only what was measured."""
    found = objective(some_measured())
    values = {"apiMicros": 2000.0}
    logs = [2 - np.log(10), 2 - np.log(100), 2 - np.log(10), 2 - np.log(10), 2 - np.log(100)]
    assert found.residuals(values) == pytest.approx(np.array(logs) / 0.05)
    assert found.jacobian(values) == pytest.approx(np.full((5, 1), 1e-3 / 0.05))
    assert found.sensitivity(values) == pytest.approx(np.full((5, 1), 2.0))
    weight = np.array([2.5, 2.5, 2.5, 2.5, 5.0]) / 3
    assert found.weight == pytest.approx(weight)
    assert found.cost(values, "linear") == pytest.approx(
        0.5 * (weight * (np.array(logs) / 0.05) ** 2).sum()
    )


def test_a_pull_is_one_more_observation():
    """At 2 ms, pulled to 1.5 ± 0.25 ms: two deviations off; what is not free is where it is pulled to."""
    found = dataclasses.replace(
        objective(some_measured()),
        pulls={"apiMicros": Pull(1500.0, 250.0**-2), "layerMicros": Pull(50.0, 1.0)},
    )
    values = {"apiMicros": 2000.0}
    assert found.residuals(values)[5:] == pytest.approx([2.0, 0.0])
    assert found.jacobian(values)[5:] == pytest.approx(np.array([[1 / 250], [0.0]]))
    assert found.weight[5:] == pytest.approx(1.0)
    assert [rows.tolist() for rows in found.rows_of_run[-2:]] == [[5], [6]]
    assert found.rows_without(np.array([True, False, True])).tolist() == [2, 5, 6]


def test_a_difference_steps_up_unless_a_bound_is_there():
    known = PARAMETERS["apiMicros"]
    assert stepped("apiMicros", 2000.0) == pytest.approx(2000 * (1 + STEP))
    assert stepped("apiMicros", 0.0) == pytest.approx(STEP * known.guide[0])
    assert stepped("apiMicros", known.upper) == pytest.approx(known.upper * (1 - STEP))


def test_steps_stand_below_the_figures_with_runs_and_weights_of_their_own(h100):
    data = build_dataset([truth_campaign(h100, tps=(1,))]).take(np.arange(6))
    steps = Problem(MODEL, h100, data, ("mfuPrefill",), "linear")
    points = some_measured()
    points.frame["run"] = ["x", "y", "x"]
    found = objective(points, steps, frozenset({"apiMicros"}))
    values = {"apiMicros": 2000.0, "mfuPrefill": 0.65}
    assert found.residuals(values)[:5] == pytest.approx(objective(points).residuals(values))
    assert found.residuals(values)[5:] == pytest.approx(
        np.log(MODEL.predict_us(data.table, h100) / data.measured_us) / data.sigma
    )
    jacobian = found.jacobian(values)
    assert jacobian.shape == (11, 2)
    assert (jacobian[:5, 1] == 0).all()
    assert (jacobian[5:, 0] == 0).all()
    assert np.abs(jacobian[5:, 1]).max() > 0
    assert found.weight[5:] == pytest.approx(data.weight)
    x, y, *of_steps = [rows.tolist() for rows in found.rows_of_run]
    assert (x, y) == ([0, 1, 3, 4], [2])  # rows of figures, point by point
    by_run = data.frame.groupby("run", sort=False).indices.values()
    assert of_steps == [[5 + row for row in rows] for rows in by_run]


def held_out(truth_of_run, monkeypatch):
    """Predictions of a figure by a fit without its run; every point measured e^(truth/1000) ms of apiMicros."""
    measured = np.full((len(truth_of_run), 12), np.nan)
    measured[:, 0] = np.exp(np.array(truth_of_run) / 1000)
    points = served([1000] * len(truth_of_run), measured)
    data = ServingData(points, np.full((len(points), 12), 0.05), balance(points))
    problem = ServingProblem(points, V3, HARDWARE, "linear", 0.05)
    labels = np.arange(len(points))
    first = types.SimpleNamespace(near={"apiMicros": 2000.0})
    monkeypatch.setattr(solving, "first_values", lambda _: first)
    monkeypatch.setattr(solving, "closed_form_slopes", lambda _, objective: objective.jacobian)
    found = solving.held_out_ms(problem, Exponential(len(points)), data, labels)
    return 1000 * np.log(found[:, 0])


class Exponential:
    """A stand-in for the simulator: every figure is e^(apiMicros/1000) ms."""

    def __init__(self, n):
        self.n = n

    def take(self, rows):
        return Exponential(int(rows.sum()))

    def figures_ms(self, model, hardware):
        return np.full((self.n, 12), np.exp(hardware.values["apiMicros"] / 1000))


def test_a_run_is_predicted_by_the_mean_of_the_others(monkeypatch):
    """Straight lines in ln, three truths: without each, the mean of the other two."""
    predicted = held_out([1000.0, 2000.0, 6000.0], monkeypatch)
    assert predicted == pytest.approx([4000, 3500, 1500], rel=1e-6)


def test_up_to_ten_runs_are_left_out_one_at_a_time_and_of_more_a_fifth():
    for runs, (name, parts) in (
        (2, ("run", 2)),
        (MOST_RUNS, ("run", MOST_RUNS)),
        (11, ("folds", 5)),
    ):
        points = served([1000] * runs)
        splits = solving.serving_splits(points.frame, (), 0)
        assert splits.keys() == {name}
        assert len(np.unique(splits[name])) == parts


def test_points_of_a_run_and_of_a_model_are_left_out_together():
    points = served([1000] * 4, runs=["x", "y", "x", "y"], models=["a", "a", "b", "b"])
    found = solving.serving_splits(points.frame, (), 0)
    assert {name: labels.tolist() for name, labels in found.items()} == {
        "model": [0, 0, 1, 1],
        "run": [0, 1, 0, 1],
    }


def test_a_mean_that_few_requests_made_gives_way_to_its_median():
    """Of two points at 50 ms in the median, the one whose 99th percentile is 201 ms loses its mean."""
    measured = np.full((2, 12), np.nan)
    for metric in ("ttft", "itl", "e2e"):
        measured[:, COLUMN[metric, "mean"]] = 60.0
        measured[:, COLUMN[metric, "p50"]] = 50.0
        measured[:, COLUMN[metric, "p99"]] = [199.0, 201.0]
    points = served([1000, 1000], measured)
    weight = balance(points)
    lost = [COLUMN["ttft", "mean"]]
    assert (
        np.flatnonzero(weight[1] == 0).tolist()
        == np.flatnonzero(np.isnan(measured[1]) | np.isin(np.arange(12), lost)).tolist()
    )
    assert weight[0, COLUMN["ttft", "mean"]] > 0
    assert weight.sum() == pytest.approx(17)


def test_the_closed_form_takes_the_engines_own_sampler_time():
    """A step takes the sampler's time, and that of each request, as the engine says."""
    points = served([64])
    peaks = Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35})
    known = peaks.with_values({"samplerStepMicros": 160.0, "samplerMicrosPerKLogit": 0.19})
    loads = MeanLoad.of(Replay.of(points.points, [SEEDS[:1]]))._means(known)
    assert loads.sampler == pytest.approx([160.0])
    assert loads.sampler_each == pytest.approx([0.19 * 128.256])


def test_the_compiled_closed_form_is_the_written_one():
    """An open and a closed load give the same latencies whether steps are compiled or asked for in Python."""
    points = served([64, 512])
    known = Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "apiMicros": 3000.0})
    means = MeanLoad.of(Replay.of(points.points, [SEEDS[:1]] * 2))
    figures = means.figures_ms(V3, known)[:, [COLUMN[m, "mean"] for m in ("ttft", "itl", "e2e")]]
    written = means._asking(V3, known, means._means(known)) / 1000.0
    assert figures == pytest.approx(written, rel=1e-5)
