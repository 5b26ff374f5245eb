"""Formats that describe served models: what the tool reads of the file is our step times, off by what the file says."""

import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import calibrate
from calibrate.exporters import (
    EXPORTERS,
    autoscaler,
    dynamo_planner,
    export,
    llm_d_inference_sim,
    petab,
    sglang_simulator,
    vidur,
    write_exported,
)
from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import Deviation, Serving, between, doubling, one_step_times
from calibrate.importers import IMPORTERS
from calibrate.parameters.start import guide_hardware
from calibrate.records.errors import CalibrateError, ImportFormatError
from sim import Batch, StepTable, load_hardware
from sim.errors import ArchitectureError, HardwareError
from sim.hardware import Hardware
from sim.models.registry import latency_model
from tests.conftest import GUIDE_H100

ONE_MODEL = (
    *("dynamo-planner", "sglang-simulator", "llm-d-inference-sim"),
    *("vidur", "llmservingsim"),
)
SERVED = ("aisimulate", "autoscaler", *ONE_MODEL)


def source_of(*models, tps=(1,), values=GUIDE_H100, **limits):
    return Source(load_hardware({"H100": values}), serving=Serving(models, tps, **limits))


@pytest.fixture(scope="module")
def source():
    return source_of("llama-3.1-8b")


@pytest.fixture(scope="module")
def times(source):
    return one_step_times(source.hardware, source.serving, "a test")


def stated(words):
    """The mean errors in what an export says, as fractions."""
    return [float(text) / 100 for text in re.findall(r"mean ([\d.]+)%", words)]


def test_step_times_are_the_latency_models(times):
    model = latency_model("roofline-v1")
    one = model.step_time_us(Batch.from_requests([(512, 128)] * 3), times.arch, times.hardware)
    assert float(times.prefill_us(3, 128, 512)) == pytest.approx(one, rel=1e-12)
    one = model.step_time_us(Batch.from_requests([], [(900,)] * 7), times.arch, times.hardware)
    assert float(times.decode_us(7, 900)) == pytest.approx(one, rel=1e-12)


def test_a_prompt_longer_than_a_step_takes_several(times):
    limit = times.serving.max_num_batched_tokens
    expected = times.prefill_us(1, limit, 0) + times.prefill_us(1, 500, limit)
    assert times.prompt_us([limit + 500]) == pytest.approx(expected)


def test_doubled_values_end_at_the_last_and_those_between_lie_between():
    assert doubling(1, 6).tolist() == [1, 2, 4, 6]
    assert doubling(1, 8).tolist() == [1, 2, 4, 8]
    assert between(doubling(1, 8)).tolist() == [3, 6]


def test_a_deviation_is_relative_to_our_times():
    deviation = Deviation.of([1.1, 2.0], [1.0, 2.0])
    assert (deviation.mean, deviation.largest) == pytest.approx((0.05, 0.1))
    assert str(deviation) == "mean 5.00%, largest 10.00% on 2 steps"


def test_the_planner_learns_from_our_times_and_is_off_them_as_stated(source, times):
    exported = export("dynamo-planner", source)
    raw = {}
    for phase in ("prefill", "decode"):
        content = exported.text[f"selected_{phase}_interpolation/raw_data.npz"]
        with np.load(io.BytesIO(content)) as table:
            raw[phase] = dict(table)
        again = json.loads(exported.text[f"{phase}_raw_data.json"])
        assert again["calibrate"] == str(raw[phase].pop("calibrate")) == exported.notes[0]
        assert np.ravel(again["prefill_isl" if phase == "prefill" else "z_itl"]) == pytest.approx(
            raw[phase]["prefill_isl" if phase == "prefill" else "z_itl"]
        )

    prefill, decode = raw["prefill"], raw["decode"]
    np.testing.assert_allclose(
        prefill["prefill_ttft"] * 1e3, times.prefill_us(1, prefill["prefill_isl"])
    )
    np.testing.assert_allclose(
        prefill["prefill_thpt_per_gpu"], prefill["prefill_isl"] / prefill["prefill_ttft"] * 1e3
    )
    count = decode["x_kv_usage"] * decode["max_kv_tokens"] / decode["y_context_length"]
    ours_us = times.decode_us(count.round(), decode["y_context_length"])
    np.testing.assert_allclose(decode["z_itl"] * 1e3, ours_us)
    assert decode["x_kv_usage"].max() <= 1.0

    line, plane = dynamo_planner.read(prefill, decode)
    found = [Deviation.of(line * 1e3, times.prefill_us(1, prefill["prefill_isl"])).mean]
    found.append(Deviation.of(plane * 1e3, ours_us).mean)
    assert stated(exported.notes[0]) == pytest.approx(found, abs=6e-5)


def test_dynamos_own_planner_is_off_as_stated(tmp_path, source):
    metrics = pytest.importorskip(
        "dynamo.planner.monitoring.perf_metrics", reason="ai-dynamo is not installed"
    )
    from dynamo.planner.core.perf_model import DecodeRegressionModel, PrefillRegressionModel

    exported = export("dynamo-planner", source)
    write_exported(exported, tmp_path / "out")
    found = []
    for read, made in (
        (metrics._convert_prefill_profiling, PrefillRegressionModel),
        (metrics._convert_decode_profiling, DecodeRegressionModel),
    ):
        points = read(str(tmp_path / "out"))
        model = made(max_num_fpm_samples=len(points) + 1)
        model.load_benchmark_fpms(points)
        assert model._ensure_fitted()
        times_s = []
        for point in points:
            scheduled = point.scheduled_requests
            features = (
                (scheduled.sum_prefill_tokens,)
                if made is PrefillRegressionModel
                else (scheduled.num_decode_requests, scheduled.sum_decode_kv_tokens)
            )
            predict = getattr(model, "_predict_2d", None) or model._predict_wall_time
            times_s.append(predict(*features))
        found.append(Deviation.of(times_s, [point.wall_time for point in points]).mean)
    assert stated(exported.notes[0]) == pytest.approx(found, abs=6e-5)


def test_sglangs_table_has_our_times_and_its_neighbours_are_off_as_stated(source, times):
    exported = export("sglang-simulator", source)
    table = sglang_simulator.read(exported.text["replay_table.json"])
    assert table["[[1, 1024], [1, 1024]]"] * 1e6 == pytest.approx(float(times.decode_us(2, 1024)))
    assert table["[[512, 256]]"] * 1e6 == pytest.approx(float(times.prefill_us(1, 512, 256)))
    assert all(key == json.dumps(sorted(json.loads(key))) for key in table)
    assert exported.text["replay_table.error.txt"].strip() == exported.notes[0]

    shapes = [(5, 1, 1100), (1, 700, 0)]
    known = {json.dumps([[1, 1000]] * 4): 3.0, "[[1, 1000]]": 1.0, "[[9, 9]]": 5.0}
    assert sglang_simulator.nearest_s(known, shapes) == pytest.approx([3.0, 3.0])


def test_the_simulated_server_takes_our_times_off_as_stated(source, times):
    exported = export("llm-d-inference-sim", source)
    content = yaml.safe_load(exported.text)
    assert content["time-factor-under-load"] >= 1.0
    running = doubling(1, 256).astype(float)
    itl = Deviation.of(
        llm_d_inference_sim.itl_us(content, running), times.decode_us(running, 1024 + 128)
    )
    prompts = np.array([128.0 * 2**n for n in range(7)])
    ttft = Deviation.of(llm_d_inference_sim.ttft_us(content, prompts), times.prefill_us(1, prompts))
    assert stated(exported.text) == pytest.approx([itl.mean, ttft.mean], abs=6e-5)


@pytest.mark.parametrize(
    ("text", "us"),
    [("12ms", 12000.0), ("250us", 250.0), ("1.5s", 1.5e6), ("31µs", 31.0), ("9ns", 9e-3)],
)
def test_gos_durations_are_read(text, us):
    content = {
        "max-num-seqs": 4,
        "time-factor-under-load": 2.0,
        "prefill-overhead": text,
        "prefill-time-per-token": "1us",
        "inter-token-latency": "1ms",
    }
    assert llm_d_inference_sim.read(yaml.safe_dump(content))["prefill-overhead"] == pytest.approx(
        us
    )
    assert llm_d_inference_sim.itl_us(content, np.array([1.0, 4.0])).tolist() == [1000.0, 2000.0]


def test_a_line_is_found_again():
    x = np.array([0.0, 1.0, 5.0])
    assert llm_d_inference_sim.fit_line(x, 3.0 + 2.0 * x) == pytest.approx((3.0, 2.0))


def test_the_autoscalers_numbers_are_off_as_stated(times):
    source = source_of("llama-3.1-8b", "llama-3.1-70b", tps=(2, 4))
    exported = export("autoscaler", source)
    parameters = autoscaler.read(exported.text)
    assert list(parameters) == [
        (name, "H100", tp) for name in ("llama-3.1-8b", "llama-3.1-70b") for tp in (2, 4)
    ]
    content = json.loads(exported.text)
    assert content["_comment"] == list(exported.notes)

    one = export("autoscaler", source_of("llama-3.1-8b"))
    (found,) = autoscaler.read(one.text).values()
    running, prompts = doubling(1, 256), np.array([128, 256, 512, 1024])
    steps_ms = autoscaler.step_ms(
        found, np.append(running, prompts), np.append(running * 1152.0, prompts)
    )
    ours_us = np.append(times.decode_us(running, 1152.0), times.prefill_us(1, prompts))
    line = json.loads(one.text)["itl_by_kv_usage"][0]
    usage = np.linspace(line["from"], line["to"], 2)
    assert line["A_s"] * usage + line["B_s"] == pytest.approx(
        times.decode_us([1, 256], 1152.0) / 1e6, rel=0.2
    )
    assert stated(one.notes[0])[0] == pytest.approx(
        Deviation.of(steps_ms * 1e3, ours_us).mean, abs=6e-5
    )


def test_petabs_table_has_every_parameter_to_the_last_digit(source):
    text = export("petab", source).text
    assert text.splitlines()[0].split("\t")[:5] == [
        "parameterId",
        "lowerBound",
        "upperBound",
        "nominalValue",
        "estimate",
    ]
    values = petab.read(text)
    assert values == {key: GUIDE_H100[key] for key in values}
    assert len(values) == len(GUIDE_H100) - 2


def test_petabs_own_library_reads_the_table(tmp_path, source):
    core = pytest.importorskip("petab.v2.core", reason="petab is not installed")
    path = tmp_path / "parameters.tsv"
    path.write_text(export("petab", source).text)
    parameters = core.ParameterTable.from_tsv(path).parameters
    assert {one.id: one.nominal_value for one in parameters} == petab.read(path.read_text())


@pytest.mark.parametrize("name", SERVED)
def test_a_served_format_needs_a_model_that_can_be_computed(name):
    with pytest.raises(CalibrateError, match=rf"{name} describes served models: .*--models"):
        export(name, source_of())
    with pytest.raises(ArchitectureError, match="lama"):
        export(name, source_of("lama-3.1-8b"))
    with pytest.raises(ArchitectureError, match="tp 3 does not divide"):
        export(name, source_of("llama-3.1-8b", tps=(3,)))
    with pytest.raises(ArchitectureError, match="contexts beyond 4096 tokens"):
        export(name, source_of("gemma-2-9b"))
    few = {key: value for key, value in GUIDE_H100.items() if key != "mfuDecode"}
    with pytest.raises(HardwareError, match="mfuDecode"):
        export(name, source_of("llama-3.1-8b", values=few))


@pytest.mark.parametrize("name", ONE_MODEL)
def test_a_file_of_one_model_takes_one(name):
    with pytest.raises(CalibrateError, match=f"{name} describes one model"):
        export(name, source_of("llama-3.1-8b", tps=(1, 2)))


@pytest.mark.parametrize("name", ["dynamo-planner", "autoscaler"])
def test_a_model_that_does_not_fit_the_memory_is_refused(name):
    with pytest.raises(HardwareError, match="does not fit on 1 × H100"):
        export(name, source_of("llama-3.1-70b"))


def test_a_cache_of_too_few_requests_is_refused():
    long = source_of("llama-3.1-70b", tps=(2,), prompt_tokens=60_000)
    with pytest.raises(CalibrateError, match="not two requests"):
        export("autoscaler", long)


def test_petab_needs_a_parameter():
    with pytest.raises(CalibrateError, match="no parameter"):
        export("petab", Source(Hardware("H100", {"TFlopsPeak": 989.5})))


@pytest.mark.parametrize(
    "text", ["", "[1]", "a: [", '{"[1]": "x"}', '{"[[2, 1], [1, 1]]": 1.0}', "x\ty\n1\t2\n"]
)
@pytest.mark.parametrize("module", [autoscaler, llm_d_inference_sim, petab, sglang_simulator])
def test_another_text_is_refused_in_words(module, text):
    with pytest.raises(ImportFormatError, match="not a"):
        module.read(text)


def test_every_format_says_which_tool_reads_it_and_since_when():
    for name, exporter in EXPORTERS.items():
        assert exporter.tool, name
        assert exporter.version, name
        assert re.fullmatch(r"2026-\d\d-\d\d", exporter.checked), name
    retired = {name for name, exporter in EXPORTERS.items() if exporter.retired}
    assert retired == {"blis", "blis-trained-physics", "blis-v1", "blis-v2", "blis-minimal"}
    assert {EXPORTERS[name].status for name in retired} == {"retired: BLIS up to August 2026"}


def test_vidurs_operations_add_up_to_our_steps(source, times):
    exported = export("vidur", source)
    folder = "compute/h100/meta-llama/Llama-3.1-8B"
    mlp, attention = (exported.text[f"{folder}/{name}.csv"] for name in ("mlp", "attention"))
    read = vidur.read_layers_ms(mlp, attention)
    prompt = read["prefill_chunk_size"] > 0
    ours_us = np.where(
        prompt,
        times.prefill_us(1, np.maximum(read["prefill_chunk_size"], 1), read["kv_cache_size"]),
        times.decode_us(read["batch_size"], read["kv_cache_size"]),
    )
    deviation = Deviation.of(read["layer_ms"] * 1e3 * times.arch.num_layers, ours_us)
    assert stated(exported.notes[0]) == pytest.approx([deviation.mean], abs=6e-5)
    assert deviation.mean < 1e-4
    assert "calibrate" in yaml.safe_load(exported.text["settings.yaml"])
    reduce = exported.text["network/h100/all_reduce.csv"].splitlines()
    assert {"rank", "num_workers", "size", "collective"} <= set(reduce[0].split(","))


def test_vidurs_own_loader_keeps_every_row(tmp_path):
    module = pytest.importorskip(
        "vidur.execution_time_predictor.random_forrest_execution_time_predictor",
        reason="vidur is not installed",
    )
    exported = export("vidur", source_of("llama-3.1-8b", tps=(2,)))
    predictor = module.RandomForrestExecutionTimePredictor.__new__(
        module.RandomForrestExecutionTimePredictor
    )
    sizes = {"num_q_heads": 32, "num_kv_heads": 8, "embedding_dim": 4096, "vocab_size": 128256}
    predictor._model_config = SimpleNamespace(mlp_hidden_dim=14336, use_gated_mlp=True, **sizes)
    predictor._replica_config = SimpleNamespace(tensor_parallel_size=2)
    predictor._block_size = 16
    for name, text in exported.text.items():
        kind = name.rpartition("/")[2].removesuffix(".csv").replace("mlp", "compute")
        if name.endswith(".csv"):
            path = tmp_path / "one.csv"
            path.write_text(text)
            rows = getattr(predictor, f"_load_{kind}_df")(str(path))
            assert len(rows) == text.count("\n") - 1


def test_a_profile_of_llmservingsim_read_back_is_our_steps(tmp_path, source, times, monkeypatch):
    # The grid goes on where the cache ends; the importer leaves such steps out
    monkeypatch.setattr("calibrate.importers.llmservingsim.MEMORY_SHARE", 100.0)
    exported = export("llmservingsim", source)
    write_exported(exported, tmp_path / "profile")
    steps = IMPORTERS["llmservingsim"].read(tmp_path / "profile", "H100").tables["steps"]
    table = StepTable.from_columns(steps)
    ours_us = latency_model("roofline-v1").predict_us(table, source.hardware)
    deviation = Deviation.of(steps["latency_us"], ours_us)
    assert stated(exported.notes[0]) == pytest.approx([deviation.mean], abs=6e-5)
    assert len(steps) == deviation.steps == exported.text["tp1/attention.csv"].count("\n") - 1
    assert yaml.safe_load(exported.text["meta.yaml"])["calibrate"] == exported.notes[0]


def test_what_a_model_of_layers_cannot_describe_is_refused():
    with pytest.raises(CalibrateError, match=r"holds no all-reduce.*--tp 1"):
        export("llmservingsim", source_of("llama-3.1-8b", tps=(2,)))
    hardware, _ = guide_hardware("H100", {}, "roofline-v4")
    serving = Serving(("qwen3-30b-a3b",), latency_model=latency_model("roofline-v4"))
    for name in ("vidur", "llmservingsim"):
        with pytest.raises(CalibrateError, match="equal dense layers"):
            export(name, Source(hardware, serving=serving))


@pytest.mark.parametrize(
    ("mlp", "attention"), [("a\n1\n", "b\n1\n"), ("num_tokens\n1\n", "x\n1\n")]
)
def test_another_profile_is_refused_in_words(mlp, attention):
    with pytest.raises(ImportFormatError, match="not a profile of Vidur"):
        vidur.read_layers_ms(mlp, attention)


def test_served_models_are_exported_from_python_too(tmp_path):
    serving = Serving(("llama-3.1-8b",), (2,))
    path = tmp_path / "out.json"
    made = calibrate.export("autoscaler", {"H100": GUIDE_H100}, path, serving=serving)
    assert autoscaler.read(path.read_text()) == autoscaler.read(made.text)
