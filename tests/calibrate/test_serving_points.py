"""Rows of serving tables as what is simulated: what they say, what is assumed, and what is left out with its reason."""

import numpy as np
import pandas as pd
import pytest

from calibrate import load_campaigns
from calibrate.records.errors import CalibrateError
from calibrate.serving.points import FIGURES, serving_points
from sim import Hardware, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Fixed, LogNormal, Normal
from sim.serving.workload import Closed, Constant, Gamma, Stage
from tests.synthetic import write_campaign

GOOD = {
    "model": "llama-3.1-8b",
    "tp": 1,
    "load": "poisson",
    "request_rate": 5.0,
    "num_requests": 1000,
    "input_tokens_mean": 500.0,
    "output_tokens_mean": 101.0,
    "max_num_batched_tokens": 4096,
    "max_num_seqs": 128,
    "kv_cache_tokens": 100_000,
    "ttft_ms_mean": 50.0,
    "itl_ms_mean": 10.0,
    "e2e_ms_mean": 1050.0,
    "requests_per_s": 4.95,
}
H100 = Hardware("H100", dict(gpu_specs()["H100"].values))


@pytest.fixture
def points(tmp_path):
    """The load points of some good rows, each with some cells changed (None: empty)."""

    def of(*changes, hardware=H100, model="roofline-v3", itl="unknown"):
        rows = pd.DataFrame([{**GOOD, **change} for change in changes])
        write_campaign(tmp_path, "H100", rows, info={"itl": itl}, table="serving")
        return serving_points(load_campaigns(tmp_path, "H100"), hardware, latency_model(model))

    return of


def measured(points, row=0):
    return {
        figure: value
        for figure, value in zip(FIGURES, points.measured_ms[row], strict=True)
        if value > 0
    }


def test_a_row_that_says_everything_is_taken_at_its_word(points):
    found = points(
        {"input_tokens_std": 50.0, "output_tokens_std": 90.0, "block_size": 32, "dtype": "fp8"}
    )
    (point,) = found.points
    assert point.workload.load == Stage(5.0)
    assert (point.workload.prompt, point.workload.output) == (
        Normal(500.0, 50.0),
        LogNormal(101.0, 90.0),
    )
    assert point.arch.dtype == "fp8"
    assert (point.engine.max_num_batched_tokens, point.engine.max_num_seqs) == (4096, 128)
    assert (point.engine.kv_cache_tokens, point.engine.block_size) == (100_000, 32)
    assert found.assumptions == ()


def test_loads_are_of_their_kind(points):
    closed = {"load": "closed", "concurrency": 32, "request_rate": None}
    found = points(
        {"load": "constant"},
        closed,
        {**closed, "load": "", "num_requests": None},
        {"num_requests": None},
    )
    loads = [point.workload.load for point in found.points]
    assert loads == [Constant(5.0), Closed(32), Closed(32), Stage(5.0)]
    assert [point.workload.num_requests for point in found.points] == [1000, 1000, 320, 1000]
    assert (
        "1 of 4 serving rows do not say how many requests were sent: 10 of each client are simulated."
        in (found.assumptions)
    )
    assert (
        "1 of 4 serving rows do not say how many requests were sent: 1000 are simulated."
        in found.assumptions
    )


def test_gamma_gaps_are_simulated_with_their_spread(points):
    found = points({"load": "gamma", "arrival_cv": 0.1})
    assert found.points[0].workload.load == Gamma(5.0, 0.1)
    assert found.assumptions == ()


def test_arrivals_that_a_row_does_not_tell_are_assumed_and_named(points):
    found = points({"load": ""}, {})
    assert [point.workload.load for point in found.points] == [Stage(5.0), Stage(5.0)]
    assert found.assumptions == (
        "1 of 2 serving rows do not say how requests arrive: Poisson is taken.",
    )


def test_missing_limits_are_assumed_and_named(points):
    found = points(
        {"max_num_seqs": None, "max_num_batched_tokens": None, "kv_cache_tokens": None}, {}
    )
    engine = found.points[0].engine
    assert (engine.max_num_batched_tokens, engine.max_num_seqs) == (8192, 1024)
    assert 4e5 < engine.kv_cache_tokens < 5e5  # 56 GB at 128 KiB a token
    assert found.assumptions == (
        "1 of 2 serving rows do not say max_num_batched_tokens: 8192, vLLM's default, is taken.",
        "1 of 2 serving rows do not say max_num_seqs: 1024, vLLM's default, is taken.",
        "1 of 2 serving rows do not say how large the KV cache is: what 90% of the memory leaves is taken.",
    )


def test_an_assumed_limit_goes_with_the_one_that_is_given(points):
    found = points(
        {"max_num_seqs": None, "max_num_batched_tokens": 512}, {"max_num_batched_tokens": None}
    )
    assert [p.engine.max_num_seqs for p in found.points] == [512, 128]


def test_a_cache_on_a_gpu_of_unknown_memory_is_ample(points):
    unknown = Hardware("Other", {"TFlopsPeak": 500.0, "BwPeakTBs": 2.0})
    found = points({"kv_cache_tokens": None}, hardware=unknown)
    assert found.points[0].engine.kv_cache_tokens >= 1 << 30
    assert "nor is the GPU's memory known" in found.assumptions[0]


def test_sglang_computes_prompts_first(points):
    found = points({"engine": "SGLang 0.5"}, {"engine": "vllm"})
    assert [point.engine.prefill_first for point in found.points] == [True, False]


def test_an_engine_that_is_not_named_computes_decodes_first(points):
    assert not points({}).points[0].engine.prefill_first


def test_the_time_per_token_is_what_lies_between_the_first_and_the_last(points):
    found = points(
        {"itl_ms_mean": 5.0}, {"e2e_ms_mean": None, "itl_ms_mean": 9.0}, {"output_tokens_mean": 1.0}
    )
    assert [measured(found, row).get(("itl", "mean")) for row in range(3)] == [10.0, 9.0, None]


@pytest.mark.parametrize(
    ("itl", "known"), [("per-token", [9.0, 12.0]), ("unknown", [9.0, None]), ("per-chunk", [])]
)
def test_a_clients_own_time_per_token_counts_as_far_as_it_is_one(points, itl, known):
    found = measured(points({"e2e_ms_mean": None, "itl_ms_mean": 9.0, "itl_ms_p99": 12.0}, itl=itl))
    assert [found.get(("itl", "mean")), found.get(("itl", "p99"))] == (known or [None, None])


def test_percentiles_are_figures_too(points):
    found = measured(points({"ttft_ms_p50": 40.0, "ttft_ms_p99": 200.0, "e2e_ms_p90": 1200.0}))
    assert found["ttft", "p50"] == 40.0
    assert found["ttft", "p99"] == 200.0
    assert found["e2e", "p90"] == 1200.0
    assert len(found) == 6


def test_cached_tokens_are_a_prefix_that_is_there_and_distinct_prompts_are_warm_in_a_second_stage(
    points,
):
    asked = {"distinct_prompts": 100, "run_id": "a"}
    found = points(
        {"cached_input_tokens_mean": 200.0}, {**asked, "stage": "0"}, {**asked, "stage": "1"}
    )
    cached, first, second = (point.workload for point in found.points)
    assert (cached.shared_tokens, cached.prompt, cached.warm) == (200, Fixed(300), True)
    assert (first.distinct_prompts, first.warm, second.warm) == (100, False, True)


def test_a_stage_after_an_overloaded_one_is_warm_too(points):
    found = points(
        {"run_id": "a", "failed_requests": 500}, {"run_id": "a", "distinct_prompts": 100}
    )
    assert [point.workload.warm for point in found.points] == [True]


LEFT_OUT = {
    "overloaded": ({"failed_requests": 500}, "the engine was overloaded"),
    "no latency": (
        dict.fromkeys(("ttft_ms_mean", "itl_ms_mean", "e2e_ms_mean")),
        "no latency in it",
    ),
    "latent attention": ({"model": "deepseek-v3", "tp": 8}, "no term for latent attention (MLA)"),
    "small cache": ({"kv_cache_tokens": 400}, "needs 38 blocks of 16 tokens; the KV cache has 25"),
    "weights": ({"model": "llama-3.1-70b", "kv_cache_tokens": None}, "does not fit on 1 × H100"),
    "no length": ({"input_tokens_mean": None}, "input_tokens_mean is not given"),
    "no load": ({"request_rate": None}, "neither concurrency nor request_rate is given"),
    "no spread of gaps": ({"load": "gamma"}, "arrival_cv is not given"),
    "limits": (
        {"max_num_batched_tokens": 64},
        "max_num_batched_tokens (64) must not be below max_num_seqs",
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_row_that_cannot_be_computed_is_left_out_with_its_reason(points, case):
    change, why = LEFT_OUT[case]
    found = points({}, change, {})
    assert len(found) == len(found.frame) == len(found.measured_ms) == 2
    assert found.assumptions == ()
    (note,) = found.left_out
    assert note.startswith("1 serving rows left out: ")
    assert why in note


def test_what_is_left_out_assumes_nothing(points):
    found = points({}, {"num_requests": None, "kv_cache_tokens": 400})
    assert len(found.left_out) == 1
    assert found.assumptions == ()


def test_no_row_at_all_is_an_error_that_says_why(points):
    with pytest.raises(
        CalibrateError,
        match=r"no serving row to fit to\. 2 serving rows left out: the engine was over",
    ):
        points({"failed_requests": 500}, {"failed_requests": 900})


def test_rows_can_be_taken(points):
    found = points({}, {"tp": 2}).take(np.array([False, True]))
    assert [point.tp for point in found.points] == found.frame["tp"].tolist() == [2]


def test_rows_of_one_engine_are_chosen_by_its_name(tmp_path, points):
    points({"engine": "vllm 0.12.0"}, {"engine": "vllm 0.11"}, {"engine": "sglang"}, {"engine": ""})
    campaigns, v3 = load_campaigns(tmp_path, "H100"), latency_model("roofline-v3")
    chosen = serving_points(campaigns, H100, v3, "vLLM")
    assert chosen.frame["engine"].tolist() == ["vllm 0.12.0", "vllm 0.11"]
    assert chosen.left_out == (
        "2 serving rows left out: of other engines than vLLM (none, sglang).",
    )
    assert len(serving_points(campaigns, H100, v3, "vllm 0.11")) == 1
    with pytest.raises(CalibrateError, match=r"no serving row to fit to. 4 serving rows left out"):
        serving_points(campaigns, H100, v3, "tensorrt-llm")
