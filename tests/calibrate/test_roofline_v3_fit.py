"""What a fit of roofline-v3 finds: known truth in noisy steps, and its errors on the shipped campaigns."""

import numpy as np
import pytest

from calibrate import fit, load_campaigns
from calibrate.fitting.problem import opened
from calibrate.importers import read_source, write_campaign
from sim import Hardware, StepTable, latency_model
from sim.hardware import gpu_specs
from sim.models.registry import PARAMETERS
from tests.calibrate.test_ground_truth import SPLITWISE
from tests.conftest import ROOT
from tests.synthetic import synthetic_steps
from tests.synthetic import write_campaign as write_steps

MODEL = latency_model("roofline-v3")
TRUTH = {
    "gemmMfu": 0.7,
    "gemmMfuExponent": 0.08,
    "attentionMfu": 0.4,
    "weightBwFraction": 0.8,
    "kvBwFraction": 0.6,
    "layerMicros": 30.0,
    "allReduceHopMicros": 12.0,
    "allReduceBwGBps": 150.0,
    "allReduceTpExponent": 0.3,
    "allReduceSetupMicros": 20.0,
    "allReduceLargeMicrosPerMB": 2.0,
    "hostLayerMicros": 300.0,
    "hostPrefillMicros": 9000.0,
    "requestMicros": 60.0,
    "promptMicros": 900.0,
    "prefillLayerMicros": 30.0,
}


def vendor(gpu):
    return Hardware(gpu, dict(gpu_specs()[gpu].values))


def fit_v3(campaigns, gpu="H100", **options):
    return fit(campaigns, vendor(gpu), latency_model="roofline-v3", **options)


def error(errors, label="all"):
    return errors[label].mape


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A fit, from the vendor's figures alone, to noisy steps of an engine that has every term."""
    folder = tmp_path_factory.mktemp("ground-truth")
    steps = synthetic_steps(
        vendor("H100").with_values({"BwEffConstant": 1.0, "mfuPrefill": 1.0, "mfuDecode": 1.0}), 600
    )
    latency = MODEL.predict_us(StepTable.from_columns(steps), vendor("H100").with_values(TRUTH))
    noise = np.random.default_rng(0).standard_normal(len(steps))
    write_steps(folder, "H100", steps.assign(latency_us=latency * np.exp(0.02 * noise)))
    return fit_v3(load_campaigns(folder, "H100", hardware=vendor("H100")))


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.slow
def test_known_truth_comes_back_from_noisy_steps(found, name):
    parameter = next(p for p in found.parameters if p.name == name)
    assert parameter.status == "fitted"
    low, high = parameter.ci90
    half = (high - low) / 2
    assert half < 0.5 * TRUTH[name]
    # Two of its half-widths, where 90% lie within one
    assert low - half <= TRUTH[name] <= high + half


def test_a_fit_reports_the_parameters_of_its_model_only(found):
    assert {p.name for p in found.parameters} == set(MODEL.parameter_names)
    assert found.metrics.held_out["folds"]["all"].mape < 0.02


@pytest.fixture(scope="module")
def h100():
    return fit_v3(load_campaigns(ROOT / "ground_truth", "H100", hardware=vendor("H100")))


@pytest.mark.slow
def test_the_h100_fit_reaches_what_is_documented(h100):
    metrics = h100.metrics
    assert error(metrics.after) <= 0.028
    assert error(metrics.held_out["folds"]) <= 0.028
    assert error(metrics.held_out["model"]) <= 0.032
    assert error(metrics.held_out["tp"]) <= 0.033
    assert h100.verdict.level == "good"


def test_kernels_show_no_time_of_an_engine(h100):
    held = {
        p.name: (p.status, p.value) for p in h100.parameters if PARAMETERS[p.name].stage == "engine"
    }
    assert set(held.values()) == {("inert", 0.0)}
    assert {p.status for p in h100.parameters if p.name not in held} == {"fitted"}


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_another_seed_finds_the_same_h100_parameters(h100):
    again = fit_v3(
        load_campaigns(ROOT / "ground_truth", "H100", hardware=vendor("H100")),
        seed=1,
        starts=8,
        cv=["2"],
    )
    for name, value in h100.values.items():
        assert again.values[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.parametrize(
    ("gpu", "after", "model", "tp"),
    [
        ("H200", 0.025, 0.030, 0.029),
        ("A100-SXM", 0.031, 0.034, 0.036),
        ("B200", 0.040, 0.046, 0.049),
    ],
)
@pytest.mark.slow
def test_the_other_gpus_reach_what_is_documented(gpu, after, model, tp):
    metrics = fit_v3(
        load_campaigns(ROOT / "ground_truth", gpu, hardware=vendor(gpu)),
        gpu,
        starts=4,
        cv=["model", "tp"],
    ).metrics
    assert error(metrics.after) <= after
    assert error(metrics.held_out["model"]) <= model
    assert error(metrics.held_out["tp"]) <= tp


def test_the_h100_parameters_carry_over_to_h200(h100):
    (campaign,) = load_campaigns(
        ROOT / "ground_truth", "H200", ["aiconfigurator-vllm-0.24.0"], vendor("H200")
    )
    values = {name: value for name, value in h100.values.items() if name in MODEL.parameter_names}
    predicted = MODEL.predict_us(campaign.table, vendor("H200").with_values(values))
    assert np.abs(predicted / campaign.steps["latency_us"].to_numpy() - 1).mean() <= 0.04


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.skipif(
    not SPLITWISE.exists(), reason="the Splitwise measurements are not beside this checkout"
)
@pytest.mark.slow
def test_real_splitwise_steps_are_followed_to_three_percent(tmp_path, h100):
    write_campaign(read_source("splitwise", str(SPLITWISE), "H100"), tmp_path / "H100/splitwise")
    campaigns = load_campaigns(tmp_path, "H100", hardware=vendor("H100"))
    after = fit_v3(campaigns, skip_bad_rows=True, starts=16, cv=["2"]).metrics.after
    assert error(after, "phase:prefill") <= 0.03
    assert error(after, "phase:decode") <= 0.02
    # And all that kernels alone do not show
    engine = {"gemmMfu", "allReduceHopMicros", "allReduceBwGBps"}
    fixed = {
        p.name: p.value for p in h100.parameters if p.status == "fitted" and p.name not in engine
    }
    assert len(fixed) == 7
    unseen = fit_v3(
        campaigns, skip_bad_rows=True, cv=["2", "tp"], fix=fixed, starts=8
    ).metrics.held_out["tp"]
    assert error(unseen, "phase:prefill") <= 0.06
    assert error(unseen, "phase:decode") <= 0.055


def test_a_parameter_that_may_be_negative_counts_on_a_linear_scale():
    exponent = PARAMETERS["allReduceTpExponent"]
    rate = PARAMETERS["gemmMfu"]
    assert (exponent.is_linear, rate.is_linear) == (True, False)
    # Its guide's range, by its own width on both sides, within bounds
    assert exponent.widened(3.0, 5.0) == (-2.0, 2.5)
    assert exponent.between(-1.0, 2.5, np.array([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.75, 2.5]
    assert exponent.size(-0.3) == exponent.size(0.0) == 1.5
    assert exponent.middle == 0.25
    assert rate.widened(3.0, 5.0) == (pytest.approx(0.4 / 3), 1.0)
    assert rate.between(0.25, 1.0, np.array([0.5])).tolist() == [0.5]
    assert (rate.size(0.7), rate.size(0.0)) == (0.7, 0.4)
    assert rate.middle == pytest.approx(0.6)


def test_a_term_that_is_off_is_tried_in_the_middle_of_its_range():
    names = ("hostLayerMicros", "layerMicros", "allReduceTpExponent")
    hardware = vendor("H100").with_values(
        {"hostLayerMicros": 0.0, "layerMicros": 7.0, "allReduceTpExponent": 0.0}
    )
    values = MODEL.parameters(opened(MODEL, hardware, names))
    assert values["hostLayerMicros"] == PARAMETERS["hostLayerMicros"].middle > 0
    assert (values["layerMicros"], values["allReduceTpExponent"], values["promptMicros"]) == (
        7.0,
        0.0,
        0.0,
    )
