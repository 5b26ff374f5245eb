"""The shipped campaigns, the main job on them, and real measurements where they are at hand."""

import tomllib
from pathlib import Path

import pytest

from calibrate import fit, load_campaigns
from calibrate.importers import read_source, write_campaign
from sim import load_hardware
from sim.hardware import gpu_specs
from tests.conftest import GUIDE_H100, ROOT

GPUS = ("H100", "A100-SXM", "H200", "L40S", "B200")
SPLITWISE = ROOT.parent / "shared/ground_truth/splitwise/perf_model_h100_llama2-70b.csv"


def guide_hardware(gpu):
    return load_hardware({gpu: {**GUIDE_H100, **gpu_specs()[gpu].values}}, gpu=gpu)


@pytest.mark.parametrize("gpu", GPUS)
def test_a_shipped_campaign_is_whole_and_says_where_it_is_from(gpu):
    (campaign,) = [
        c
        for c in load_campaigns(ROOT / "ground_truth", gpu, hardware=guide_hardware(gpu))
        if "aiconf" in c.name
    ]
    assert campaign.problems == ()
    assert 700 <= len(campaign.steps) <= 1000
    assert set(campaign.steps["model"]) == {"llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"}
    info = tomllib.loads((campaign.folder / "campaign.toml").read_text())
    assert "aiconfigurator-core" in info["source"]
    assert info["licence"] == "Apache-2.0"
    assert info["kind"] == "kernel-composed"


@pytest.fixture(scope="module")
def h100_result():
    hardware = guide_hardware("H100")
    names = ["aiconfigurator-vllm-0.24.0"]
    return fit(load_campaigns(ROOT / "ground_truth", "H100", names, hardware), hardware)


@pytest.mark.slow
def test_the_h100_fit_reaches_its_targets(h100_result):
    metrics = h100_result.metrics
    assert metrics.before["all"].mape > 0.15
    assert metrics.after["all"].mape <= 0.085
    assert metrics.held_out["folds"]["all"].mape <= 0.09
    assert metrics.held_out["tp"]["all"].mape <= 0.11


def test_the_weak_side_of_the_h100_fit_is_said(h100_result):
    model_out = h100_result.metrics.held_out["model"]
    assert model_out["model:llama-3.1-8b"].mape > 0.25
    assert any("Leaving one model out" in w and "llama-3.1-8b" in w for w in h100_result.warnings)
    assert any("Leaving one model out" in reason for reason in h100_result.verdict.reasons)


def test_the_h100_parameters_mean_what_they_say(h100_result):
    values = h100_result.values
    assert 0.7 <= values["BwEffConstant"] <= 0.9
    assert 0.7 <= values["mfuPrefill"] <= 0.9
    assert 5 <= values["allReduceLatency"] <= 20
    assert all(
        p.lower <= p.value <= p.upper and p.status != "at-bound" for p in h100_result.parameters
    )


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.slow
def test_every_seed_finds_the_same_h100_parameters(h100_result, seed):
    hardware = guide_hardware("H100")
    again = fit(
        load_campaigns(ROOT / "ground_truth", "H100", hardware=hardware),
        hardware,
        seed=seed,
        cv=["2"],
    )
    assert again.fit.cost == pytest.approx(h100_result.fit.cost, rel=1e-6)
    for name, value in h100_result.values.items():
        assert again.values[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_a_fit_from_other_values_finds_the_same_h100_parameters(h100_result):
    hardware = guide_hardware("H100").with_values(
        {"mfuPrefill": 0.3, "mfuDecode": 0.5, "TOverheadMicros": 5.0}
    )
    campaigns = load_campaigns(ROOT / "ground_truth", "H100", hardware=hardware)
    again = fit(campaigns, hardware, cv=["2"])
    for name, value in h100_result.values.items():
        assert again.values[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.skipif(
    not SPLITWISE.exists(), reason="the Splitwise measurements are not beside this checkout"
)
@pytest.mark.slow
def test_on_real_splitwise_steps_the_model_is_named_as_what_is_at_fault(tmp_path):
    write_campaign(read_source("splitwise", str(SPLITWISE), "H100"), tmp_path / "H100/splitwise")
    hardware = guide_hardware("H100")
    campaigns = load_campaigns(tmp_path, "H100", hardware=hardware)
    errors = [p for p in campaigns[0].problems if p.severity == "error"]
    assert [p.lines for p in errors if "/steps." in p.file] == [(32, 33, 34, 35, 36)]
    (early,) = (p for p in errors if "/serving." in p.file)  # runs that stopped early
    assert "faster than physics" in early.message
    result = fit(campaigns, hardware, skip_bad_rows=True)
    assert any("The model, not the data, is at fault" in warning for warning in result.warnings)
    assert {one.phase for one in result.structure} >= {"prefill"}
    assert result.metrics.after["all"].mape < result.metrics.before["all"].mape


@pytest.mark.skipif(
    not SPLITWISE.exists(), reason="the golden vectors are not beside this checkout"
)
def test_the_committed_golden_vectors_are_the_shared_ones():
    shared = ROOT.parent / "shared/golden/v1_cases.json"
    assert (
        shared.read_bytes()
        == (Path(__file__).parent.parent / "data/roofline_v1_golden.json").read_bytes()
    )
