"""OpenTelemetry spans: what becomes of them, the stages told from arrivals, and what is refused."""

import heapq
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.importers.arrival_stages import load_of, stages
from calibrate.records.errors import ImportFormatError
from tests.conftest import DATA, ROOT

RUN = DATA / "otel/run"
REAL = ROOT.parent / "shared/ground_truth/otel"


def test_a_stage_becomes_a_row_of_the_engines_times():
    imported = read_source("otel", str(RUN), "H100")
    serving = imported.tables["serving"]
    assert serving["stage"].tolist() == ["0", "1", "2"]
    assert serving["load"].tolist() == ["closed", "closed", "constant"]
    assert serving["concurrency"].tolist()[:2] == [1, 5]
    assert serving["request_rate"].tolist()[2] == pytest.approx(2.0, rel=1e-3)
    first = serving.iloc[0].to_dict()
    assert (first["num_requests"], first["input_tokens_mean"], first["output_tokens_mean"]) == (
        4,
        250,
        199,
    )
    assert first["input_tokens_std"] == pytest.approx(np.std([100, 200, 300, 400]), abs=1e-3)
    assert (first["ttft_ms_mean"], first["itl_ms_mean"], first["e2e_ms_mean"]) == (20, 10, 2000)
    assert (first["itl_ms_p50"], first["itl_ms_p99"]) == (10, 10)
    assert first["requests_per_s"] == pytest.approx(4 / (4 * 2.0 + 3 * 0.005), rel=1e-4)
    assert first["output_tokens_per_s"] == pytest.approx(199 * first["requests_per_s"], rel=1e-4)
    assert imported.info["itl"] == "per-token"


def test_the_server_is_its_logs():
    first = read_source("otel", str(RUN), "H100").tables["serving"].iloc[0]
    assert (first["model"], first["tp"], first["dtype"], first["engine"]) == (
        "llama-3.1-8b",
        2,
        "fp8",
        "vllm 0.11.1",
    )
    assert (first["kv_cache_tokens"], first["max_num_seqs"], first["run_id"]) == (
        400_000,
        64,
        "run",
    )


def test_a_request_that_did_not_finish_counts_as_failed_and_one_of_one_token_has_no_time_per_token():
    last = read_source("otel", str(RUN), "H100").tables["serving"].iloc[2]
    assert (last["num_requests"], last["failed_requests"]) == (12, 1)
    assert last["itl_ms_mean"] == 12
    assert last["output_tokens_mean"] == pytest.approx((10 * 101 + 1) / 11, abs=1e-3)


def test_the_campaign_is_without_a_finding_but_for_the_failed_request(tmp_path, h100):
    write_campaign(read_source("otel", str(RUN), "H100"), tmp_path / "H100/otel")
    (found,) = load_campaign(tmp_path / "H100/otel", "H100", h100).problems
    assert "some requests failed" in found.message


def copy(tmp_path):
    return shutil.copytree(RUN, tmp_path / "run")


def test_without_a_log_the_server_is_what_the_user_says(tmp_path):
    run = copy(tmp_path)
    log = (run / "vllm.log").rename(tmp_path / "server.log")
    with pytest.raises(
        ImportFormatError, match="does not say what ran; give --model and --tp, or the log of its"
    ):
        read_source("otel", str(run), "H100")
    said = read_source("otel", str(run), "H100", {"model": "qwen3-32b", "tp": 4}).tables["serving"]
    assert said[["model", "tp", "engine"]].drop_duplicates().values.tolist() == [
        ["qwen3-32b", 4, "vllm"]
    ]
    filled = read_source("otel", str(run), "H100", server_log=log).tables["serving"]
    assert filled[["model", "tp", "engine"]].drop_duplicates().values.tolist() == [
        ["llama-3.1-8b", 2, "vllm 0.11.1"]
    ]


def test_documents_may_be_of_several_lines(tmp_path):
    run = copy(tmp_path)
    documents = [json.loads(line) for line in (run / "traces.json").read_text().splitlines()]
    (run / "traces.json").write_text(
        "\n\n".join(json.dumps(document, indent=1) for document in documents)
    )
    whole, again = (
        read_source("otel", str(folder), "H100").tables["serving"] for folder in (RUN, run)
    )
    assert again.equals(whole)


def test_a_file_of_spans_is_a_run(tmp_path):
    file = shutil.copy(RUN / "traces.json", tmp_path / "mine.jsonl")
    serving = read_source("otel", str(file), "H100", {"model": "qwen3-32b", "tp": 4}).tables[
        "serving"
    ]
    whole = read_source("otel", str(RUN), "H100").tables["serving"]
    assert serving["e2e_ms_p99"].tolist() == whole["e2e_ms_p99"].tolist()


def test_a_last_document_that_is_cut_off_is_left_out_and_said(tmp_path):
    traces = copy(tmp_path) / "traces.json"
    text = traces.read_text()
    traces.write_text(text.rstrip()[: text.rstrip().rindex("\n")] + "\n")
    whole = read_source("otel", str(traces.parent), "H100")
    traces.write_text(text[:-200])
    imported = read_source("otel", str(traces.parent), "H100")
    pd.testing.assert_frame_equal(imported.tables["serving"], whole.tables["serving"])
    assert imported.left_out == (f"{traces}:4: is cut off: left out", *whole.left_out)


def changed(old, new):
    return lambda text: text.replace(old, new, 1)


BAD = {
    "cut off": (lambda text: text[:900], "traces.json:1: not readable JSON: "),
    "another document": (
        lambda text: text + '{"resourceMetrics": []}',
        ":5: the field resourceSpans is missing",
    ),
    "no list": (lambda text: text + '{"resourceSpans": 3}', ":5: resourceSpans must be a list"),
    "no request": (
        lambda text: text.replace("gen_ai.usage.prompt_tokens", "other"),
        "traces.json: no span of a request in it: none has the attribute gen_ai.usage.prompt_tokens",
    ),
    "text for a number": (
        changed('"doubleValue":0.05', '"stringValue":"soon"'),
        ":1: gen_ai.latency.time_to_first_token must be a number of 0 or more, got 'soon'",
    ),
    "no time": (
        changed("startTimeUnixNano", "start"),
        ":1: startTimeUnixNano and endTimeUnixNano must be times",
    ),
    "an attribute without a value": (
        changed('"key":"gen_ai.latency.e2e","value"', '"key":"gen_ai.latency.e2e","v"'),
        ":1: the field value is missing",
    ),
    "attributes of another kind": (
        changed('"attributes":[{"key":"gen_ai', '"attributes":3,"a":[{"key":"gen_ai'),
        ":1: attributes must be a list",
    ),
    "empty": (lambda text: "", "traces.json: is empty"),
    "nothing finished": (
        lambda text: text.replace("gen_ai.latency.e2e", "other"),
        "stage 0: no request finished",
    ),
}


@pytest.mark.parametrize("defect", BAD)
def test_bad_traces_are_refused_in_words(tmp_path, defect):
    change, words = BAD[defect]
    run = copy(tmp_path)
    (run / "traces.json").write_text(change((run / "traces.json").read_text()))
    with pytest.raises(ImportFormatError) as error:
        read_source("otel", str(run), "H100")
    assert words in str(error.value)


def test_a_folder_without_traces_is_refused(tmp_path):
    with pytest.raises(
        ImportFormatError,
        match=r"no OpenTelemetry run: neither it nor a folder in it holds traces\.json",
    ):
        read_source("otel", str(tmp_path), "H100")


# -- stages and loads of known arrivals ----------------------------------------------------------------------------


def served(start_s, lasts_s):
    return np.asarray(start_s, dtype=float), np.asarray(start_s, dtype=float) + lasts_s


def test_a_pause_parts_stages_and_a_low_rate_does_not():
    busy = served([0, 1, 2, 3, 20, 21, 22, 23], 0.8)
    assert stages(*busy).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    slow = served(np.arange(12) * 10.0, 1.0)
    assert set(stages(*slow)) == {0}, "idle for 9 s, but so between all"
    assert stages(*served([0.0], 1.0)).tolist() == [0]


def closed(concurrency, requests, rng):
    """Arrivals and ends of a closed load: the next request follows 5 ms after one that ends."""
    start, end = [], []
    free = [0.0] * concurrency
    for lasts in rng.uniform(0.5, 1.5, requests):
        start.append(heapq.heappop(free))
        end.append(start[-1] + lasts)
        heapq.heappush(free, end[-1] + 0.005)
    return np.array(start), np.array(end)


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_a_closed_load_is_told_with_its_concurrency(concurrency):
    load = load_of(*closed(concurrency, 100, np.random.default_rng(concurrency)))
    assert load == {"load": "closed", "concurrency": concurrency}


@pytest.mark.parametrize("rate", [0.5, 5.0, 50.0])
def test_an_open_load_is_told_with_its_rate(rate):
    rng = np.random.default_rng(7)
    lasts = rng.uniform(0.5, 1.5, 400)
    even = np.arange(400) / rate
    assert load_of(*served(even, lasts)) == {
        "load": "constant",
        "request_rate": pytest.approx(rate, rel=1e-3),
    }
    poisson = load_of(*served(np.cumsum(rng.exponential(1 / rate, 400)), lasts))
    assert poisson["load"] == "poisson"
    assert poisson["request_rate"] == pytest.approx(rate, rel=0.15)


# -- a real server ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.exists(), reason="the real measurements are not beside this checkout")
def test_the_stages_of_a_real_sweep_are_found(tmp_path, h100):
    imported = read_source("otel", str(REAL), "H100")
    serving = imported.tables["serving"]
    assert serving["num_requests"].sum() == 282, "every span"
    assert serving["load"].tolist()[:3] == ["closed", "closed", "constant"]
    assert serving["concurrency"].tolist()[:2] == [1, 22]
    rates = serving["request_rate"][serving["load"] == "constant"]
    assert np.diff(rates) == pytest.approx(0.0217, abs=1e-3), (
        "GuideLLM spaces the rates of a sweep evenly"
    )
    assert set(serving["model"]) == {"llama-2-7b"}
    write_campaign(imported, tmp_path / "H100/otel")
    assert load_campaign(tmp_path / "H100/otel", "H100", h100).problems == ()
