"""Files in which other tools keep measurements: AISimulate's tables, BLIS's runs, reports of llm-d-benchmark."""

import copy
import hashlib
import json

import pandas as pd
import pytest
import yaml

from calibrate.exporters import export, write_exported
from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import Serving
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from sim import load_hardware
from tests.conftest import GUIDE_H100

PATH = "meta-llama/Llama-3.1-8B"


def fpm_row(kind="decode", batch=4, new=0, cached=4096, ms=6.5, **changes):
    return {
        "cell_id": f"fpm-{kind}",
        "model_path": PATH,
        "system": "h100_sxm",
        "backend": "vllm",
        "backend_version": "0.25.1",
        "gemm_quant_mode": "bfloat16",
        "kv_cache_dtype": "bfloat16",
        "tp": 2,
        "pp": 1,
        "dp": 1,
        "moe_ep": 1,
        "cp": 1,
        "workload_kind": kind,
        "batch_size": batch,
        "total_prefill_tokens": new,
        "total_kv_read_tokens": cached,
        "latency_ms": ms,
        **changes,
    }


def fpm_table(folder, *rows, metadata=True):
    path = folder / "systems/data/h100_sxm/vllm/0.25.1/fpm_forward_perf.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(list(rows)).to_parquet(path, index=False)
    if metadata:
        said = {
            "schema_name": "aic_fpm_forward_perf",
            "schema_version": 6,
            "parquet_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        path.with_name("fpm_forward_perf.metadata.json").write_text(json.dumps(said))
    return path


def test_rows_of_a_step_table_become_steps(tmp_path):
    fpm_table(tmp_path, fpm_row(), fpm_row("prefill", 2, 1024, 512, 30.0))
    steps = read_source("aisimulate", str(tmp_path), "H100").tables["steps"]
    decode, prefill = steps.to_dict("records")
    assert (decode["model"], decode["tp"], decode["dtype"]) == ("llama-3.1-8b", 2, "bf16")
    assert (decode["num_decode_requests"], decode["sum_decode_kv_tokens"]) == (4, 4096)
    assert (decode["num_prefill_requests"], decode["latency_us"]) == (0, 6500.0)
    assert (prefill["num_prefill_requests"], prefill["sum_prefill_tokens"]) == (2, 1024)
    assert (prefill["sum_prefill_kv_tokens"], prefill["sum_decode_kv_tokens"]) == (512, 0)
    assert prefill["run_id"] == "fpm-prefill"


def test_imported_steps_are_a_campaign(tmp_path):
    fpm_table(tmp_path, fpm_row(), fpm_row(kv_cache_dtype="fp8", gemm_quant_mode="fp8_block"))
    imported = read_source("aisimulate", str(tmp_path), "H100")
    write_campaign(imported, tmp_path / "H100/steps")
    assert list(imported.tables["steps"]["kv_dtype"]) == ["bf16", "fp8"]
    assert list(imported.tables["steps"]["dtype"]) == ["bf16", "fp8_block"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cell_id": "calibrate-modelled-x"}, "1 rows: modelled by calibrate, not measured"),
        ({"system": "h200_sxm"}, "not of H100"),
        ({"workload_kind": "mixed"}, "neither a prefill nor a decode"),
        ({"dp": 4}, "dp above 1"),
        ({"model_path": "org/other"}, r"not in the registry \(org/other\)"),
        ({"gemm_quant_mode": "w4afp8"}, "a gemm_quant_mode that no weight type"),
    ],
)
def test_rows_that_are_no_steps_of_ours_are_left_out_and_named(tmp_path, changes, why):
    fpm_table(tmp_path, fpm_row(), fpm_row(**changes))
    imported = read_source("aisimulate", str(tmp_path), "H100")
    assert len(imported.tables["steps"]) == 1
    assert any(pd.Series(words).str.contains(why)[0] for words in imported.left_out)
    fpm_table(tmp_path, fpm_row(**changes))
    with pytest.raises(ImportFormatError, match=why):
        read_source("aisimulate", str(tmp_path), "H100")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latency_ms": -1.0}, "row 1, latency_ms = -1.0: must be a number above 0"),
        ({"latency_ms": float("nan")}, "latency_ms = nan"),
        ({"tp": 0}, "tp = 0"),
        ({"total_kv_read_tokens": -5}, "must be a number of 0 or more"),
    ],
)
def test_a_bad_number_of_a_step_table_is_named_with_its_row(tmp_path, changes, words):
    fpm_table(tmp_path, fpm_row(**changes))
    with pytest.raises(ImportFormatError, match=words):
        read_source("aisimulate", str(tmp_path), "H100")


def test_a_step_table_must_be_whole_and_that_of_its_metadata(tmp_path):
    path = fpm_table(tmp_path, {key: 1 for key in fpm_row() if key != "latency_ms"})
    with pytest.raises(ImportFormatError, match="the column latency_ms is missing"):
        read_source("aisimulate", str(path), "H100")
    fpm_table(tmp_path, fpm_row())
    fpm_table(tmp_path, fpm_row(), fpm_row(), metadata=False)
    with pytest.raises(ImportFormatError, match="parquet_sha256 is not that"):
        read_source("aisimulate", str(path), "H100")
    path.with_name("fpm_forward_perf.metadata.json").write_text('{"schema_name": "other"}')
    with pytest.raises(ImportFormatError, match="schema_name must be"):
        read_source("aisimulate", str(path), "H100")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFormatError, match=r"no fpm_forward_perf\.parquet in it"):
        read_source("aisimulate", str(tmp_path / "empty"), "H100")
    with pytest.raises(ImportFormatError, match="no such file"):
        read_source("aisimulate", str(tmp_path / "none"), "H100")


def test_what_we_export_never_comes_back_as_a_measurement(tmp_path):
    hardware = load_hardware({"H100": GUIDE_H100})
    exported = export("aisimulate", Source(hardware, serving=Serving(("llama-3.1-8b",))))
    write_exported(exported, tmp_path / "out")
    with pytest.raises(ImportFormatError, match="modelled by calibrate, not measured"):
        read_source("aisimulate", str(tmp_path / "out"), "H100")


RUN = {
    "kind": "EvaluationRun",
    "name": "llama-on-h100",
    "scenario": "llama-3.1-8b-on-h100",
    "harness": "aiperf",
    "engine_version": "0.29.0",
    "points": [
        {
            "concurrency": 1,
            "completed_requests": 96,
            "output_tokens_per_sec": 157.3,
            "ttft_ms": 168.6,
            "itl_ms": 6.0,
            "mean_isl": 8015,
            "mean_osl": 496,
        },
        {"concurrency": 8, "ttft_ms": 212.4, "itl_ms": 7.1, "prefix_cache_hit_rate": 0.5},
    ],
}
SAID = {"model": "llama-3.1-8b", "tp": 2, "input_tokens_mean": 8015.0, "output_tokens_mean": 496.0}


def written(path, content):
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_points_of_an_evaluation_run_become_load_points(tmp_path):
    source = written(tmp_path / "run.yaml", RUN)
    rows = read_source("blis-evaluation", source, "H100", SAID).tables["serving"]
    assert list(rows["concurrency"]) == [1.0, 8.0]
    assert list(rows["ttft_ms_mean"]) == [168.6, 212.4]
    assert list(rows["load"]) == ["closed", "closed"]
    assert list(rows["engine"]) == ["vllm 0.29.0"] * 2
    assert rows["num_requests"][0] == 96
    assert rows["input_tokens_mean"][1] == 8015.0


def test_the_share_in_the_cache_counts_where_the_prompt_is_known(tmp_path):
    content = copy.deepcopy(RUN)
    content["points"][0]["prefix_cache_hit_rate"] = 0.5
    source = written(tmp_path / "run.yaml", content)
    rows = read_source("blis-evaluation", source, "H100", SAID).tables["serving"]
    assert rows["cached_input_tokens_mean"][0] == 8015 / 2


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("kind",), "Scenario", "kind must be EvaluationRun"),
        (("engine_version",), None, "engine_version is missing"),
        (("points",), 3, "points must be a list"),
        (("points", 0, "concurrency"), 0, "concurrency must be 1 or more"),
        (("points", 0, "ttft_ms"), -1.0, "ttft_ms must be 0 or more"),
        (("points", 0, "itl_ms"), "fast", "itl_ms must be a number"),
        (("points", 0, "prefix_cache_hit_rate"), 2.0, "prefix_cache_hit_rate must be from 0 to 1"),
    ],
)
def test_a_wrong_evaluation_run_is_told_in_words(tmp_path, path, value, words):
    content = copy.deepcopy(RUN)
    content["points"] = content["points"][:1]
    here = content
    for key in path[:-1]:
        here = here[key]
    if value is None:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    with pytest.raises(ImportFormatError, match=words):
        read_source("blis-evaluation", written(tmp_path / "run.yaml", content), "H100", SAID)


def test_a_point_without_a_latency_is_left_out(tmp_path):
    content = copy.deepcopy(RUN)
    content["points"].append({"concurrency": 16, "output_tokens_per_sec": 1.0})
    source = written(tmp_path / "run.yaml", content)
    imported = read_source("blis-evaluation", source, "H100", SAID)
    assert len(imported.tables["serving"]) == 2
    assert "point 3: has no latency" in imported.left_out[0]


def statistics(units, mean):
    return {"units": units, "mean": mean, "p50": mean, "p90": 2 * mean, "p99": 3 * mean}


REPORTS = {
    "0.1": {
        "version": "0.1",
        "scenario": {
            "model": {"name": "meta-llama/Llama-3.1-8B-Instruct"},
            "host": {
                "type": ["replica"],
                "accelerator": [
                    {
                        "model": "H100",
                        "count": 2,
                        "parallelism": {"tp": 2, "dp": 1, "pp": 1, "ep": 1},
                    }
                ],
            },
            "platform": {"engine": [{"name": "vllm", "version": "0.11.0"}]},
            "load": {
                "name": "vllm-benchmark",
                "args": {"request_rate": "inf", "max_concurrency": 8},
            },
        },
        "metrics": {
            "time": {"duration": 10.0},
            "requests": {
                "total": 100,
                "failures": 1,
                "input_length": statistics("count", 1024.0),
                "output_length": statistics("count", 128.0),
            },
            "latency": {
                "time_to_first_token": statistics("ms", 50.0),
                "inter_token_latency": statistics("ms/token", 9.0),
                "time_per_output_token": statistics("ms/token", 8.0),
                "request_latency": statistics("s", 1.1),
            },
            "throughput": {"output_tokens_per_sec": 900.0, "total_tokens_per_sec": 9000.0},
        },
    },
    "0.2": {
        "version": "0.2",
        "run": {"uid": "1"},
        "scenario": {
            "stack": [
                {
                    "metadata": {"kind": "inference_engine"},
                    "standardized": {
                        "tool": "vllm",
                        "tool_version": "0.11.0",
                        "role": "aggregate",
                        "model": {"name": "meta-llama/Llama-3.1-8B-Instruct"},
                        "accelerator": {
                            "model": "H100",
                            "parallelism": {"tp": 2, "dp": 1, "ep": 1},
                        },
                    },
                },
                {"metadata": {"kind": "generic"}, "standardized": {"tool": "epp"}},
            ],
            "load": {
                "standardized": {
                    "tool": "inference-perf",
                    "rate_qps": 10,
                    "concurrency": float("inf"),
                }
            },
        },
        "results": {
            "request_performance": {
                "aggregate": {
                    "requests": {
                        "total": 500,
                        "failures": 0,
                        "input_length": statistics("count", 2048.0),
                        "output_length": statistics("count", 256.0),
                    },
                    "throughput": {"output_token_rate": statistics("tokens/s", 2500.0)},
                    "latency": {
                        "time_to_first_token": statistics("s", 0.05),
                        "time_per_output_token": statistics("s/token", 0.008),
                        "request_latency": statistics("s", 2.1),
                    },
                }
            }
        },
    },
}


def report(tmp_path, content, name="report.yaml"):
    return read_source("llm-d-benchmark", written(tmp_path / name, content), "H100")


def test_a_report_of_version_0_1_is_a_load_point(tmp_path):
    (row,) = report(tmp_path, REPORTS["0.1"]).tables["serving"].to_dict("records")
    assert (row["model"], row["tp"], row["engine"]) == ("llama-3.1-8b", 2.0, "vllm 0.11.0")
    assert (row["load"], row["concurrency"]) == ("closed", 8.0)
    assert (row["num_requests"], row["failed_requests"]) == (100.0, 1.0)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (1024.0, 128.0)
    assert (row["ttft_ms_mean"], row["itl_ms_mean"], row["itl_ms_p99"]) == (50.0, 8.0, 24.0)
    assert (row["e2e_ms_mean"], row["output_tokens_per_s"]) == (1100.0, 900.0)


def test_a_report_of_version_0_2_is_a_load_point(tmp_path):
    (row,) = report(tmp_path, REPORTS["0.2"]).tables["serving"].to_dict("records")
    assert (row["model"], row["tp"], row["engine"]) == ("llama-3.1-8b", 2.0, "vllm 0.11.0")
    assert (row["load"], row["request_rate"]) == ("poisson", 10.0)
    assert (row["ttft_ms_mean"], row["itl_ms_p90"], row["e2e_ms_mean"]) == (50.0, 16.0, 2100.0)
    assert row["output_tokens_per_s"] == 2500.0


def test_a_report_in_json_is_read_too(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORTS["0.1"], indent="\t"))
    assert len(read_source("llm-d-benchmark", str(path), "H100").tables["serving"]) == 1


def changed(version, path, value):
    content = copy.deepcopy(REPORTS[version])
    here = content
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return content


ENGINE = ("scenario", "stack", 0, "standardized")
AGGREGATE = ("results", "request_performance", "aggregate")


@pytest.mark.parametrize(
    ("version", "path", "value", "words"),
    [
        ("0.1", ("version",), "0.3", "no report of llm-d-benchmark"),
        ("0.1", ("scenario", "host", "type"), ["prefill", "decode"], "served apart"),
        ("0.1", ("scenario", "platform", "engine"), [{}, {}], "2 engines behind"),
        ("0.1", ("scenario", "platform", "engine"), [0], "no entry of names"),
        ("0.2", ("scenario", "stack"), ["vllm"], "no entry of names"),
        ("0.1", ("metrics", "latency", "request_latency", "units"), "min", "units must be a time"),
        ("0.1", ("metrics", "requests", "total"), -1, "total must be 0 or more"),
        ("0.1", ("metrics", "latency"), {}, "no latency"),
        ("0.1", ("scenario", "load", "args", "max_concurrency"), 0, "concurrency must be above 0"),
        ("0.2", (*ENGINE, "role"), "prefill", "served apart"),
        ("0.2", (*ENGINE, "accelerator", "parallelism", "dp"), 2, "data parallelism"),
        ("0.2", ("scenario", "stack"), [], "no inference_engine"),
        ("0.2", (*AGGREGATE, "requests", "total"), "many", "total must be a number"),
    ],
)
def test_a_report_that_is_no_load_point_of_one_engine_is_told_in_words(
    tmp_path, version, path, value, words
):
    with pytest.raises(ImportFormatError, match=words):
        report(tmp_path, changed(version, path, value))


def test_a_folder_of_reports_leaves_other_files_out(tmp_path):
    for version, content in REPORTS.items():
        written(tmp_path / f"benchmark_report_v{version}.yaml", content)
    written(tmp_path / "values.yaml", {"a": 1})
    imported = read_source("llm-d-benchmark", str(tmp_path), "H100")
    assert len(imported.tables["serving"]) == 2
    assert "values.yaml" in imported.left_out[0]


def test_a_step_table_without_rows_has_no_step(tmp_path):
    path = fpm_table(tmp_path, fpm_row(), metadata=False)
    pd.read_parquet(path).iloc[:0].to_parquet(path, index=False)
    with pytest.raises(ImportFormatError, match="no step of it can be imported"):
        read_source("aisimulate", str(tmp_path), "H100")
