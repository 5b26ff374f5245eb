"""What a fit to serving results finds: known truth in campaigns that the simulator itself has made."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate import fit, load_campaigns
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.parameters.registry import tuned_names
from calibrate.records.errors import CalibrateError
from calibrate.serving import fit as solving
from calibrate.serving.figures import Replay
from calibrate.serving.fit import serving_splits, solve_serving
from calibrate.serving.mean_load import MeanLoad
from calibrate.serving.objective import ServingData, balance, expected_spread
from calibrate.serving.point import SEEDS
from calibrate.serving.points import FIGURES, METRICS, serving_points
from calibrate.serving.problem import ServingProblem
from calibrate.serving.summary import summarise
from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Normal
from sim.serving.workload import Closed, Stage
from tests.conftest import GUIDE_H100
from tests.synthetic import serving_row, synthetic_steps, write_campaign

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
V3 = latency_model("roofline-v3")
TRUTH = {"layerMicros": 38.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0}
SERVED = {  # by model and TP: prompt and output tokens, and two moderate rates
    ("llama-3.1-8b", 1): (400, 120, (4.0, 12.0)),
    ("llama-2-13b", 2): (700, 80, (4.0, 10.0)),
    ("llama-3.1-70b", 4): (300, 100, (2.0, 6.0)),
}
MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]


def asked(prompt, output, load, requests=400, **more):
    return Workload(
        requests, load, Normal(prompt, prompt / 4, 1), Normal(output, output / 4, 2), **more
    )


def campaign_rows(hardware, model=V3, first_seed=1000):
    """Open loads at two rates and a closed one for three models, each drawn with a seed that no fit uses."""
    rows = []
    for (name, tp), (prompt, output, rates) in SERVED.items():
        for load in (*map(Stage, rates), Closed(8)):
            run = f"{name}-{type(load).__name__}"
            distinct = 60 if isinstance(load, Closed) else 0
            workload = asked(prompt, output, load, distinct_prompts=distinct)
            rows.append(
                serving_row(hardware, model, name, tp, workload, first_seed + len(rows), run_id=run)
            )
    return pd.DataFrame(rows)


MEAN_ONLY = [f"{metric}_ms_{p}" for metric in METRICS for p in ("p50", "p90", "p99")]


def points_of(folder, rows, hardware=H100, model=V3, **info):
    write_campaign(folder, "H100", pd.DataFrame(rows), info=info, table="serving")
    return serving_points(load_campaigns(folder, "H100"), hardware, model)


def problem(points, model=V3, hardware=H100, **more):
    return ServingProblem(points, model, hardware, "soft_l1", 0.05, **more)


@pytest.fixture(scope="module")
def rows():
    return campaign_rows(H100.with_values(TRUTH)).drop(columns=MEAN_ONLY)


@pytest.fixture(scope="module")
def found(rows, tmp_path_factory):
    """A fit of roofline-v3, from the vendor's figures alone, to serving rows of an engine with known times."""
    folder = tmp_path_factory.mktemp("served")
    write_campaign(folder, "H100", rows, table="serving")
    return fit(load_campaigns(folder, "H100"), H100, latency_model="roofline-v3")


@pytest.fixture
def moderate(rows, tmp_path):
    """The load points of two models' open loads."""
    return points_of(tmp_path, rows[rows["load"] == "poisson"].head(4))


@pytest.mark.parametrize(
    ("name", "tolerance"), [("layerMicros", 0.05), ("prefillLayerMicros", 0.25), ("apiMicros", 0.1)]
)
@pytest.mark.slow
def test_known_truth_comes_back_from_requests_drawn_anew(found, name, tolerance):
    parameter = next(p for p in found.parameters if p.name == name)
    assert (parameter.status, parameter.why) == ("fitted", "tuned to serving results")
    assert parameter.value == pytest.approx(TRUTH[name], rel=tolerance)
    low, high = parameter.ci90
    half = (high - low) / 2
    assert half < 0.3 * TRUTH[name]
    # Two of its half-widths, where 90% lie within one
    assert low - half <= TRUTH[name] <= high + half


def test_a_fit_to_serving_says_what_it_did(found):
    served = found.serving
    assert served.points == 9
    for metric in METRICS:
        assert served.after[metric]["all"].mape < 0.02 < served.before[metric]["all"].mape
        assert served.held_out["model"][metric]["all"].mape < 0.03
    assert set(served.held_out) == {"model", "run"}
    assert "time to first token" in served.explanation[0]
    assert "too fast" in served.explanation[0]
    assert any(
        text.startswith("apiMicros 0 → ") and "added to it" in text for text in served.explanation
    )
    assert not found.is_worse_than_start
    assert found.verdict.level == "good"


def test_a_fit_without_steps_holds_what_steps_determine(found):
    held = {p.name: p.why for p in found.parameters if p.status == "held"}
    assert set(held) == {*V3.parameter_names} - {*tuned_names(V3)}
    assert set(held.values()) == {"there are no steps to fit it to"}
    starts = {p.name: p.start for p in found.parameters}
    assert (starts["layerMicros"], starts["apiMicros"]) == (30.0, 0.0)
    assert len(found.served) == 9 * 3
    assert set(found.served["statistic"]) == {"mean"}


def test_intervals_cover(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(solving, "serving_splits", lambda *_: {})
    hits = []
    for case in range(2):
        anew = campaign_rows(H100.with_values(TRUTH), first_seed=2000 + 100 * case)
        anew = anew[anew["model"] != "llama-2-13b"].drop(columns=[*MEAN_ONLY, "run_id"])
        points = points_of(tmp_path / str(case), anew)
        summary = summarise(solve_serving(problem(points)))
        hits += [one.ci90[0] <= TRUTH[one.name] <= one.ci90[1] for one in summary.tuned]
    assert len(hits) == 6
    assert sum(hits) >= 4  # were it 90%, fewer would be seen once in sixty times


def test_a_parameter_that_no_row_sees_is_held_and_said_so(rows, tmp_path):
    silent = rows.assign(ttft_ms_mean=np.nan, e2e_ms_mean=np.nan).head(2)
    solution = solve_serving(problem(points_of(tmp_path, silent, itl="per-token")))
    held = summarise(solution).held
    assert held["apiMicros"] == "no row of this data sees it; it stays at 0"
    assert "apiMicros" not in solution.values


def test_times_for_each_token_are_freed_by_name(tmp_path):
    truth = {**TRUTH, "apiPromptTokenMicros": 3.0}
    hardware = H100.with_values(truth)
    rows = [
        serving_row(
            hardware,
            V3,
            "llama-3.1-8b",
            1,
            asked(prompt, 40, Stage(2.0)),
            3000 + prompt,
            run_id="a",
        )
        for prompt in (100, 500, 1500, 4000)
    ]
    points = points_of(tmp_path, rows)
    known = H100.with_values({"layerMicros": 38.0, "prefillLayerMicros": 60.0})
    fixed = ("layerMicros", "prefillLayerMicros")
    solution = solve_serving(
        problem(points, hardware=known, fixed=fixed, freed=["apiPromptTokenMicros"])
    )
    assert set(solution.values) == {"apiMicros", "apiPromptTokenMicros"}
    assert solution.values["apiPromptTokenMicros"] == pytest.approx(3.0, rel=0.15)
    assert solution.values["apiMicros"] == pytest.approx(5000.0, rel=0.1)


V1 = latency_model("roofline-v1")
V1_TRUTH = {"mfuPrefillMultiplier": 0.7, "decodeBwFactor": 0.85, "apiMicros": 8000.0}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """roofline-v1 on an engine that is slower than the guide's values say."""
    guide = Hardware(
        "H100", {**GUIDE_H100, **{k: v for k, v in H100.values.items() if k not in GUIDE_H100}}
    )
    points = points_of(
        tmp_path_factory.mktemp("v1"),
        campaign_rows(guide.with_values(V1_TRUTH), V1).drop(columns=MEAN_ONLY).head(6),
        guide,
        V1,
    )
    return summarise(solve_serving(problem(points, V1, guide)))


def test_multipliers_come_back_in_the_guides_words(tuned):
    values = {one.name: one.value for one in tuned.tuned}
    assert set(V1_TRUTH) <= set(values)
    assert values["decodeBwFactor"] == pytest.approx(0.85, rel=0.03)
    assert values["mfuPrefillMultiplier"] == pytest.approx(0.7, rel=0.15)
    assert values["apiMicros"] == pytest.approx(8000.0, rel=0.15)
    said = {text.partition(" ")[0]: text for text in tuned.explanation}
    for name in ("mfuPrefillMultiplier", "decodeBwFactor"):
        assert "(too fast → reduce)" in said[name]


def test_the_same_seed_is_the_same_result_bit_for_bit(moderate):
    first, second = (
        solve_serving(problem(moderate.take(np.array([False, True, False, False]))))
        for _ in range(2)
    )
    assert first.values == second.values
    assert np.array_equal(first.after_ms, second.after_ms, equal_nan=True)
    assert np.array_equal(first.data.sigma, second.data.sigma)


def test_all_simulations_see_the_same_requests(moderate):
    replay = Replay.of(moderate.points, [SEEDS[:2]] * len(moderate))
    assert np.array_equal(replay.figures_ms(V3, H100), replay.figures_ms(V3, H100), equal_nan=True)
    slower = replay.figures_ms(V3, H100.with_values({"apiMicros": 1000.0}))
    # Ms, all of it seen
    assert slower[:, 0] - replay.figures_ms(V3, H100)[:, 0] == pytest.approx(1.0, rel=0.3)


def test_the_jacobian_points_the_way_that_the_figures_go(moderate):
    asking = problem(moderate)
    replay = Replay.of(moderate.points, [SEEDS[:8]] * len(moderate))
    data = ServingData(moderate, expected_spread(moderate, 0.05), balance(moderate))
    objective = asking.objective(replay.figures_ms, data)
    jacobian = objective.jacobian(TRUTH)
    assert jacobian.shape == (len(moderate) * 3, 3)
    assert (jacobian.sum(axis=0) > 0).all()  # every time makes some figure longer
    for column, name in enumerate(TRUTH):
        moved = {**TRUTH, name: 1.2 * TRUTH[name]}
        change = objective.residuals(moved) - objective.residuals(TRUTH)
        assert change.sum() == pytest.approx(
            0.2 * TRUTH[name] * jacobian[:, column].sum(), rel=0.35
        )


def test_the_closed_form_is_near_the_simulator_at_moderate_loads(moderate):
    hardware = H100.with_values(TRUTH)
    replay = Replay.of(moderate.points, [SEEDS] * len(moderate))
    ratio = (
        MeanLoad.of(replay).figures_ms(V3, hardware)[:, MEANS]
        / replay.figures_ms(V3, hardware)[:, MEANS]
    )
    assert ratio[:, 0] == pytest.approx(1.0, abs=0.12)
    assert ratio[:, 1:] == pytest.approx(1.0, abs=0.03)


def test_metrics_count_the_same_however_many_figures_they_have(rows, tmp_path):
    plain = points_of(tmp_path / "plain", rows)
    more = points_of(tmp_path / "more", rows.assign(ttft_ms_p50=100.0, ttft_ms_p90=200.0))
    for points in (plain, more):
        weight = balance(points)
        shares = [
            weight[:, [f[0] == metric for f in FIGURES]].sum() / weight.sum() for metric in METRICS
        ]
        assert shares == pytest.approx([1 / 3] * 3)
        # No model has five points: each counts by its points
        by_model = pd.Series(weight.sum(axis=1)).groupby(points.frame["model"]).sum()
        share = points.frame["model"].value_counts()[by_model.index] / len(points)
        assert by_model.to_numpy() == pytest.approx(weight.sum() * share.to_numpy())
        assert weight[weight > 0].mean() == pytest.approx(1.0)
        assert (weight[np.isnan(points.measured_ms)] == 0).all()


def test_a_load_point_alone_counts_as_one_of_five(rows, tmp_path):
    """Seven points of one model and one of another: each of the seven 1/7 of a sweep, the lone one 1/5."""
    many = pd.concat([rows.iloc[[0]]] * 7 + [rows.iloc[[-1]]], ignore_index=True)
    assert many["model"].nunique() == 2
    weight = balance(points_of(tmp_path, many)).sum(axis=1)
    assert weight[-1] / weight[0] == pytest.approx(7 / 5)


def test_points_that_the_fit_follows_are_named(found):
    """Nine points, of which no metric has many: whichever leads, the text says where it is."""
    named = [text for text in found.warnings if "leverage above 1/2" in text]
    assert all("load point" in text and "synthetic:" in text for text in named)


def test_what_is_held_out_of_serving_is_chosen():
    """Twelve runs of two models at two TP: by default a model and a fifth of the runs; else what was asked for."""
    labels = {
        "run": [f"run-{i:02}" for i in range(12)],
        "model": ["a", "b"] * 6,
        "tp": [1] * 6 + [2] * 6,
        "campaign": ["one"] * 12,
    }
    frame = pd.DataFrame(labels)
    assert list(serving_splits(frame, (), 0)) == ["model", "folds"]
    assert np.bincount(serving_splits(frame, (), 0)["folds"]).tolist() == [3, 3, 2, 2, 2]
    assert list(serving_splits(frame, ["tp", "run"], 0)) == ["tp", "run"]
    assert np.bincount(serving_splits(frame, ["4"], 0)["folds"]).tolist() == [3, 3, 3, 3]
    first, second = (serving_splits(frame, ["4"], seed)["folds"].tolist() for seed in (0, 1))
    assert first != second
    assert list(serving_splits(frame.head(3), ["model"], 0)) == ["model", "run"]
    assert list(serving_splits(frame, ["campaign"], 0)) == ["folds"]


def test_a_tail_is_trusted_less(moderate):
    spread = dict(zip(FIGURES, expected_spread(moderate, 0.05)[0], strict=True))
    assert spread["ttft", "mean"] == spread["ttft", "p90"] == 0.05
    assert spread["ttft", "p99"] == 0.2


def steps_problem(folder, kind, values):
    """Steps of all kinds under some values, and the problem that a fit to them has solved."""
    hardware = H100.with_values(values)
    guided = hardware.with_values({"BwEffConstant": 1.0, "mfuPrefill": 1.0, "mfuDecode": 1.0})
    steps = synthetic_steps(guided, 60, models=("llama-3.1-8b",), tps=(1,), model=V3)
    write_campaign(folder, "H100", steps, "steps", {"kind": kind})
    data = build_dataset(load_campaigns(folder, "H100"))
    return Problem(V3, hardware, data, ("gemmMfu", "layerMicros"), "soft_l1")


def long_prompts(folder, values):
    hardware = H100.with_values(values)
    load = {"load": Stage(2.0), "requests": 200}
    rows = [
        serving_row(
            hardware, V3, "llama-3.1-8b", 1, asked(prompt, 30, **load), 4000 + prompt, run_id="a"
        )
        for prompt in (2000, 6000)
    ]
    return points_of(folder, rows)


@pytest.mark.parametrize("kind", ["measured", "kernel-composed"])
def test_a_parameter_that_both_see_is_held_by_both(tmp_path, kind):
    """The steps say 0.8 and the server 0.6: the one lies between, and engine terms only where steps hold them."""
    steps = steps_problem(tmp_path / "steps", kind, {"gemmMfu": 0.8, "layerMicros": 30.0})
    served = {"gemmMfu": 0.6, "layerMicros": 50.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0}
    points = long_prompts(tmp_path / "served", served)
    fixed = ("prefillLayerMicros", "apiMicros")
    known = {"gemmMfu": 0.8, "layerMicros": 30.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0}
    asking = problem(
        points, hardware=H100.with_values(known), steps=steps, fixed=fixed, freed=["gemmMfu"]
    )
    both = solve_serving(asking).values
    assert 0.65 < both["gemmMfu"] < 0.8
    assert both["layerMicros"] > 30.0
    assert (both["layerMicros"] < 40.0) == (kind == "measured")


def test_without_steps_the_server_has_its_own_way(tmp_path):
    served = {"gemmMfu": 0.6, "layerMicros": 50.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0}
    known = H100.with_values({**served, "gemmMfu": 0.8, "layerMicros": 30.0})
    fixed = ("prefillLayerMicros", "apiMicros")
    asking = problem(long_prompts(tmp_path, served), hardware=known, fixed=fixed, freed=["gemmMfu"])
    alone = solve_serving(asking).values
    assert alone["gemmMfu"] == pytest.approx(0.6, rel=0.1)
    assert alone["layerMicros"] == pytest.approx(50.0, rel=0.1)


def test_steps_hold_nothing_that_they_do_not_see(tmp_path):
    steps = steps_problem(tmp_path / "steps", "kernel-composed", {})
    points = long_prompts(tmp_path / "served", TRUTH)
    asking = problem(points, steps=steps)
    figures = MeanLoad.of(Replay.of(points.points, [(0,)] * len(points))).figures_ms
    data = ServingData(points, expected_spread(points, 0.05), balance(points))
    assert asking.objective(figures, data).steps is None
    assert dataclasses.replace(asking, freed=["gemmMfu"]).objective(figures, data).steps is steps


def test_everything_fixed_is_an_error(moderate):
    with pytest.raises(CalibrateError, match="every parameter is fixed"):
        solve_serving(problem(moderate, fixed=tuned_names(V3)))


@pytest.mark.parametrize(
    "change", [{"fix": {"apiMicros": 5000.0}}, {"free": ["apiOutputTokenMicros"]}]
)
def test_times_around_the_engine_need_serving_results(tmp_path, change, h100):
    write_campaign(tmp_path, "H100", synthetic_steps(h100))
    with pytest.raises(
        CalibrateError, match=r"a time around the engine, which no step shows\. Go on to serving"
    ):
        fit(load_campaigns(tmp_path, "H100"), h100, **change)
