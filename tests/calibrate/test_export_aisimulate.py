"""AISimulate's step tables: its documented rules, and its own engine where that is installed, read our times."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
import pytest
import yaml

from calibrate.exporters import export, write_exported
from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import Deviation, Serving, one_step_times
from calibrate.parameters.start import guide_hardware
from calibrate.records.errors import CalibrateError
from sim.errors import ArchitectureError
from sim.models.registry import latency_model

MODEL, PATH, TP = "llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B", 4
DATA = "systems/data/h100_sxm/vllm/9.9.9/fpm_forward_perf"
IDENTITY = (
    *("gemm_quant_mode", "moe_quant_mode", "fmha_quant_mode", "comm_quant_mode", "kv_cache_dtype"),
    *("tp", "pp", "dp", "moe_tp", "moe_ep", "cp"),
    *("moe_backend", "attention_backend", "enable_wideep", "enable_eplb"),
)
COORDINATES = ("batch_size", "total_prefill_tokens", "total_kv_read_tokens")
BETWEEN = 0.02  # mean error of the engine's interpolation that we accept


def source_of(*models, tps=(TP,), latency="roofline-v1", **limits):
    hardware, _ = guide_hardware("H100", {}, latency)
    serving = Serving(models, tps, latency_model(latency), **limits)
    return Source(hardware, serving=serving)


@pytest.fixture(scope="module")
def source():
    return source_of(MODEL)


@pytest.fixture(scope="module")
def exported(source):
    return export("aisimulate", source)


@pytest.fixture(scope="module")
def rows(exported):
    """The rows of one path of the model."""
    table = pd.read_parquet(io.BytesIO(exported.text[f"{DATA}.parquet"]))
    return table[table["model_path"] == PATH].reset_index(drop=True)


@pytest.fixture(scope="module")
def times(source):
    return one_step_times(source.hardware, source.serving, "a test")


def ours_ms(times, rows):
    count, new, cached = (rows[name].to_numpy(float) for name in COORDINATES)
    prefill = times.prefill_us(count, new / count, cached / count)
    decode = times.decode_us(count, cached / count)
    return np.where(rows["workload_kind"] == "prefill", prefill, decode) / 1e3


def test_the_rows_are_our_times(rows, times):
    np.testing.assert_allclose(rows["latency_ms"], ours_ms(times, rows), rtol=1e-12)
    assert set(rows["workload_kind"]) == {"prefill", "decode"}


def test_the_metadata_are_those_of_the_documented_table(exported):
    metadata = json.loads(exported.text[f"{DATA}.metadata.json"])
    parquet = exported.text[f"{DATA}.parquet"]
    assert metadata["schema_name"] == "aic_fpm_forward_perf"
    assert metadata["schema_version"] == 7
    assert metadata["coordinate_system"] == "iteration_totals_balanced_v1"
    assert metadata["measurement_policy"] == "dynamo_native_single_sample_v1"
    assert metadata["parquet_sha256"] == hashlib.sha256(parquet).hexdigest()
    assert metadata["row_count"] == len(pd.read_parquet(io.BytesIO(parquet)))
    assert (metadata["system"], metadata["backend"]) == ("h100_sxm", "vllm")
    assert metadata["backend_version"] == "9.9.9"


def test_no_row_passes_for_a_measurement_and_none_stands_twice(exported):
    table = pd.read_parquet(io.BytesIO(exported.text[f"{DATA}.parquet"]))
    assert table["cell_id"].str.startswith("calibrate-modelled-llama-3.1-70b-tp4-").all()
    assert table["calibrate_source"].str.startswith("modelled by llm-calibrate").all()
    assert "none measured" in json.loads(exported.text[f"{DATA}.metadata.json"])["note"]
    key = ["model_path", "workload_kind", *IDENTITY, *COORDINATES]
    assert not table.duplicated(key).any()
    assert (table["latency_ms"] > 0).all()
    assert (table.loc[table["workload_kind"] == "decode", "total_prefill_tokens"] == 0).all()


def test_every_count_of_decodes_begins_a_segment_and_ends_one(rows):
    counts = set(rows.loc[rows["workload_kind"] == "decode", "batch_size"])
    assert counts == {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256}


def test_every_name_of_the_model_can_be_asked_for(exported):
    table = pd.read_parquet(io.BytesIO(exported.text[f"{DATA}.parquet"]))
    paths = {"meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct", PATH}
    assert set(table["model_path"]) == paths | {f"{PATH}-Instruct"}


def test_experts_are_split_as_the_rest():
    exported = export("aisimulate", source_of("qwen3-30b-a3b", tps=(2,), latency="roofline-v4"))
    table = pd.read_parquet(io.BytesIO(exported.text[f"{DATA}.parquet"]))
    assert set(zip(table["tp"], table["moe_tp"], table["moe_ep"], strict=True)) == {(2, 2, 1)}
    parallelism = yaml.safe_load(exported.text["predict.yaml"])["engine"]["workers"]["aggregated"][
        "parallelism"
    ]
    assert (parallelism["tensor"], parallelism["moe_tensor"]) == (2, 2)


def test_what_the_table_cannot_name_is_refused():
    with pytest.raises(CalibrateError, match="has weights in mxfp4"):
        export("aisimulate", source_of("gpt-oss-20b", tps=(1,), latency="roofline-v4"))


def test_a_margin_beyond_the_windows_is_refused():
    with pytest.raises(ArchitectureError, match="beyond"):
        export("aisimulate", source_of("mistral-7b-v0.1", tps=(1,), max_context=4096))


def _installed(distribution):
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


@pytest.fixture(scope="module")
def ask(tmp_path_factory, exported):
    """The engine of aiconfigurator-core 0.12, which reads version 6 of the table: the same but for four columns."""
    if not _installed("aiconfigurator-core").startswith("0.12."):
        pytest.skip("aiconfigurator-core 0.12 is not installed: make aisimulate")
    from aiconfigurator_core.sdk.rust_engine_step import RustForwardPassPerfModel

    folder = tmp_path_factory.mktemp("engine") / "out"
    write_exported(exported, folder)
    path = folder / f"{DATA}.metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 6}))
    config = {
        "schema_version": 1,
        "model_name": PATH,
        "system_name": "h100_sxm",
        "backend": "vllm",
        "backend_version": "9.9.9",
        "tp_size": TP,
        "pp_size": 1,
        "attention_dp_size": 1,
        "forward_model": "fpm",
        "systems_path": str(folder / "systems"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIC_ALLOW_UNLISTED_VERSIONS", "1")
        engine = RustForwardPassPerfModel.from_native(config)

    def times_ms(steps):
        return np.array([_asked(engine, step) for step in steps.to_dict("records")])

    return times_ms


def _asked(engine, step):
    prefill, count = step["workload_kind"] == "prefill", step["batch_size"]
    scheduled = (
        {
            "num_prefill_requests": count,
            "sum_prefill_tokens": step["total_prefill_tokens"],
            "sum_prefill_kv_tokens": step["total_kv_read_tokens"],
        }
        if prefill
        else {"num_decode_requests": count, "sum_decode_kv_tokens": step["total_kv_read_tokens"]}
    )
    return engine.estimate_forward_pass_time_ms({"version": 1, "scheduled_requests": scheduled})


def test_the_engine_returns_our_times_at_every_point(ask, rows):
    np.testing.assert_allclose(ask(rows), rows["latency_ms"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_the_engine_is_near_our_times_between_the_points(ask, times, kind):
    draw = np.random.default_rng(0)
    count = np.exp(draw.uniform(0, np.log(200 if kind == "decode" else 8), 200)).astype(int)
    context = np.exp(draw.uniform(np.log(20), np.log(30_000), 200)).astype(int)
    new = np.exp(draw.uniform(np.log(3), np.log(8000 / count))).astype(int)
    steps = pd.DataFrame(
        {
            "workload_kind": kind,
            "batch_size": count,
            "total_prefill_tokens": count * new * (kind == "prefill"),
            "total_kv_read_tokens": count * context,
        }
    )
    assert Deviation.of(ask(steps), ours_ms(times, steps)).mean < BETWEEN


def test_aisimulate_predicts_with_the_table(tmp_path, exported):
    pytest.importorskip("aisimulate", reason="aisimulate is not installed: make aisimulate")
    write_exported(exported, tmp_path / "in")
    command = shutil.which("aisimulate", path=str(sys.executable).rpartition("/")[0])
    options = ("predict", "-c", "predict.yaml", "--output-dir", "out", "--overwrite")
    ran = subprocess.run(
        [command, *options, "--format", "json"],
        cwd=tmp_path / "in",
        env={"AIC_ALLOW_UNLISTED_VERSIONS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "mean_tpot_ms" in ran.stdout + "".join(
        path.read_text() for path in (tmp_path / "in/out").rglob("*.json")
    )
