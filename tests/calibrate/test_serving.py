"""Serving rows made up so that it is known what is wrong with them."""

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.serving_rates import check_serving_rates
from calibrate.campaign.serving_rules import check_serving, overloaded
from tests.synthetic import write_campaign

GOOD = {
    "model": "llama-3.1-8b",
    "tp": 1.0,
    "load": "poisson",
    "request_rate": 5.0,
    "num_requests": 1000.0,
    "failed_requests": 0.0,
    "output_tokens_mean": 200.0,
    "max_num_seqs": 128.0,
    "ttft_ms_mean": 50.0,
    "itl_ms_mean": 10.0,
    "e2e_ms_mean": 2040.0,
    "requests_per_s": 4.95,
    "output_tokens_per_s": 990.0,
    "folder": "run-llama-3.1-8b-tp1",
    "run_id": "a",
}


def rows(*changes):
    """Good rows, each with some cells changed."""
    return pd.DataFrame([{**GOOD, **change} for change in changes]).assign(
        line=np.arange(2, 2 + len(changes))
    )


def found(*changes):
    table = rows(*changes)
    _, of_rates = check_serving_rates("serving.csv", table)
    return {(p.column, p.lines): p for p in [*check_serving("serving.csv", table), *of_rates]}


def test_good_rows_pass():
    closed = {"load": "closed", "concurrency": 64.0, "request_rate": np.nan, "requests_per_s": 30.0}
    assert found({}, closed, {"e2e_ms_mean": 2200.0}, {"itl_ms_mean": 10.9}) == {
        (("output_tokens_per_s"), (3,)): found({}, closed)["output_tokens_per_s", (3,)]
    }
    assert found({}, {**closed, "output_tokens_per_s": 6000.0}) == {}


def test_a_table_of_required_columns_only_passes():
    bare = rows({}, {})[["model", "tp", "line"]]
    assert check_serving("serving.csv", bare) == []
    assert not overloaded(bare).any()


@pytest.mark.parametrize("tokens", [20.0, 200.0, 2000.0])
def test_a_latency_of_chunks_instead_of_tokens_is_named_whatever_the_length(tokens):
    change = {"output_tokens_mean": tokens, "output_tokens_per_s": 4.95 * tokens}
    e2e = 50.0 + 10.0 * (tokens - 1)
    assert found({**change, "e2e_ms_mean": e2e}) == {}
    problem = found({**change, "e2e_ms_mean": e2e, "itl_ms_mean": 5.0})["itl_ms_mean", (2,)]
    assert "more than 10% below end-to-end" in problem.message
    assert "counted stream chunks, two a token, and halved the ITL" in problem.message
    assert "(end-to-end − TTFT)/(output − 1)" in problem.fix


def test_the_other_ways_of_disagreeing_have_causes_of_their_own():
    problems = found({"itl_ms_mean": 7.0}, {}, {"itl_ms_mean": 30.0})
    assert "re-tokenising" in problems["itl_ms_mean", (2,)].message
    assert "time per token 1.43 × ITL" in problems["itl_ms_mean", (2,)].message
    assert "above end-to-end" in problems["itl_ms_mean", (4,)].message
    assert "the run stopped early" in problems["itl_ms_mean", (4,)].message
    assert len(problems) == 2


def test_tokens_a_second_that_do_not_go_with_requests_a_second_are_named():
    problem = found({"output_tokens_per_s": 600.0}, {})["output_tokens_per_s", (2,)]
    assert "0.606 × requests_per_s × output_tokens_mean" in problem.message


def queue(rate, capacity, service_s, requests=2000, seed=0, limit=np.inf):
    """An engine that starts ``capacity`` requests a second one after another and serves each in ``service_s``:
    the row that a client would write of it, requests that wait longer than ``limit`` seconds failing.
    """
    rng = np.random.default_rng(seed)
    arrived = np.cumsum(rng.exponential(1 / rate, requests))
    started = np.empty(requests)
    free = 0.0
    for i, at in enumerate(arrived):
        started[i] = max(at, free)
        free = started[i] + 1 / capacity
    wait = started - arrived
    ok = wait <= limit
    first = wait[ok].mean() + 1 / capacity
    return {
        "request_rate": rate,
        "num_requests": float(requests),
        "failed_requests": float((~ok).sum()),
        "requests_per_s": ok.sum() / (started[ok].max() + service_s - arrived[0]),
        "ttft_ms_mean": 1e3 * first,
        "e2e_ms_mean": 1e3 * (first + service_s),
        "max_num_seqs": np.nan,
    }


@pytest.mark.parametrize("requests", [100, 1000, 10_000])
@pytest.mark.parametrize("capacity", [0.5, 5.0, 50.0])
def test_a_queue_that_grows_is_overload_and_one_that_does_not_is_not(requests, capacity):
    # A queue takes a while to grow
    loads = (0.3, 0.6, 0.8, *((1.3, 2.0, 5.0) if requests > 100 else ()))
    for seed in range(5 if requests < 10_000 else 1):
        table = rows(*(queue(load * capacity, capacity, 4.0, requests, seed) for load in loads))
        assert overloaded(table).tolist() == [load > 1 for load in loads]


def test_requests_that_fail_in_the_queue_are_overload_and_a_few_that_fail_are_not():
    table = rows(
        queue(6.0, 5.0, 4.0, limit=30.0),
        {"failed_requests": 150.0},
        {"failed_requests": 3.0},
        {"request_rate": np.nan},
    )
    assert overloaded(table).tolist() == [True, True, False, False]
    problems = check_serving("serving.csv", table[1:])
    assert {(p.column, p.lines) for p in problems} == {
        ("request_rate", (3,)),
        ("failed_requests", (4,)),
    }


def test_more_requests_in_the_engine_than_it_holds_is_overload():
    crowded = {
        "request_rate": 40.0,
        "e2e_ms_mean": 5000.0,
        "ttft_ms_mean": 900.0,
        "requests_per_s": 39.5,
    }
    assert overloaded(rows(crowded, {**crowded, "max_num_seqs": 256.0})).tolist() == [True, False]


def test_a_long_prompt_alone_is_no_overload():
    assert not overloaded(
        rows({"request_rate": 0.05, "ttft_ms_mean": 15_000.0, "requests_per_s": 0.0499})
    ).any()


@pytest.mark.parametrize("ttft", [200.0, 20_000.0])
def test_a_closed_load_holds_back_what_the_engine_cannot_take(ttft):
    assert not overloaded(rows({"load": "closed", "ttft_ms_mean": ttft})).any()


NAMES = {
    "20260217-155451-llama-2-7b-tp1-codegen": ("llama-2-7b", False),
    "llama2_7b": ("llama-2-7b", False),
    "results": ("llama-2-7b", False),
    "b200-tp8-run1": ("llama-2-7b", False),
    "mixtral-8x7b-v0-1-tp2": ("mixtral-8x7b", False),
    "mixtral-8x22b": ("mixtral-8x7b", True),
    "7b": ("mixtral-8x7b", True),
    "jan20-prefill-llama7b-tp1-1": ("codellama-34b", True),
    "llama-34b": ("codellama-34b", False),
    "codellama-7b": ("llama-2-7b", True),
    "mistral": ("llama-2-7b", True),
    "qwen2.5-7b": ("qwen2.5-7b", False),
    "qwen3-30b-a3b": ("qwen3-30b-a3b", False),
    "somebody/My-13b": ("/models/My-13b", False),
    "my-13b": ("/models/My-14b", True),
    "results (was llama-2-13b)": ("llama-2-7b", True),
}


@pytest.mark.parametrize("folder", NAMES)
def test_a_folder_that_names_another_model_is_found(folder):
    model, wrong = NAMES[folder]
    problems = found({"model": model, "folder": folder})
    assert [column for column, _ in problems] == ["folder"] * wrong


def test_a_model_is_known_by_its_aliases():
    good = {"model": "llama-2-7b", "model_in_log": "meta-llama/Llama-2-7b-hf", "folder": ""}
    assert found(good, {**good, "model_in_log": ""}) == {}
    ((column, lines),) = found(good, {**good, "model_in_log": "meta-llama/Llama-2-13b-hf"})
    assert (column, lines) == ("model_in_log", (3,))


def runs_campaign(tmp_path, e2e, latency_us=10_000.0):
    """Decode steps that are the mean token times of runs that lasted ``e2e`` ms each, 50 + 199 × 10 if whole."""
    count = len(e2e)
    runs = [f"r{i}" for i in range(count)]
    serving = pd.DataFrame(
        {**GOOD, "folder": "", "run_id": runs, "e2e_ms_mean": e2e, "load": "closed"}
    )
    prefill = {
        "num_prefill_requests": 1,
        "sum_prefill_tokens": 512,
        "num_decode_requests": 0,
        "latency_us": 50_000.0,
    }
    decode = {"num_decode_requests": 4, "sum_decode_kv_tokens": 4000, "latency_us": latency_us}
    steps = pd.concat(
        [
            pd.DataFrame({"model": "llama-3.1-8b", "tp": 1, **kind, "run_id": runs})
            for kind in (prefill, decode)
        ]
    ).fillna(0)
    folder = write_campaign(tmp_path, "H100", steps)
    serving.to_csv(folder / "serving.csv", index=False)
    return load_campaign(folder, "H100")


def test_decode_steps_of_runs_that_stopped_early_are_left_out_and_their_prefill_steps_kept(
    tmp_path,
):
    campaign = runs_campaign(tmp_path, [2040.0, 2025.0, 2010.0, 1000.0, 2040.0, 2200.0, 9000.0])
    kept = campaign.steps[campaign.steps["num_decode_requests"] > 0]["run_id"].tolist()
    assert kept == ["r0", "r1", "r4", "r5"]
    assert (campaign.steps["num_prefill_requests"] > 0).sum() == 7
    stopped, apart = (p for p in campaign.problems if "Left out of fits" in p.fix)
    assert (stopped.lines, apart.lines) == ((11, 12), (15,))
    assert (campaign.files[0].used, campaign.files[0].dropped) == (11, 3)


def test_steps_that_were_measured_one_by_one_are_kept_whatever_the_client_says(tmp_path):
    campaign = runs_campaign(tmp_path, [2040.0, 1000.0, 9000.0], latency_us=11_000.0)
    assert len(campaign.steps) == 6
