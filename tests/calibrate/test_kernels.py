"""Kernel tables as ground truth: known truth, the interval's coverage, and what is said beside the steps."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from calibrate import fit, load_campaigns
from calibrate.campaign.campaign import load_campaign
from calibrate.cli import app
from calibrate.outcome.kernels import (
    KernelEstimate,
    compare_with_steps,
    kernel_estimates,
    kernel_warnings,
    median_interval,
)
from calibrate.outcome.result import ParameterResult
from calibrate.records.errors import CalibrateError
from sim import latency_model
from tests.conftest import ROOT
from tests.synthetic import synthetic_steps, write_campaign

BANDWIDTH, PREFILL, VECTOR, CACHE, LATENCY_US, LINK_GB_PER_S = 0.8, 0.7, 0.4, 0.9, 6.0, 200.0
PEAK, PEAK_BANDWIDTH = 989.5e6, 3.35e6  # FLOP and bytes a µs


def kernel_tables(noise=0.0, seed=0):
    """Kernels that reach known shares of the guide's H100 peaks, times lognormal noise by shape."""
    rng = np.random.default_rng(seed)

    def table(rows, *columns):
        frame = pd.DataFrame(rows, columns=[*columns, "latency_us"])
        return frame.assign(
            latency_us=frame["latency_us"] * np.exp(noise * rng.standard_normal(len(frame)))
        )

    shapes = [(n, k) for n in (8192, 16384, 32768, 51200) for k in (16384, 24576, 32768)]
    gemm = [
        (m, n, k, _gemm_us(m, n, k)) for n, k in shapes for m in (1, 16, 64, 128, 256, 2048, 8192)
    ]
    heads = [
        (h, kv, 128, b, s)
        for h, kv in ((32, 8), (64, 8), (40, 8))
        for b in (1, 4)
        for s in (64, 2048, 8192)
    ]
    return {
        "memory": table(
            [("copy", 2.0**p, 2.0**p / BANDWIDTH / PEAK_BANDWIDTH) for p in (20, 31, 33)],
            "op",
            "bytes",
        ),
        "gemm": table(gemm, "m", "n", "k"),
        "attention_prefill": table(
            [(*row, _attention_us(*row)) for row in heads],
            *("num_heads", "num_kv_heads", "head_dim", "batch_size", "seq_len"),
        ),
        "attention_decode": table(
            [
                (*row, _cache_us(*row))
                for row in ((h, kv, 128, 64, s) for h, kv, *_ in heads[::6] for s in (64, 32768))
            ],
            *("num_heads", "num_kv_heads", "head_dim", "batch_size", "kv_len"),
        ),
        "allreduce": table(
            [
                (tp, 2.0**p, LATENCY_US + 2.0**p / LINK_GB_PER_S / 1e3)
                for tp in (2, 4, 8)
                for p in range(8, 30, 3)
            ],
            "tp",
            "bytes",
        ),
    }


def _gemm_us(m, n, k):
    return max(
        2 * m * n * k / PEAK / PREFILL, 2 * (m * k + k * n + m * n) / PEAK_BANDWIDTH / BANDWIDTH
    )


def _attention_us(heads, _, head_dim, batch, length):
    return (
        3.0 * (length < 1024)
        + heads * (4 * head_dim + 4) * batch * length * (length - 1) / 2 / PEAK / VECTOR
    )


def _cache_us(_, kv_heads, head_dim, batch, length):
    return 3.0 * (length < 1024) + 4 * kv_heads * head_dim * batch * length / PEAK_BANDWIDTH / CACHE


def write_kernels(folder, tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return load_campaign(folder, "H100")


def test_known_shares_come_back(tmp_path, h100):
    campaign = write_kernels(tmp_path / "H100" / "k", kernel_tables())
    assert set(campaign.kernels) == {
        "memory",
        "gemm",
        "attention_prefill",
        "attention_decode",
        "allreduce",
    }
    found = {e.parameter: e for e in kernel_estimates([campaign], h100)}
    truth = {
        "BwEffConstant": BANDWIDTH,
        "bwEfficiencyFactor": BANDWIDTH,
        "weightBwFraction": BANDWIDTH,
        "mfuPrefill": PREFILL,
        "gemmMfu": PREFILL,
        "vectorPeakFraction": VECTOR,
        "attentionMfu": VECTOR * 512 / 516,
        "kvBwFraction": CACHE,
        "allReduceBwGBps": LINK_GB_PER_S,
        "allReduceLatency": LATENCY_US,
    }
    assert {name: e.value for name, e in found.items()} == pytest.approx(truth, rel=2e-3)
    assert found["BwEffConstant"].n == 14
    assert found["BwEffConstant"].source == "the bandwidth benchmark and memory-bound GEMMs"
    assert found["allReduceLatency"].ci90 is None


def test_noisy_kernels_hold_the_truth_in_their_intervals(tmp_path, h100):
    campaign = write_kernels(tmp_path / "H100" / "k", kernel_tables(noise=0.1))
    found = {e.parameter: e for e in kernel_estimates([campaign], h100)}
    for name, truth in (
        ("BwEffConstant", BANDWIDTH),
        ("mfuPrefill", PREFILL),
        ("vectorPeakFraction", VECTOR),
    ):
        low, high = found[name].ci90
        assert low < truth < high


@pytest.mark.parametrize("n", [5, 8, 13, 47])
def test_the_medians_interval_covers_nine_times_in_ten(n):
    draws = np.sort(np.random.default_rng(n).standard_cauchy((4000, n)), axis=1)
    ends = np.array([median_interval(row) for row in draws])
    coverage = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert 0.885 < coverage < 0.97
    assert median_interval(draws[0, :4]) is None


def test_kernels_of_another_type_and_cached_ones_do_not_count(tmp_path, h100):
    tables = kernel_tables()
    tables["gemm"] = tables["gemm"].assign(dtype="fp8")
    tables["memory"] = tables["memory"][tables["memory"]["bytes"] < 2**28]
    campaign = write_kernels(tmp_path / "H100" / "k", tables)
    left = {
        "vectorPeakFraction",
        "attentionMfu",
        "kvBwFraction",
        "allReduceLatency",
        "allReduceBwGBps",
    }
    assert {e.parameter for e in kernel_estimates([campaign], h100)} == left
    assert kernel_estimates([dataclasses.replace(campaign, kernels={})], h100) == []


def steps_say(name, value, ci90, status="fitted"):
    return ParameterResult(name, value, value, "–", 0, 1, (0, 1), None, ci90, None, {}, status, "")


@pytest.mark.parametrize(
    ("value", "ci90", "status", "agrees", "warned"),
    [
        (0.5, (0.4, 0.6), "fitted", False, True),
        (0.5, (0.4, 0.85), "fitted", True, False),
        (0.5, (0.4, None), "fitted", True, False),
        (0.7, (0.69, 0.71), "fitted", False, True),
        (0.78, (0.77, 0.79), "fitted", False, False),
        (0.5, None, "at-bound", None, False),
        (0.5, None, "held", None, False),
    ],
)
def test_they_agree_if_intervals_meet_and_are_warned_of_beyond_what_a_model_errs(
    tmp_path, h100, value, ci90, status, agrees, warned
):
    """The kernels say 0.8, all of them: 0.78 is apart from it, but by less than 5%."""
    campaign = write_kernels(tmp_path / "H100" / "k", {"memory": kernel_tables()["memory"]})
    said = [
        steps_say("BwEffConstant", value, ci90, status),
        steps_say("decodeBwFactor", 1.0, None, "tied"),
    ]
    (result,) = compare_with_steps(
        kernel_estimates([campaign], h100), latency_model("roofline-v1"), said
    )
    assert result.agrees is agrees
    warnings = kernel_warnings([result])
    assert bool(warnings) is warned
    assert all(
        f"BwEffConstant is {value:g} by the steps and 0.8 by the kernels" in text
        for text in warnings
    )


@pytest.mark.parametrize(
    ("kernels", "steps", "agrees"),
    [
        ((0.878, 0.896), (0.713, 0.757), False),
        ((0.878, 0.896), (0.673, 0.88), True),
        (None, (0.85, 0.9), True),
        (None, (0.713, 0.757), False),
        (None, None, None),
    ],
)
def test_agreement_is_a_matter_of_intervals(kernels, steps, agrees):
    """0.885 by kernels against 0.7345 by steps, 17% apart."""
    estimate = KernelEstimate("BwEffConstant", 0.885, kernels, 24, "GEMMs")
    said = [steps_say("BwEffConstant", 0.7345, steps)]
    (result,) = compare_with_steps([estimate], latency_model("roofline-v1"), said)
    assert result.agrees is agrees


def test_a_multiplier_takes_its_share(tmp_path, h100):
    campaign = write_kernels(tmp_path / "H100" / "k", {"gemm": kernel_tables()["gemm"]})
    said = [
        steps_say("mfuPrefill", 0.875, (0.87, 0.88)),
        steps_say("mfuPrefillMultiplier", 0.8, None, "tied"),
        steps_say("BwEffConstant", 0.8, (0.79, 0.81)),
        steps_say("decodeBwFactor", 1.0, None, "tied"),
    ]
    results = compare_with_steps(
        kernel_estimates([campaign], h100), latency_model("roofline-v1"), said
    )
    assert {r.parameter: r.value for r in results} == pytest.approx(
        {"BwEffConstant": 0.8, "mfuPrefill": 0.875}, rel=2e-3
    )


def test_the_rate_of_a_straight_line_is_not_held_against_one_that_grows(tmp_path, h100):
    campaign = write_kernels(tmp_path / "H100" / "k", {"allreduce": kernel_tables()["allreduce"]})
    estimates = kernel_estimates([campaign], h100)
    said = {"roofline-v3": ["allReduceBwGBps"], "roofline-v4": []}
    for name, expected in said.items():
        model = latency_model(name)
        steps = [steps_say(known, 250.0, None) for known in model.parameter_names]
        found = compare_with_steps(estimates, model, steps)
        assert [one.parameter for one in found] == expected


@pytest.mark.usefixtures("no_profiles")
def test_a_fit_sets_kernels_beside_its_steps(tmp_path, h100):
    folder = write_campaign(
        tmp_path, "H100", synthetic_steps(h100.with_values({"mfuPrefill": 0.4}), 120)
    )
    write_kernels(folder, kernel_tables())
    result = fit(load_campaigns(tmp_path, "H100"), h100, starts=2, cv=("5",))
    said = {k["parameter"]: k for k in result.to_dict()["kernels"]}
    assert set(said["mfuPrefill"]) == {
        "parameter",
        "value",
        "ci90",
        "n",
        "from",
        "steps_value",
        "agrees",
    }
    assert said["mfuPrefill"]["agrees"] is False
    assert said["mfuPrefill"]["steps_value"] == pytest.approx(0.4, rel=1e-3)
    assert said["BwEffConstant"]["value"] == pytest.approx(0.8, rel=1e-2)
    assert said["BwEffConstant"]["agrees"] is False
    assert any(
        text.startswith("mfuPrefill is 0.4 by the steps and 0.7 by the kernels")
        for text in result.warnings
    )


def test_kernels_without_steps_say_what_they_determine(tmp_path, h100):
    write_kernels(tmp_path / "H100" / "k", kernel_tables())
    with pytest.raises(
        CalibrateError,
        match=r"kernels only.*--spec BwEffConstant=0\.\d+ .*--spec allReduceLatency=6",
    ):
        fit(load_campaigns(tmp_path, "H100"), h100)


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_the_terminal_shows_kernels_of_the_shipped_campaign(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(
        app, ["fit", "--gpu", "H100", "--dry-run", "--force", "--starts", "1", "--cv", "5"]
    )
    assert done.exit_code == 0
    assert "From kernels" in done.output
    assert "memory-bound GEMMs" in done.output


def test_shipped_kernels_fit_their_size_and_hold_plausible_values(h100):
    folders = sorted((ROOT / "ground_truth").glob("*/aiconfigurator-*.0"))
    assert len(folders) >= 9
    for folder in folders:
        gpu = folder.parent.name
        assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
        (campaign,) = load_campaigns(ROOT / "ground_truth", gpu, [folder.name])
        assert set(campaign.kernels) == {
            "gemm",
            "attention_prefill",
            "attention_decode",
            "allreduce",
        }
        assert [str(p) for p in campaign.problems] == []
    (campaign,) = load_campaigns(ROOT / "ground_truth", "H100", ["aiconfigurator-vllm-0.24.0"])
    found = {e.parameter: e.value for e in kernel_estimates([campaign], h100)}
    assert 0.8 < found["BwEffConstant"] < 0.95
    assert 0.7 < found["mfuPrefill"] < 0.85
    assert 4 < found["allReduceLatency"] < 6
