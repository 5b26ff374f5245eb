"""Prompts beside decodes: what a fit of roofline-v4 finds of their launches, and the campaigns that hold them."""

import dataclasses
import tomllib

import numpy as np
import pytest

from calibrate import load_campaigns
from calibrate.campaign.workload_files import read_workload
from calibrate.fitting.objective import MODEL_FLOOR, build_dataset
from calibrate.fitting.problem import Problem
from calibrate.job.solution import Question, solve
from sim import latency_model
from sim.hardware import Hardware, gpu_specs
from tests.conftest import ROOT

CAMPAIGN = "llmservingsim-vllm-0.19.0"
TRUTH = {
    "mixedDecodeRows": 90.0,
    "mixedWalkMicros": 0.03,
    "mixedDecodeTokens": 60.0,
    "mixedChunkShare": 0.6,
}
MODEL = latency_model("roofline-v4")
HARDWARE = Hardware("RTX-4090", dict(gpu_specs()["RTX-4090"].values))


def shipped(gpu):
    hardware = Hardware(gpu, dict(gpu_specs()[gpu].values))
    return load_campaigns(
        ROOT / "ground_truth", gpu, (CAMPAIGN,), hardware, latency_models=[MODEL.name]
    )


@pytest.fixture(scope="module")
def measured():
    return build_dataset(shipped("RTX-4090"), MODEL_FLOOR)


def solved(data):
    return solve(Problem(MODEL, HARDWARE, data, (), "soft_l1"), Question(starts=1))


def test_a_fit_finds_the_launches_that_made_the_steps(measured):
    made = HARDWARE.with_values({**TRUTH, "gemmMfu": 0.8, "gemmPadTokens": 50.0})
    exact = dataclasses.replace(measured, measured_us=MODEL.predict_us(measured.table, made))
    found = solved(exact).hardware.values
    assert {name: found[name] for name in TRUTH} == pytest.approx(TRUTH, rel=0.01)
    assert found["gemmPadTokens"] == pytest.approx(50, rel=0.01)


def test_steps_of_one_kind_hold_what_only_mixed_launches_show(measured):
    alone = measured.take(measured.table.phases != "mixed")
    held = solved(alone).choice.held
    assert all(held[name][0] == "inert" for name in TRUTH)


def test_measured_mixed_steps_are_fitted_to_some_percent(measured):
    predicted = MODEL.predict_us(measured.table, solved(measured).hardware)
    error = np.abs(predicted / measured.measured_us - 1)
    is_mixed = measured.table.phases == "mixed"
    assert is_mixed.sum() > 1800
    assert error[is_mixed].mean() < 0.045
    assert error.mean() < 0.045


@pytest.mark.parametrize(
    ("gpu", "models"),
    [
        ("RTX-4090", {"llama-3.1-8b"}),
        ("RTX-PRO-6000-Server", {"llama-3.1-8b", "qwen3-32b", "qwen3-30b-a3b-2507"}),
    ],
)
def test_a_shipped_campaign_of_mixed_steps_is_whole_and_says_where_it_is_from(gpu, models):
    (campaign,) = shipped(gpu)
    assert not [problem for problem in campaign.problems if problem.severity == "error"]
    assert set(campaign.steps["model"]) == models
    info = tomllib.loads((campaign.folder / "campaign.toml").read_text())
    assert (info["licence"], info["latency_models"]) == ("MIT", ["roofline-v4"])
    assert len(info["source_sha256"]) == 64
    assert "KAIST" in (campaign.folder / "LICENSE").read_text()
    assert len(read_workload(campaign.folder / "requests.jsonl.gz").prompt_tokens) == 300
    size = sum(file.stat().st_size for file in campaign.folder.iterdir())
    assert size <= 600_000
