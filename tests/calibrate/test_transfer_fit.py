"""Few steps of a new GPU beside other GPUs' values: planned, fitted, and what the intervals become."""

import json

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import Campaign
from calibrate.fitting.covariance import Covariance
from calibrate.fitting.exact import with_pulls
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem, Pull
from calibrate.fitting.solver import cost, minimise
from calibrate.fitting.sums import Sums
from calibrate.job.priors import Prior, pulls, with_priors
from calibrate.job.solution import Question, solve
from calibrate.job.sources import measure, places
from calibrate.job.transfer import transfer_to
from sim.hardware import Hardware, gpu_specs
from sim.models.registry import PARAMETERS, latency_model
from tests.conftest import ROOT

MODEL = latency_model("roofline-v3")
SOURCES = ("H100", "H200", "B200")
COLUMNS = (
    "model",
    "tp",
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)
POINTS = (
    ("llama-3.1-8b", 1, 1, 8192, 0, 0),
    ("llama-3.1-8b", 1, 0, 0, 128, 131072),
    ("llama-3.1-8b", 4, 16, 8192, 0, 0),
    ("llama-3.1-8b", 8, 16, 8192, 0, 0),
    ("llama-3.1-8b", 8, 0, 0, 1, 256),
)
SLOW = {"allReduceTpExponent": 1.0, "kvBwFraction": 0.7}


@pytest.fixture(scope="module")
def measured():
    known = {place.gpu: place for place in places(ROOT / "ground_truth", MODEL)}
    return {gpu: measure(known[gpu], MODEL) for gpu in SOURCES}


@pytest.fixture
def three_sources(monkeypatch, measured):
    """The GPUs to take from are these three, fitted once."""
    kept = [place for place in places(ROOT / "ground_truth", MODEL) if place.gpu in SOURCES]
    monkeypatch.setattr("calibrate.job.sources.places", lambda *_: kept)
    monkeypatch.setattr("calibrate.job.transfer.measure", lambda place, *_: measured[place.gpu])


@pytest.fixture
def answer(three_sources):
    start = Hardware("L40S", dict(gpu_specs()["L40S"].values))
    return transfer_to(start, MODEL, ROOT / "ground_truth", alone=False)


def steps_of(truth):
    """The points as a GPU of these values takes them."""
    points = pd.DataFrame(POINTS, columns=COLUMNS)
    campaign = Campaign.from_frame(points.assign(latency_us=1e6), "L40S")
    return points.assign(latency_us=MODEL.predict_us(campaign.table, truth))


def solved(answer, steps):
    data = build_dataset([Campaign.from_frame(steps, "L40S", kind="kernel-composed")])
    problem = Problem(MODEL, answer.transferred.hardware, data, (), "soft_l1")
    return solve(problem, Question(starts=2, prior=answer.priors()))


def test_a_pull_on_the_scale_is_normal_in_the_logarithm(h100):
    pull = Pull(np.log(0.7), 25.0, on_scale=True)
    assert pull.off("BwEffConstant", 0.7) == pytest.approx(0.0)
    assert pull.off("BwEffConstant", 1.4) == pytest.approx(np.log(2))
    step = 1e-6
    slope = (pull.off("BwEffConstant", 0.5 + step) - pull.off("BwEffConstant", 0.5)) / step
    assert pull.slope("BwEffConstant", 0.5) == pytest.approx(slope, rel=1e-4)


def test_a_scale_goes_to_the_bounds_and_back():
    for parameter in PARAMETERS.values():
        for value in (*parameter.guide, parameter.upper):
            assert parameter.value_at(parameter.point(value)) == pytest.approx(
                value, rel=1e-9, abs=1e-12
            )
        assert parameter.value_at(1e9) == pytest.approx(parameter.upper)
        assert parameter.value_at(-1e9) == pytest.approx(parameter.lower)


def test_in_parts_a_pull_on_the_scale_adds_its_slope():
    zero = Sums(np.array(0.0), np.array(0.0), np.zeros(1), np.zeros((1, 1)))
    pull = Pull(np.log(0.7), 4.0, on_scale=True)
    added = with_pulls(zero, {"BwEffConstant": 0.35}, {"BwEffConstant": pull})
    assert added.cost == pytest.approx(2 * np.log(2) ** 2)
    assert added.gradient[0] == pytest.approx(-4 * np.log(2) / 0.35)
    assert added.curvature[0, 0] == pytest.approx(4 / 0.35**2)


def test_precisions_add_up_on_the_values(h100):
    data = Covariance(
        {"kvBwFraction": 0.1}, {"kvBwFraction": 0.2}, np.array([[0.01]]), np.array([[50.0]])
    )
    prior = {"kvBwFraction": Prior("other GPUs", np.log(0.8), 0.125, on_scale=True)}
    both = with_priors(data, prior, pulls(prior, data), {"kvBwFraction": 0.8})
    assert both.stderr["kvBwFraction"] == pytest.approx(0.1 / 2**0.5)


def test_the_minimum_of_few_rows_is_that_of_the_cost(answer):
    found = solved(answer, steps_of(answer.transferred.hardware.with_values(SLOW)))
    problem, values = found.problem, found.search.best.values
    again = minimise(problem, values)
    assert again.cost == pytest.approx(cost(problem, values), rel=1e-4)


def test_points_that_agree_keep_the_values_and_narrow_the_intervals(answer):
    found = solved(answer, steps_of(answer.transferred.hardware))
    for name, known in answer.transferred.known.items():
        assert found.hardware.values[name] == pytest.approx(known.value, rel=0.02), name
        assert found.joint.stderr[name] <= found.priors[name].sd * 1.001
    for name in ("gemmMfu", "allReduceTpExponent", "kvBwFraction"):
        assert found.joint.stderr[name] < 0.6 * found.priors[name].sd


def test_points_that_disagree_move_what_they_show_and_are_not_set_aside(answer):
    truth = answer.transferred.hardware.with_values(SLOW)
    found = solved(answer, steps_of(truth))
    assert not found.problem.data.set_aside.any()
    predicted = MODEL.predict_us(found.problem.data.table, found.hardware)
    before = MODEL.predict_us(found.problem.data.table, answer.transferred.hardware)
    measured_us = found.problem.data.measured_us
    assert (
        np.abs(predicted / measured_us - 1).mean() < 0.25 * np.abs(before / measured_us - 1).mean()
    )
    assert found.hardware.values["allReduceTpExponent"] == pytest.approx(1.0, abs=0.25)
    assert found.hardware.values["kvBwFraction"] == pytest.approx(0.7, abs=0.08)


def test_what_a_row_does_not_show_keeps_its_prior(answer):
    alone = steps_of(answer.transferred.hardware)[:1]
    found = solved(answer, alone)
    assert "allReduceHopMicros" not in found.problem.free
    kept = found.joint.stderr["layerMicros"] / found.priors["layerMicros"].sd
    assert kept == pytest.approx(1.0, abs=0.05)


def campaign_of(workplace, steps):
    folder = workplace / "ground_truth/L40S/five"
    folder.mkdir(parents=True)
    steps.to_csv(folder / "steps.csv", index=False)
    (folder / "campaign.toml").write_text('kind = "kernel-composed"\n')


@pytest.mark.usefixtures("one_plot")
@pytest.mark.slow
def test_fit_weighs_other_gpus_in_and_writes_what_it_found(answer, workplace, calibrate):
    campaign_of(workplace, steps_of(answer.transferred.hardware.with_values(SLOW)))
    asked = (
        "fit",
        "--gpu",
        "L40S",
        "--latency-model",
        "roofline-v3",
        "--transfer",
        "--starts",
        "2",
    )
    code, out, _ = calibrate(*asked, "--json")
    result = json.loads(out)
    assert code == 0
    by_name = {one["name"]: one for one in result["parameters"]}
    fitted = by_name["allReduceTpExponent"]
    assert fitted["status"] == "fitted"
    assert fitted["prior"]["source"] == "other GPUs"
    assert fitted["ci90"][0] < fitted["value"] < fitted["ci90"][1]
    low, high = answer.transferred.known["allReduceTpExponent"].ci90
    assert fitted["ci90"][1] - fitted["ci90"][0] < 0.7 * (high - low)
    unseen = by_name["hostLayerMicros"]
    assert (unseen["status"], unseen["ci90"]) == ("inert", None)
    assert any("Started from other GPUs: B200, H100, H200" in text for text in result["warnings"])
    assert any("none is held out" in text for text in result["warnings"])
    written = json.loads((workplace / "hardware_configs/hardware_config.json").read_text())
    assert written["L40S"]["allReduceTpExponent"] == fitted["value"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--prior", "guide"), 2, "leave --prior out"),
        (("--latency-model", "auto"), 2, "takes one latency model"),
        (("--latency-model", "roofline-v2"), 1, "--bench-data-path"),
    ],
)
def test_what_does_not_go_with_a_transfer_is_refused(
    answer, workplace, calibrate, more, code, said
):
    campaign_of(workplace, steps_of(answer.transferred.hardware))
    got, _, err = calibrate("fit", "--gpu", "L40S", "--transfer", *more)
    assert got == code
    assert said in " ".join(err.split())


def test_a_gpu_without_steps_is_sent_to_transfer(three_sources, workplace, calibrate):
    folder = workplace / "ground_truth/L40S/empty"
    folder.mkdir(parents=True)
    (folder / "steps.csv").write_text(",".join([*COLUMNS, "latency_us"]) + "\n")
    code, _, err = calibrate("fit", "--gpu", "L40S", "--latency-model", "roofline-v3", "--transfer")
    assert code == 1
    assert "`calibrate transfer --to L40S`" in " ".join(err.split())


def test_a_plan_begins_with_what_other_gpus_say(three_sources, workplace, calibrate):
    asked = ("plan", "--gpu", "L40S", "--latency-model", "roofline-v3", "--budget", "5", "--json")
    code, out, _ = calibrate(*asked, "--transfer")
    assert code == 0
    made = json.loads(out)
    by_name = {one["name"]: one for one in made["parameters"]}
    assert 0.02 < by_name["gemmMfu"]["now"] < 0.5
    assert all(one["after"] <= one["now"] for one in made["parameters"] if one["now"])
    assert any("at other GPUs' values" in note for note in made["notes"])
    assert len(made["points"]) == 5


@pytest.mark.usefixtures("one_plot")
def test_what_no_row_sees_keeps_the_interval_of_other_gpus(answer, workplace, calibrate):
    campaign_of(workplace, steps_of(answer.transferred.hardware)[:2])
    asked = (
        "fit",
        "--gpu",
        "L40S",
        "--latency-model",
        "roofline-v3",
        "--transfer",
        "--starts",
        "2",
    )
    code, out, _ = calibrate(*asked, "--dry-run", "--json")
    assert code == 0
    by_name = {one["name"]: one for one in json.loads(out)["parameters"]}
    unseen, known = by_name["allReduceBwGBps"], answer.transferred.known["allReduceBwGBps"]
    assert (unseen["status"], unseen["ci90_method"]) == ("inert", "other GPUs")
    assert unseen["ci90"] == pytest.approx(list(known.ci90))


def test_few_rows_of_an_engine_leave_what_no_other_gpu_tells(answer):
    steps = steps_of(answer.transferred.hardware.with_values({"hostLayerMicros": 400.0}))
    data = build_dataset([Campaign.from_frame(steps, "L40S", kind="measured")])
    problem = Problem(MODEL, answer.transferred.hardware, data, (), "soft_l1")
    found = solve(problem, Question(starts=2, prior=answer.priors()))
    assert set(found.problem.free) <= set(answer.priors())
    assert found.hardware.values.get("hostLayerMicros", 0.0) == 0.0
    assert found.joint.stderr
