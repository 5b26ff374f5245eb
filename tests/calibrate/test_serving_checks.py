"""Serving tables against physics and arithmetic: units, weights that must be read, Little's law."""

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.serving_rates import check_serving_rates, requests_in_flight

WEIGHTS_MS = 2 * 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336) / 3.35e9
"""Llama-3.1-8B's layers in bf16, read once at 3.35 TB/s: 4.17 ms."""

GOOD = {  # four clients, 512 tokens in and 128 out, on one H100
    "model": "llama-3.1-8b",
    "tp": 1,
    "load": "closed",
    "concurrency": 4.0,
    "num_requests": 120.0,
    "input_tokens_mean": 512.0,
    "output_tokens_mean": 128.0,
    "ttft_ms_mean": 35.0,
    "itl_ms_mean": 6.6,
    "e2e_ms_mean": 873.2,
    "requests_per_s": 4.5809,
    "output_tokens_per_s": 586.36,
}
TIMES = ("ttft_ms_mean", "itl_ms_mean", "e2e_ms_mean")
NO_RATES = {"requests_per_s": np.nan, "output_tokens_per_s": np.nan}


@pytest.fixture
def campaign(tmp_path, h100):
    """Load a campaign of good load points, each with some cells changed; steps' peaks are H100's."""

    def of(*changes, hardware=h100):
        folder = tmp_path / "H100/served"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "campaign.toml").write_text('title = "served"\n')
        rows = [{**GOOD, "run_id": f"r{i}", **change} for i, change in enumerate(changes)]
        pd.DataFrame(rows).to_csv(folder / "serving.csv", index=False)
        return load_campaign(folder, "H100", hardware)

    return of


def scaled(factor, **changes):
    return {**{name: GOOD[name] * factor for name in TIMES}, **changes}


def said(campaign, severity="error"):
    return {p.column: f"{p.message}. {p.fix}" for p in campaign.problems if p.severity == severity}


def test_good_load_points_pass(campaign):
    assert campaign({}, {"itl_ms_mean": 6.5}).problems == ()


def test_seconds_in_columns_of_milliseconds_are_an_error(campaign):
    found = campaign(scaled(1e-3), scaled(1e-3, tp=2))
    assert len(found.serving) == 0
    errors = said(found)
    assert set(errors) == {"concurrency", "itl_ms_mean", "ttft_ms_mean"}
    for text in errors.values():
        assert "seconds given as milliseconds: multiply the _ms_ columns by 1000" in text
    assert "0.001 of the concurrency" in errors["concurrency"]
    assert "4.17 ms" in errors["itl_ms_mean"]


def test_microseconds_in_columns_of_milliseconds_are_an_error(campaign):
    found = campaign(scaled(1e3), scaled(1e3))
    assert len(found.serving) == 0
    for column in ("concurrency", "itl_ms_mean"):
        assert "microseconds given as milliseconds: divide" in said(found)[column]


def test_one_slow_load_point_among_many_is_a_warning(campaign):
    found = campaign(scaled(1e3, **NO_RATES), *[{}] * 9)
    assert len(found.serving) == 10
    assert said(found) == {}
    assert "no engine is so slow" in said(found, "warning")["itl_ms_mean"]


@pytest.mark.parametrize(("factor", "usable"), [(0.99, 0), (1.01, 1)])
@pytest.mark.parametrize("tp", [1, 4])
def test_a_token_takes_one_reading_of_the_weights_at_least(campaign, tp, factor, usable):
    itl = factor * WEIGHTS_MS / tp
    change = {"tp": tp, "itl_ms_mean": itl, "e2e_ms_mean": 35.0 + itl * 127, **NO_RATES}
    found = campaign(change)
    assert len(found.serving) == usable
    causes = ("speculative decoding", "output_tokens_mean", "dtype column")
    assert all(cause in said(found).get("itl_ms_mean", "") for cause in causes) is not bool(usable)


def test_fp8_weights_are_read_in_half_the_time(campaign):
    itl = 0.7 * WEIGHTS_MS
    change = {"itl_ms_mean": itl, "e2e_ms_mean": 35.0 + itl * 127, **NO_RATES}
    assert len(campaign({**change, "dtype": "fp8"}).serving) == 1
    assert len(campaign({**change, "dtype": "bf16"}).serving) == 0


def test_chunks_counted_as_tokens_are_no_breach_of_physics(campaign):
    found = campaign({"itl_ms_mean": 3.3})
    assert len(found.serving) == 1
    assert "halved the ITL" in said(found, "warning")["itl_ms_mean"]


def test_output_tokens_that_were_never_generated_are_an_error(campaign):
    # 96 tokens came in 7 ms each, 512 were counted
    change = {"output_tokens_mean": 512.0, "ttft_ms_mean": 35.0, "itl_ms_mean": 1.3014, **NO_RATES}
    found = campaign({**change, "e2e_ms_mean": 700.0})
    assert len(found.serving) == 0
    assert "output_tokens_mean above what was generated" in said(found)["itl_ms_mean"]


def test_a_run_that_stopped_early_is_an_error_where_no_token_can_be_so_fast(campaign):
    found = campaign({"output_tokens_mean": 256.0, **NO_RATES})  # of 128, in 873 ms
    assert len(found.serving) == 0
    assert "end-to-end times leave a token 3.29 ms" in said(found)["output_tokens_mean"]
    assert "a run that stopped early" in said(found)["output_tokens_mean"]


def test_an_end_to_end_time_below_its_ttft_is_an_error(campaign):
    found = campaign({"e2e_ms_mean": 30.0, **NO_RATES})
    assert len(found.serving) == 0
    assert "end before their first token" in said(found)["e2e_ms_mean"]


def test_a_table_of_end_to_end_times_only_is_held_to_the_weights_too(campaign):
    bare = {"ttft_ms_mean": np.nan, "itl_ms_mean": np.nan, **NO_RATES}
    found = campaign({**bare, "e2e_ms_mean": 1.01 * 128 * WEIGHTS_MS})
    assert len(found.serving) == 1
    found = campaign({**bare, "e2e_ms_mean": 0.99 * 128 * WEIGHTS_MS})
    assert len(found.serving) == 0


def test_a_first_token_before_the_weights_are_read_is_an_error(campaign):
    found = campaign({"ttft_ms_mean": 1.0, "e2e_ms_mean": 839.2})
    assert len(found.serving) == 0
    assert "empty first chunk" in said(found)["ttft_ms_mean"]


def test_a_prompt_computed_faster_than_the_peaks_allow_was_cached(campaign):
    change = {"input_tokens_mean": 16384.0}  # 231 ms of matrix products alone
    found = campaign(change)
    assert len(found.serving) == 1
    assert "Probably a prefix cache" in said(found, "warning")["ttft_ms_mean"]
    assert campaign({**change, "cached_input_tokens_mean": 16000.0}).problems == ()
    assert campaign({**change, "distinct_prompts": 4}).problems == ()


def test_times_of_zero_were_not_measured(campaign):
    alone = {"output_tokens_mean": 1.0, "itl_ms_mean": 0.0, "e2e_ms_mean": 35.0, **NO_RATES}
    assert [p for p in campaign(alone).problems if p.severity == "error"] == []
    whole = {"ttft_ms_mean": 0.0, "itl_ms_mean": np.nan}
    assert [p for p in campaign(whole).problems if p.severity == "error"] == []


def test_physics_needs_peaks_and_little_does_not(campaign):
    assert len(campaign(scaled(1e-3, **NO_RATES), hardware=None).serving) == 1
    assert len(campaign(scaled(1e-3), hardware=None).serving) == 0


def test_a_table_without_a_known_model_is_no_matter_of_physics(campaign):
    found = campaign({"model": "no-such-model"})
    assert len(found.serving) == 0
    assert set(said(found)) == {"model"}


@pytest.mark.filterwarnings("error")
def test_a_concurrency_of_next_to_nothing_is_an_error(campaign):
    found = campaign({"concurrency": 1e-308})
    assert len(found.serving) == 0
    assert "Little's law" in said(found)["concurrency"]


def test_littles_law_counts_the_requests_in_flight():
    rows = pd.DataFrame([GOOD, {**GOOD, "requests_per_s": np.nan}, {**GOOD, "e2e_ms_mean": np.nan}])
    assert requests_in_flight(rows) == pytest.approx([4.0, 4.0, 4.0], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({"concurrency": 2.6}, "warning"),
        ({"concurrency": 3.0}, None),
        ({"concurrency": 4.4}, None),
        ({"concurrency": 9.0}, "warning"),
        ({"concurrency": 9.0, "failed_requests": 3}, None),
        ({"concurrency": 9.0, "num_requests": 20}, None),
        ({"concurrency": 9.0, "load": "poisson", "request_rate": 4.6}, None),
        ({"requests_per_s": 4.5809 * 60, "output_tokens_per_s": 586.36 * 60}, "error"),
        ({"output_tokens_per_s": 586.36 * 60}, "error"),
        ({"output_tokens_per_s": 586.36 * 1.2}, "warning"),
    ],
)
def test_rates_times_and_concurrency_go_together(change, severity):
    rows = pd.DataFrame([{**GOOD, **change}]).assign(line=2)
    keep, problems = check_serving_rates("serving.csv", rows)
    assert [p.severity for p in problems] == ([severity] if severity else [])
    assert keep.tolist() == [severity != "error"]


def test_requests_a_minute_are_named():
    rows = pd.DataFrame([{**GOOD, "requests_per_s": 275.0, "output_tokens_per_s": np.nan}])
    _, (problem,) = check_serving_rates("serving.csv", rows.assign(line=2))
    assert "requests a minute given as requests a second: divide by 60" in problem.fix


def test_a_table_of_required_columns_only_passes():
    keep, problems = check_serving_rates(
        "serving.csv", pd.DataFrame({"model": ["m"], "tp": [1.0], "line": [2]})
    )
    assert (keep.tolist(), problems) == ([True], [])
