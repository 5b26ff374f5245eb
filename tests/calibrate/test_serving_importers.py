"""Importers of serving runs: what they read of a run's folder, what they refuse, and what real runs show."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from calibrate.campaign.campaign import load_campaign
from calibrate.campaign.serving_rules import overloaded
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared/ground_truth"
REAL = pytest.mark.skipif(
    not SHARED.exists(), reason="the real measurements are not beside this checkout"
)

LOG = """2026-03-01 INFO utils: non-default args: {'model': '/models/Llama-2-7b', 'max_num_seqs': 64}
2026-03-01 INFO engine: Initializing a V1 LLM engine (v0.11.0) with config: model='/models/Llama-2-7b', \
dtype=torch.bfloat16, tensor_parallel_size=2, quantization=None, served_model_name=meta-llama/Llama-2-7b-hf, x=1
2026-03-01 INFO scheduler: Chunked prefill is enabled with max_num_batched_tokens=4096.
2026-03-01 INFO kv_cache_utils: GPU KV cache size: 40,000 tokens
2026-03-01 INFO loggers: cache_config_info with initialization after num_gpu_blocks is: 2500
2026-03-01 INFO loggers: Engine 000: Running: 1 reqs, Prefix cache hit rate: 10.0%
2026-03-01 INFO loggers: Engine 000: Running: 0 reqs, Prefix cache hit rate: 25.0%
"""
EXPERIMENT = {
    "model": "meta-llama/Llama-2-7b-hf",
    "tensor_parallelism": 2,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 128,
}


def statistics(mean):
    return {"mean": mean, "median": 0.9 * mean, "p90": 2 * mean, "p99": 3 * mean, "max": 4 * mean}


def stage_metrics(count=600, failed=0, itl=0.010, ttft=0.05, e2e=2.04, rate=5.0):
    """A stage as inference-perf writes it, in seconds; by default 200 tokens of 10 ms each."""
    return {
        "load_summary": {"count": count, "requested_rate": rate},
        "successes": {
            "count": count - failed,
            "latency": {
                "request_latency": statistics(e2e),
                "time_to_first_token": statistics(ttft),
                "inter_token_latency": statistics(itl),
            },
            "throughput": {
                "output_tokens_per_sec": 0.99 * rate * 200,
                "requests_per_sec": 0.99 * rate,
            },
            "prompt_len": statistics(500.0),
            "output_len": statistics(150.0),
        },
        "failures": {"count": failed, "request_latency": None},
    }


CLIENT = {
    "data": {
        "shared_prefix": {
            "num_groups": 10,
            "num_prompts_per_group": 5,
            "question_len": 400,
            "output_len": 200,
        }
    },
    "load": {
        "type": "constant",
        "stages": [{"rate": 5.0, "duration": 120}, {"rate": 10.0, "duration": 120}],
    },
    "server": {"type": "vllm", "model_name": "meta-llama/Llama-2-7b-hf", "ignore_eos": True},
    "storage": {"local_storage": {"path": "/data/run-llama-2-7b-tp2-3/results"}},
}


def inference_perf_run(folder, client=CLIENT, experiment=EXPERIMENT, **stages):
    """Write the folder of a run with two stages."""
    (folder / "results").mkdir(parents=True)
    (folder / "profile.yaml").write_text("{data: {shared_prefix: {output_len: 999}}}")
    (folder / "results/config.yaml").write_text(yaml.safe_dump(client))
    if experiment:
        (folder / "exp-config.yaml").write_text(yaml.safe_dump(experiment))
    for number in (0, 1):
        metrics = stage_metrics(rate=(5.0, 10.0)[number], **stages)
        (folder / f"results/stage_{number}_lifecycle_metrics.json").write_text(json.dumps(metrics))
    (folder / "results/summary_lifecycle_metrics.json").write_text("{}")
    return folder


def guidellm_benchmark(kind, errored=0, **strategy):
    def successful(mean, total=0.0):
        percentiles = {"p50": 0.9 * mean, "p90": 2 * mean, "p99": 3 * mean}
        return {
            "successful": {
                "mean": mean,
                "std_dev": 4.0,
                "total_sum": total,
                "percentiles": percentiles,
            }
        }

    return {
        "config": {"strategy": {"type_": kind, **strategy}},
        "duration": 20.0,
        "metrics": {
            "request_totals": {
                "successful": 40 - errored,
                "errored": errored,
                "incomplete": 0,
                "total": 40,
            },
            "requests_per_second": successful(2.0),
            "prompt_token_count": successful(1000.0),
            "output_token_count": successful(30.0, 1200.0),
            "time_to_first_token_ms": successful(100.0),
            "inter_token_latency_ms": successful(20.0),
            "request_latency": successful(0.68),
        },
    }


def guidellm_run(folder, benchmarks, written="run-llama-2-7b", log=LOG):
    folder.mkdir(parents=True)
    results = {"args": {"model": None, "output_dir": f"/data/{written}"}, "benchmarks": benchmarks}
    (folder / "guidellm-results.json").write_text(json.dumps(results))
    if log:
        (folder / "vllm.log").write_text(log)
    return folder


SWEEP = [
    guidellm_benchmark("synchronous", max_concurrency=1),
    guidellm_benchmark("throughput", max_concurrency=512, errored=1),
    guidellm_benchmark("constant", rate=2.0, max_concurrency=512),
]


def test_inference_perf_becomes_a_row_a_stage(tmp_path):
    folder = inference_perf_run(tmp_path / "run-llama-2-7b-tp2")
    imported = read_source("inference-perf", str(folder), "H100")
    serving = imported.tables["serving"]
    first = serving.iloc[0].to_dict()
    assert serving["stage"].tolist() == ["0", "1"]
    assert serving["request_rate"].tolist() == [5.0, 10.0]
    assert first["model"] == "llama-2-7b"
    assert (first["tp"], first["max_num_batched_tokens"], first["max_num_seqs"]) == (2, 2048, 128)
    assert first["output_tokens_mean"] == 200, (
        "the requested length, not the counted one, nor the profile's"
    )
    assert first["input_tokens_mean"] == 500
    assert first["distinct_prompts"] == 50
    assert first["itl_ms_mean"] == 10, "the client's own figure"
    assert (first["ttft_ms_mean"], first["ttft_ms_p50"], first["e2e_ms_p99"]) == (50, 45, 6120)
    assert (first["load"], first["run_id"], first["folder"]) == (
        "poisson",
        folder.name,
        folder.name,
    )
    assert imported.left_out == ()


def test_output_lengths_are_the_clients_where_requests_could_end_early(tmp_path):
    client = {**CLIENT, "server": {**CLIENT["server"], "ignore_eos": False}}
    serving = read_source(
        "inference-perf", str(inference_perf_run(tmp_path / "a", client)), "H100"
    ).tables["serving"]
    assert serving["output_tokens_mean"].tolist() == [150, 150]


def test_optional_fields_of_another_kind_are_passed_over(tmp_path):
    client = {**CLIENT, "storage": "here", "data": ["mine"]}
    serving = read_source(
        "inference-perf", str(inference_perf_run(tmp_path / "a", client)), "H100"
    ).tables["serving"]
    assert serving["output_tokens_mean"].tolist() == [150, 150]
    (tmp_path / "a/results/stage_x_lifecycle_metrics.json").write_text("{}")
    assert len(read_source("inference-perf", str(tmp_path / "a"), "H100").tables["serving"]) == 2


def test_a_folder_of_runs_is_read_whole_and_a_stage_without_success_left_out(tmp_path):
    inference_perf_run(tmp_path / "b")
    inference_perf_run(tmp_path / "a", count=7, failed=7)
    imported = read_source("inference-perf", str(tmp_path), "H100")
    assert imported.tables["serving"]["run_id"].tolist() == ["b", "b"]
    assert imported.left_out == (
        "a, stage 0: no request succeeded",
        "a, stage 1: no request succeeded",
    )


def test_a_closed_load_of_inference_perf_has_its_concurrency(tmp_path):
    client = {
        **CLIENT,
        "load": {
            "type": "concurrent",
            "stages": [{"concurrency_level": 8}, {"concurrency_level": 16}],
        },
    }
    serving = read_source(
        "inference-perf", str(inference_perf_run(tmp_path / "a", client)), "H100"
    ).tables["serving"]
    assert serving["load"].tolist() == ["closed", "closed"]
    assert serving["concurrency"].tolist() == [8, 16]


def test_guidellm_becomes_a_row_a_benchmark(tmp_path):
    serving = read_source("guidellm", str(guidellm_run(tmp_path / "run", SWEEP)), "H100").tables[
        "serving"
    ]
    assert serving["load"].tolist() == ["closed", "closed", "constant"]
    assert serving["concurrency"].tolist()[:2] == [1, 40], "40 requests at once are no more than 40"
    assert serving["request_rate"].tolist()[2] == 2.0
    assert serving["failed_requests"].tolist() == [0, 1, 0]
    first = serving.iloc[0].to_dict()
    assert (first["ttft_ms_mean"], first["itl_ms_mean"], first["e2e_ms_mean"]) == (100, 20, 680)
    assert first["output_tokens_per_s"] == 60
    assert first["folder"] == "run"
    assert (first["engine"], first["model"], first["tp"], first["dtype"]) == (
        "vllm 0.11.0",
        "llama-2-7b",
        2,
        "bf16",
    )
    limits = [
        first[name]
        for name in ("max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")
    ]
    assert limits == [4096, 64, 40000, 16]
    assert first["cached_input_tokens_mean"] == 250, "the log's last hit rate times the prompt"


def test_a_good_run_is_a_campaign_without_a_finding(tmp_path, h100):
    inference_perf_run(tmp_path / "runs/run-llama-2-7b-tp2")
    guidellm_run(tmp_path / "runs/llama-2-7b", [SWEEP[0], SWEEP[2]])
    for name in ("inference-perf", "guidellm"):
        write_campaign(read_source(name, str(tmp_path / "runs"), "H100"), tmp_path / "H100" / name)
        campaign = load_campaign(tmp_path / "H100" / name, "H100", h100)
        assert campaign.problems == ()
        assert len(campaign.serving) == 2
        assert campaign.files[0].used == 2


def findings(folder, name, source):
    """What is said of an imported run's rows, by the first words of the column it is about."""
    write_campaign(read_source(name, str(source), "H100"), folder / "H100" / name)
    campaign = load_campaign(folder / "H100" / name, "H100")
    return {p.column: p for p in campaign.problems}, campaign


def test_another_model_in_log_configuration_client_or_folder_is_found(tmp_path):
    client = {**CLIENT, "server": {**CLIENT["server"], "model_name": "meta-llama/Llama-2-13b-hf"}}
    found, _ = findings(
        tmp_path, "inference-perf", inference_perf_run(tmp_path / "mistral-7b", client)
    )
    assert set(found) == {"model_in_client", "folder"}
    assert found["folder"].value == "mistral-7b (was run-llama-2-7b-tp2-3)"
    folder = guidellm_run(tmp_path / "guidellm", SWEEP[:1], written="codellama34b-tp1")
    (folder / "exp-config.yaml").write_text(
        yaml.safe_dump({**EXPERIMENT, "model": "meta-llama/Llama-2-70b-hf"})
    )
    found, campaign = findings(tmp_path, "guidellm", folder)
    assert set(found) == {"model_in_config", "folder"}
    assert campaign.serving["model"].tolist() == ["llama-2-7b"], "the server's log prevails"
    assert found["folder"].value == "guidellm (was codellama34b-tp1)"


def test_where_the_log_gives_a_name_of_the_servers_own_the_next_that_is_known_counts(tmp_path):
    folder = guidellm_run(
        tmp_path / "run", SWEEP[:1], log=LOG.replace("meta-llama/Llama-2-7b-hf", "my-assistant")
    )
    (folder / "exp-config.yaml").write_text(
        yaml.safe_dump({**EXPERIMENT, "model": "meta-llama/Llama-2-7b-hf"})
    )
    (row,) = read_source("guidellm", str(folder), "H100").tables["serving"].to_dict("records")
    assert (row["model"], row["model_in_log"]) == ("llama-2-7b", "my-assistant")


def broken(folder, file, change):
    path = folder / file
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def said(name, source):
    """What an import says of a source: why it is refused, or what of it is left out."""
    try:
        return "\n".join(read_source(name, str(source), "H100").left_out)
    except ImportFormatError as error:
        return str(error)


INFERENCE_PERF = {
    "no folder": (lambda run: "missing", "no such folder; give a run's folder"),
    "no run": (
        lambda run: (run / "empty").mkdir() or run / "empty",
        "no inference-perf run: neither it nor a folder in it holds",
    ),
    "no model": (
        lambda run: broken(run, "results/config.yaml", lambda c: c.pop("server")),
        "config.yaml: the field server.model_name is missing",
    ),
    "no degree": (
        lambda run: (run / "exp-config.yaml").unlink(),
        "does not say what ran; give --tp",
    ),
    "a degree in words": (
        lambda run: broken(run, "exp-config.yaml", lambda c: c.update(tensor_parallelism="two")),
        "tp must be a whole number, got 'two'",
    ),
    "no stages": (
        lambda run: [path.unlink() for path in run.glob("results/stage*")] and None,
        "results: holds no stage_",
    ),
    "a stage too many": (
        lambda run: broken(run, "results/config.yaml", lambda c: c["load"]["stages"].pop()),
        "load.stages has no stage 1, of which there is a result",
    ),
    "stages that are no list": (
        lambda run: broken(run, "results/config.yaml", lambda c: c["load"].update(stages=3)),
        "load.stages must be a list",
    ),
    "no latency": (
        lambda run: broken(
            run,
            "results/stage_1_lifecycle_metrics.json",
            lambda c: c["successes"]["latency"].pop("request_latency"),
        ),
        "stage_1_lifecycle_metrics.json: the field successes.latency.request_latency.mean is missing",
    ),
    "a latency in words": (
        lambda run: broken(
            run,
            "results/stage_0_lifecycle_metrics.json",
            lambda c: c["successes"]["latency"]["inter_token_latency"].update(mean="fast"),
        ),
        "successes.latency.inter_token_latency.mean must be a number, got 'fast'",
    ),
    "a stage without rate": (
        lambda run: broken(
            run, "results/config.yaml", lambda c: c["load"]["stages"].__setitem__(0, 5)
        ),
        "config.yaml: the field rate is missing",
    ),
    "a length in words": (
        lambda run: broken(
            run,
            "results/config.yaml",
            lambda c: c["data"]["shared_prefix"].update(output_len="long"),
        ),
        "config.yaml: output_len must be a number, got 'long'",
    ),
    "a number without end": (
        lambda run: broken(
            run,
            "results/stage_0_lifecycle_metrics.json",
            lambda c: c["load_summary"].update(count=10**400),
        ),
        "load_summary.count is too large",
    ),
    "not JSON": (
        lambda run: (run / "results/stage_0_lifecycle_metrics.json").write_text('{"a": ') and None,
        "stage_0_lifecycle_metrics.json:1: not readable JSON",
    ),
    "not YAML": (
        lambda run: (run / "results/config.yaml").write_text("a: [") and None,
        "config.yaml:1: not readable YAML",
    ),
    "a list": (
        lambda run: (run / "results/config.yaml").write_text("[1]") and None,
        "config.yaml: must hold named fields, not list",
    ),
    "bytes": (
        lambda run: (run / "results/config.yaml").write_bytes(b"\xff\xfe\x00") and None,
        "config.yaml:1: is not UTF-16 text",
    ),
}


@pytest.mark.parametrize("defect", INFERENCE_PERF)
def test_what_is_bad_in_an_inference_perf_run_is_said_in_words(tmp_path, defect):
    change, words = INFERENCE_PERF[defect]
    run = inference_perf_run(tmp_path / "run")
    source = change(run)
    assert words in said("inference-perf", source or run)


GUIDELLM = {
    "no run": (lambda run: run.parent / "none", "no such folder"),
    "no server": (
        lambda run: (run / "vllm.log").unlink(),
        "does not say what ran; give --model and --tp",
    ),
    "no benchmarks": (
        lambda run: broken(run, "guidellm-results.json", lambda c: c.pop("benchmarks")),
        "guidellm-results.json: the field benchmarks is missing",
    ),
    "an unknown strategy": (
        lambda run: broken(
            run,
            "guidellm-results.json",
            lambda c: c["benchmarks"][0]["config"]["strategy"].update(type_="replay"),
        ),
        "the strategy 'replay' is not known (known: constant, async, poisson, concurrent, synchronous, throughput)",
    ),
    "nothing succeeded": (
        lambda run: broken(run, "guidellm-results.json", lambda c: c.update(benchmarks=[])),
        "no request in it succeeded",
    ),
    "no percentiles": (
        lambda run: broken(
            run,
            "guidellm-results.json",
            lambda c: c["benchmarks"][0]["metrics"]["request_latency"]["successful"].update(
                percentiles=None
            ),
        ),
        "the field metrics.request_latency.successful.percentiles.p50 is missing",
    ),
}


@pytest.mark.parametrize("defect", GUIDELLM)
def test_what_is_bad_in_a_guidellm_run_is_said_in_words(tmp_path, defect):
    change, words = GUIDELLM[defect]
    run = guidellm_run(tmp_path / "run", SWEEP)
    source = change(run)
    assert words in said("guidellm", source or run)


# -- layouts of today ------------------------------------------------------------------------------------------------


def serving(name, source, **said):
    return read_source(name, str(source), "H100", said).tables["serving"]


def reports(folder, client=CLIENT, **changes):
    """Write a run as the client lays it out by itself: configuration and one stage side by side."""
    folder.mkdir(parents=True)
    if client:
        (folder / "config.yaml").write_text(yaml.safe_dump(client))
    stage = stage_metrics()
    stage["successes"].update(changes)
    (folder / "stage_0_lifecycle_metrics.json").write_text(json.dumps(stage))
    return folder


def test_the_clients_own_folder_of_reports_is_a_run(tmp_path):
    folder = reports(tmp_path / "reports-20260601-120000")
    for source in (
        folder,
        tmp_path,
        folder / "config.yaml",
        folder / "stage_0_lifecycle_metrics.json",
    ):
        (row,) = serving("inference-perf", source, tp=1).to_dict("records")
        assert (row["run_id"], row["request_rate"], row["distinct_prompts"]) == (
            folder.name,
            5.0,
            50,
        )


def test_tokens_as_the_server_counts_them_and_those_it_had_cached_are_read(tmp_path):
    prompts = {**statistics(500.0), "total": 300_000.0, "cached": 60_000.0}
    client = {**CLIENT, "server": {**CLIENT["server"], "ignore_eos": False}}
    folder = reports(
        tmp_path / "r",
        client,
        prompt_len=None,
        prompt_tokens=prompts,
        output_len=None,
        output_tokens=statistics(190.0),
    )
    (row,) = serving("inference-perf", folder, tp=1).to_dict("records")
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (500, 190)
    assert row["cached_input_tokens_mean"] == 100


def test_distinct_prompts_are_known_under_both_of_their_names(tmp_path):
    shared = {"num_unique_system_prompts": 8, "num_users_per_system_prompt": 12, "output_len": 64}
    folder = reports(tmp_path / "r", {**CLIENT, "data": {"shared_prefix": shared}})
    (row,) = serving("inference-perf", folder, tp=1).to_dict("records")
    assert (row["distinct_prompts"], row["output_tokens_mean"]) == (96, 64)


@pytest.mark.parametrize("load", [{"sweep": {"type": "linear"}}, {"sweep": {}, "stages": []}])
def test_a_sweep_has_the_rates_that_its_stages_state(tmp_path, load):
    folder = reports(tmp_path / "r", {**CLIENT, "load": {"type": "constant", **load}})
    (row,) = serving("inference-perf", folder, tp=1).to_dict("records")
    assert (row["load"], row["request_rate"]) == ("poisson", 5.0)


def test_stages_alone_say_all_but_what_ran(tmp_path):
    folder = reports(tmp_path / "r", client=None)
    assert "does not say what ran; give --model and --tp" in said("inference-perf", folder)
    (row,) = serving("inference-perf", folder, model="llama-2-7b", tp=1).to_dict("records")
    assert (row["load"], row["request_rate"], row["output_tokens_mean"]) == ("poisson", 5.0, 150)
    summary = folder / "stage_0_lifecycle_metrics.json"
    broken(folder, summary.name, lambda c: c["load_summary"].update(concurrency=8))
    (row,) = serving("inference-perf", folder, model="llama-2-7b", tp=1).to_dict("records")
    assert (row["load"], row["concurrency"]) == ("closed", 8)


def test_without_streaming_there_is_an_end_to_end_time_only(tmp_path):
    latency = {
        "request_latency": statistics(2.0),
        "time_to_first_token": None,
        "inter_token_latency": None,
    }
    rows = serving("inference-perf", reports(tmp_path / "r", latency=latency), tp=1)
    assert rows["e2e_ms_mean"].tolist() == [2000]
    assert not {"ttft_ms_mean", "itl_ms_mean"} & set(rows)


@pytest.mark.parametrize("defect", [-0.1, "slow"])
def test_a_bad_stage_is_left_out_and_named_and_the_others_are_not(tmp_path, defect):
    run = inference_perf_run(tmp_path / "run")
    broken(
        run,
        "results/stage_0_lifecycle_metrics.json",
        lambda c: c["successes"]["latency"]["request_latency"].update(mean=defect),
    )
    imported = read_source("inference-perf", str(run), "H100")
    assert imported.tables["serving"]["stage"].tolist() == ["1"]
    (left_out,) = imported.left_out
    assert left_out.startswith("run, stage 0: ")
    assert "successes.latency.request_latency.mean must be" in left_out


def test_a_bad_run_does_not_stop_the_import_of_the_others(tmp_path):
    inference_perf_run(tmp_path / "good")
    (inference_perf_run(tmp_path / "bad") / "results/config.yaml").write_text("a: [")
    imported = read_source("inference-perf", str(tmp_path), "H100")
    assert set(imported.tables["serving"]["run_id"]) == {"good"}
    assert "config.yaml:1: not readable YAML" in imported.left_out[0]


def test_the_log_in_a_run_of_several_engines_leaves_the_run_out(tmp_path):
    inference_perf_run(tmp_path / "good")
    split = LOG.replace("tensor_parallel_size=2", "tensor_parallel_size=2, data_parallel_size=2")
    (inference_perf_run(tmp_path / "split") / "vllm.log").write_text(split)
    imported = read_source("inference-perf", str(tmp_path), "H100")
    assert set(imported.tables["serving"]["run_id"]) == {"good"}
    assert "vllm.log: its server had 2 data-parallel replicas" in imported.left_out[0]


def test_guidellm_results_are_known_under_any_name(tmp_path):
    folder = guidellm_run(tmp_path / "runs", SWEEP[:1], log="")
    results = folder / "guidellm-results.json"
    (folder / "other.json").write_text("{}")
    (folder / "rate1.csv").write_text("Run Info,Benchmark")
    for name in ("rate1.json", "rate2.json"):
        (folder / name).write_text(results.read_text())
    results.unlink()
    (folder / "rate1-server.log").write_text(LOG)
    imported = read_source("guidellm", str(folder), "H100", {"model": "llama-2-7b", "tp": 2})
    rows = imported.tables["serving"]
    assert rows["run_id"].tolist() == ["runs/rate1", "runs/rate2"]
    assert rows["engine"].tolist() == ["vllm 0.11.0", ""], "the log of its name fills the first"
    assert imported.left_out == (f"{folder / 'other.json'}: the field benchmarks is missing",)


def test_a_guidellm_csv_names_the_file_to_give(tmp_path):
    (tmp_path / "benchmarks.csv").write_text("Run Info,Benchmark")
    for source in (tmp_path, tmp_path / "benchmarks.csv"):
        assert "is a CSV; give the benchmarks.json of the same run" in said("guidellm", source)


@pytest.mark.parametrize(
    ("edge", "tokens_per_s"), [("warmup_duration", 45.0), ("cooldown_duration", 45.0), ("x", 60.0)]
)
def test_in_a_window_tokens_a_second_are_the_clients_own(tmp_path, edge, tokens_per_s):
    benchmark = {**guidellm_benchmark("synchronous"), edge: 5.0}
    benchmark["metrics"]["output_tokens_per_second"] = {"successful": {"mean": 45.0}}
    (row,) = serving("guidellm", guidellm_run(tmp_path / "run", [benchmark])).to_dict("records")
    assert row["output_tokens_per_s"] == tokens_per_s


@pytest.mark.parametrize("nothing", [{"mean": 0.0}, None])
def test_a_guidellm_benchmark_without_streaming_has_an_end_to_end_time_only(tmp_path, nothing):
    benchmark = guidellm_benchmark("synchronous")
    for metric in ("time_to_first_token_ms", "inter_token_latency_ms"):
        benchmark["metrics"][metric]["successful"] = nothing
    rows = serving("guidellm", guidellm_run(tmp_path / "run", [benchmark]))
    assert rows["e2e_ms_mean"].tolist() == [680]
    assert not {"ttft_ms_mean", "itl_ms_mean"} & set(rows)


def test_a_bad_guidellm_benchmark_is_left_out_and_named_and_the_others_are_not(tmp_path):
    bad = guidellm_benchmark("constant", rate=1.0)
    bad["metrics"]["inter_token_latency_ms"]["successful"]["mean"] = -0.8
    imported = read_source("guidellm", str(guidellm_run(tmp_path / "run", [SWEEP[0], bad])), "H100")
    assert imported.tables["serving"]["stage"].tolist() == ["0"]
    assert imported.left_out[0].startswith("run, benchmark 1: ")
    assert (
        "inter_token_latency_ms.successful.mean must be 0 or more, got -0.8" in imported.left_out[0]
    )


# -- real runs -------------------------------------------------------------------------------------------------------


@REAL
def test_the_halved_latency_of_every_real_inference_perf_run_is_found(tmp_path):
    found, campaign = findings(tmp_path, "inference-perf", SHARED / "inference-perf")
    assert campaign.serving["run_id"].nunique() == 8
    halved = found["itl_ms_mean"]
    assert "counted stream chunks, two a token" in halved.message
    assert halved.lines == tuple(campaign.serving["line"]), "every stage of the eight"
    assert {p.severity for p in campaign.problems} == {"warning"}


@REAL
def test_the_two_overloaded_real_runs_are_found_and_no_other(tmp_path):
    masks = {}
    for name in ("inference-perf", "guidellm"):
        _, campaign = findings(tmp_path, name, SHARED / name)
        masks[name] = campaign.serving[overloaded(campaign.serving)]
    assert sorted(masks["inference-perf"]["run_id"]) == [
        "20260217-170634-llama-2-7b-tp1-reasoning",
        "20260218-160939-codellama-34b-tp2-reasoning",
    ]
    assert masks["guidellm"].empty


@REAL
def test_text_counted_anew_is_found_in_the_runs_of_the_base_model(tmp_path):
    found, campaign = findings(tmp_path, "inference-perf", SHARED / "inference-perf")
    miscounted = campaign.serving.set_index("line").loc[list(found["output_tokens_per_s"].lines)]
    assert set(miscounted["model"]) == {"llama-2-7b"}
    assert (campaign.serving["model"] == "llama-2-7b").sum() == len(miscounted)


@REAL
def test_the_mislabelled_real_guidellm_folder_is_found(tmp_path):
    found, campaign = findings(tmp_path, "guidellm", SHARED / "guidellm")
    assert set(campaign.serving["model"]) == {"codellama-34b"}
    assert "llama7b" in found["folder"].value
    assert "names another model than codellama-34b" in found["folder"].message
    assert "itl_ms_mean" not in found, "GuideLLM's latencies agree with one another"
    assert campaign.serving["kv_cache_tokens"].unique().tolist() == [40592]
    assert campaign.serving["block_size"].unique().tolist() == [16]


@REAL
def test_the_folders_of_the_real_inference_perf_runs_name_what_they_ran(tmp_path):
    found, _ = findings(tmp_path, "inference-perf", SHARED / "inference-perf")
    assert not {"folder", "model_in_config", "model_in_client"} & set(found)


@REAL
def test_splitwise_runs_that_stopped_early_are_left_out_where_they_are(tmp_path, h100):
    source = SHARED / "splitwise/perf_model_h100_llama2-70b.csv"
    write_campaign(read_source("splitwise", str(source), "H100"), tmp_path / "H100/splitwise")
    campaign = load_campaign(tmp_path / "H100/splitwise", "H100", h100)
    steps = pd.read_csv(campaign.folder / "steps.csv")
    assert (steps["run_id"].value_counts() == 2).all(), "a prefill and a decode step"
    runs = pd.read_csv(campaign.folder / "serving.csv").set_index("run_id")
    (stopped,) = (
        p
        for p in campaign.problems
        if "stopped early" in p.message and p.file.endswith("steps.csv")
    )
    rows = steps.iloc[np.array(stopped.lines) - 2]
    assert (rows["num_decode_requests"] > 0).all()
    assert len(rows) == 67
    points = (
        runs.loc[rows["run_id"]]
        .groupby(["concurrency", "input_tokens_mean", "output_tokens_mean"])
        .size()
    )
    assert points.to_dict() == {
        (1, 512, 256): 3,
        (1, 512, 512): 5,
        (1, 512, 1024): 12,
        (1, 512, 2048): 14,
        (1, 512, 4096): 15,
        (1, 512, 8192): 15,
        (1, 4096, 128): 3,
    }
    (apart,) = (p for p in campaign.problems if "did not run as one batch" in p.message)
    assert set(runs.loc[steps.iloc[np.array(apart.lines) - 2]["run_id"]]["concurrency"]) == {64}
    (file,) = (f for f in campaign.files if f.table == "steps")
    assert (file.rows, file.used, file.dropped) == (630, 553, 77)
    assert not set(stopped.lines + apart.lines) & set(campaign.steps["line"])
    assert len(campaign.steps) == len(campaign.table) == 553
