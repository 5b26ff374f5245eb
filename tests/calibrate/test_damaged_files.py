"""Whatever a file holds, a reader takes it or says in one line what is wrong with it; nothing ends in a traceback."""

import json
import random
import shutil
import time
import tomllib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.campaign.workload_files import read_workload
from calibrate.importers import read_source
from calibrate.outcome.result_json import dump_json
from calibrate.outcome.run_files import read_run
from calibrate.records.errors import CalibrateError
from sim import load_architecture, load_hardware
from sim.errors import SimError
from tests.calibrate.test_importers import SPLITWISE
from tests.conftest import DATA, GUIDE_H100, ROOT

STEPS = (
    "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us,step_id\n"
    "llama-3.1-8b,1,1,2048,0,0,48211.5,a\nllama-3.1-8b,2,0,0,8,8192,9000.25,b\n"
)
REQUESTS = "step_id,phase,context_tokens,new_tokens,count\na,prefill,0,2048,1\nb,decode,1024,,8\n"
TOML = 'title = "t"\nsource = "s"\nlicence = "l"\ncollected = 2026-01-01\nkind = "synthetic"\n'
CONFIG = json.dumps(
    {
        **{"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32},
        **{"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256},
        **{"torch_dtype": "bfloat16", "model_type": "llama", "num_experts": 8},
        **{"num_experts_per_tok": 2, "mlp_only_layers": []},
    }
)
HARDWARE = json.dumps({"H100": {**GUIDE_H100, "note": "x"}}, indent=1)
VLLM = json.loads((DATA / "clients/vllm_bench/summary.json").read_text())
SAMPLE = (DATA / "inferencemax/silicon_sample.csv").read_text()
RECORDS = [
    json.loads(line) for line in (DATA / "forward_pass_metrics.jsonl").read_text().splitlines()
]
BATCHES = {
    "concurrency": 8,
    "input_tokens_mean": 512,
    "output_tokens_mean": 8,
}


def of_parquet(path, frame):
    pa.parquet.write_table(pa.Table.from_pylist(frame), path)
    return path.read_bytes()


def steps_with(**cells):
    return [
        {**row, **cells} for row in pd.read_csv(pd.io.common.StringIO(STEPS)).to_dict("records")
    ]


def flat(**changed):
    """Records of Forward Pass Metrics with their fields side by side."""
    nested = ("scheduled_requests", "queued_requests")
    return [
        {name: value for name, value in record.items() if name not in nested}
        | {**record["scheduled_requests"], **changed}
        for record in RECORDS
    ]


# -- one input a kind ------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(calibrate, tmp_path, monkeypatch):
    """Run a command that must fail in one line, or in a list of findings; return what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code, out, err = calibrate(*arguments)
        assert code == 1
        assert "Traceback" not in out + err
        assert "\x1b" not in out + err
        return " ".join((out + err).split())

    return run


def validate(refused, tmp_path, **files):
    """Validate the good campaign with some files in the place of, or beside, its own."""
    folder = tmp_path / "gt/H100/c"
    folder.mkdir(parents=True)
    for name, content in {"steps_csv": STEPS, "campaign_toml": TOML, **files}.items():
        if content is not None:
            content = content if isinstance(content, bytes) else content.encode()
            (folder / name.replace("_", ".")).write_bytes(content)
    return refused("validate", "--ground-truth", "gt", "--gpu", "H100")


def take_in(refused, tmp_path, importer, content, *options, name="source.json"):
    """Import a file that cannot be imported; nothing is written."""
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    where = ("--gpu", "H100", "--campaign", "c", "--ground-truth", "gt")
    said = refused("import", importer, name, *where, *options)
    assert not (tmp_path / "gt").exists()
    return said


def test_requests_without_their_steps(refused, tmp_path):
    said = validate(refused, tmp_path, requests_csv=REQUESTS.replace("step_id", "step"))
    assert "step_id: the required column is missing" in said
    assert "did you mean 'step'" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "9" * 5000, "is not readable TOML"),
        ("a = " + "[" * 9000, "is not readable TOML"),
        ("a = " + "9" * 400, "a is too large"),
    ],
)
def test_a_campaign_file_beyond_what_python_reads(refused, tmp_path, text, words):
    assert words in validate(refused, tmp_path, campaign_toml=text)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"tp": [1]}, "tp = [1]: must be a whole number"),
        ({"tp": True}, "tp = True: must be a whole number"),
        ({"model": "a\0b"}, "model = a\\x00b: holds control characters"),
    ],
)
def test_cells_of_another_kind(refused, tmp_path, cells, words):
    content = of_parquet(tmp_path / "x", steps_with(**cells))
    assert words in validate(refused, tmp_path, steps_csv=None, steps_parquet=content)


def test_sequences_that_command_a_terminal_are_shown_as_escapes(refused, tmp_path):
    table = STEPS.replace("llama-3.1-8b", "x\x1b[31mRED\x1b]0;T\x07")
    assert "model = x\\x1b[31mRED" in validate(refused, tmp_path, steps_csv=table)


def test_thousands_of_unknown_models_take_a_second(refused, tmp_path):
    header, row, _ = STEPS.splitlines()
    rows = [row.replace("llama-3.1-8b", f"meta-llama/some-model-{n}") for n in range(4000)]
    began = time.process_time()
    said = validate(refused, tmp_path, steps_csv="\n".join([header, *rows]))
    assert time.process_time() - began < 8.0
    assert "3,980 models more are unknown" in said


@pytest.mark.parametrize("name", ["pp_size", "backend_version", "tp_size", "precision"])
def test_load_points_without_a_column(refused, tmp_path, name):
    table = SAMPLE.replace(name, "other", 1)
    said = take_in(refused, tmp_path, "inferencemax", table, name="source.csv")
    assert f"source.csv:1: {name}: the required column is missing" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("h100-80gb", "", "source.json:2: hardware = (empty): is empty"),
        ("llama2-70b", "nan", "source.json:2: model = nan: is not in the registry"),
        (",512,2,", f",512,{'9' * 400},", "is larger than 1e+07"),
    ],
)
def test_cells_of_splitwise_that_are_none(refused, tmp_path, old, new, words):
    assert words in take_in(refused, tmp_path, "splitwise", SPLITWISE.replace(old, new, 1))


def test_half_a_character_in_a_result(refused, tmp_path):
    content = json.dumps({**VLLM, "model_id": "x\ud83d"})
    said = take_in(refused, tmp_path, "vllm-bench", content, "--tp", "2")
    assert "source.json: model_id = 'x\\ud83d': holds half a character" in said.replace(":1:", ":")


def test_a_zero_byte_in_a_label_of_a_result(refused, tmp_path):
    content = json.dumps({**VLLM, "backend": "vl\0lm"})
    said = take_in(refused, tmp_path, "vllm-bench", content, "--tp", "2")
    assert "engine = 'vl\\x00lm" in said


def test_what_toml_bars_is_written_as_an_escape(calibrate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.json").write_text(json.dumps({**VLLM, "backend": "vllm\x7f"}))
    where = ("--gpu", "H100", "--campaign", "c", "--ground-truth", "gt")
    assert calibrate("import", "vllm-bench", "r.json", *where, "--tp", "2")[0] == 0
    info = tomllib.loads((tmp_path / "gt/H100/c/campaign.toml").read_text())
    assert info["engine"].startswith("vllm\x7f")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (flat(worker_id=[1]), "worker_id must be text or a whole number"),
        ([{}], "the field wall_time is missing"),
    ],
)
def test_logs_in_parquet_without_what_is_needed(refused, tmp_path, records, words):
    content = of_parquet(tmp_path / "x", records)
    options = ("--tp", "2", "--model", "llama-3.1-8b")
    name = "log.parquet"
    assert words in take_in(refused, tmp_path, "forward-pass-metrics", content, *options, name=name)


def test_a_server_log_with_a_number_of_400_digits(refused, tmp_path):
    log = (DATA / "vllm_logs/v0_6.log").read_text()
    digits = next(word for word in log.split("GPU blocks: ")[1].split(",")[0].split())
    (tmp_path / "server.log").write_text(
        log.replace(f"GPU blocks: {digits}", f"GPU blocks: {'9' * 400}")
    )
    said = take_in(refused, tmp_path, "vllm-bench", json.dumps(VLLM), "--server-log", "server.log")
    assert "is too large" in said


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model_type", ["llama"], "model_type must be text, got ['llama']"),
        ("mlp_only_layers", 3, "mlp_only_layers must be a list, got 3"),
        ("hidden_size", 10**399, "hidden_size is too large"),
        ("hidden_size", 10**40, "hidden_size is too large"),
    ],
)
def test_fields_of_a_model_of_another_kind(refused, tmp_path, field, value, words):
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(CONFIG), field: value}))
    load = ("--rate", "1", "--prompt-tokens", "10", "--output-tokens", "2")
    hardware = ("--hardware-config", ROOT / "hardware_configs/hardware_config.json")
    assert words in refused("simulate", "--model", tmp_path, "--gpu", "H100", *load, *hardware)


def test_a_time_long_before_there_were_models(refused, tmp_path):
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,20,3\n0001-01-01 00:00:00,1,2\n"
    (tmp_path / "w.csv").write_text(text)
    hardware = ("--hardware-config", ROOT / "hardware_configs/hardware_config.json")
    said = refused(
        "simulate", "--workload", "w.csv", "--model", "llama-3.1-8b", "--gpu", "H100", *hardware
    )
    assert "w.csv:3: TIMESTAMP = 0001-01-01 00:00:00: is out of range" in said


def test_half_a_character_in_a_configuration_is_refused_before_the_fit(refused, tmp_path):
    (tmp_path / "h.json").write_text(json.dumps({"H100": {**GUIDE_H100, "note": "\ud800"}}))
    arguments = ("fit", "--gpu", "H100", "--ground-truth", ROOT / "ground_truth")
    assert "h.json: H100.note" in refused(*arguments, "--hardware-config", "h.json")


@pytest.fixture(scope="module")
def run_folder(full, tmp_path_factory):
    """A run as a fit writes it, without its report."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "result.json").write_text(dump_json(full.to_dict()))
    full.predictions.to_csv(folder / "predictions.csv", index=False)
    return folder


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.slow
def test_runs_of_another_version(refused, tmp_path, run_folder, command):
    shutil.copytree(run_folder, tmp_path / "run")
    arguments = (command, "run") if command == "report" else (command, "run", run_folder)
    table = pd.read_csv(run_folder / "predictions.csv")
    table.drop(columns="after_us").to_csv(tmp_path / "run/predictions.csv", index=False)
    said = refused(*arguments)
    assert "predictions.csv:1: after_us: the column is missing; written by another version" in said
    table.assign(after_us=["soon", *table["after_us"][1:]]).to_csv(
        tmp_path / "run/predictions.csv", index=False
    )
    assert "predictions.csv:2: after_us = soon: must be a number" in refused(*arguments)
    for cell, words in {
        "0.0": "must be a positive number",
        "1e-320": "must be a positive number",
        "inf": "must be a number",
        "1e+300": "must be a number",
    }.items():
        table.assign(
            measured_us=table["measured_us"].astype(str).where(table.index != 1, cell)
        ).to_csv(tmp_path / "run/predictions.csv", index=False)
        assert f"predictions.csv:3: measured_us = {cell}: {words}" in refused(*arguments)
    header, *lines = (run_folder / "predictions.csv").read_text().splitlines()
    shifted = "\n".join([header, *(f"x,{line}" for line in lines)])
    (tmp_path / "run/predictions.csv").write_text(shifted)
    assert "predictions.csv:2: has " in refused(*arguments)
    twice = header.replace("before_us", "after_us")
    (tmp_path / "run/predictions.csv").write_text("\n".join([twice, *lines]))
    assert "predictions.csv:1: after_us: the column is there twice" in refused(*arguments)
    content = json.loads((run_folder / "result.json").read_text())
    del content["parameters"]
    (tmp_path / "run/result.json").write_text(json.dumps(content))
    assert "result.json: parameters is missing; run the fit again" in refused(*arguments)


# -- hundreds of accidents -------------------------------------------------------------------------------------------


def campaign(path):
    load_campaigns(path.parents[2], "H100")


SAID = {"tp": 2, "model": "llama-3.1-8b"}


def importer(name, **said):
    def read(path):
        read_source(name, str(path), "H100", said)

    return read


def hardware(path):
    load_hardware(path, "H100")


def run(path):
    read_run(path.parent)


def server_log(path):
    read_source("vllm-bench", str(DATA / "clients/vllm_bench/summary.json"), "H100", {}, path)


CLIENTS = DATA / "clients"
READERS = {
    "gt/H100/c/steps.csv": (STEPS, campaign),
    "gt/H100/c/steps.parquet": (lambda path: of_parquet(path, steps_with()), campaign),
    "gt/H100/c/campaign.toml": (TOML, campaign),
    "vllm.json": (json.dumps(VLLM), importer("vllm-bench", tp=2)),
    "sglang.jsonl": (CLIENTS / "sglang_bench/version_0.4.jsonl", importer("sglang-bench", **SAID)),
    "aiperf.json": (
        CLIENTS / "aiperf/rate5/profile_export_aiperf.json",
        importer("aiperf", tp=2),
    ),
    "latency.json": (
        CLIENTS / "vllm_latency/latency.json",
        importer("vllm-latency", **SAID, **BATCHES),
    ),
    "benchmarks.json": (
        CLIENTS / "guidellm/version_0.5/benchmarks.json",
        importer("guidellm", tp=2),
    ),
    "traces.json": (DATA / "otel/run/traces.json", importer("otel", **SAID)),
    "fpm.jsonl": (DATA / "forward_pass_metrics.jsonl", importer("forward-pass-metrics", **SAID)),
    "fpm.parquet": (
        lambda path: of_parquet(path, flat()),
        importer("forward-pass-metrics", **SAID),
    ),
    "perf_model.csv": (SPLITWISE, importer("splitwise")),
    "silicon_sample.csv": (SAMPLE, importer("inferencemax")),
    "server.log": (DATA / "vllm_logs/v0_6.log", server_log),
    "azure.csv": (DATA / "workloads/azure_2023.csv", read_workload),
    "own.csv": (DATA / "workloads/own.csv", read_workload),
    "hardware.json": (HARDWARE, hardware),
    "config.json": (CONFIG, load_architecture),
}
VALUES = [
    *(b"null", b"true", b"[]", b"{}", b'"x"', b"-1", b"0", b"1e999", b"NaN", b"1,5", b"nan", b""),
    *(b"9" * 400, b"9" * 5000, b"[" * 200, b'"\\ud800"', b'"\\u0000"', b"\xff", b"\0", b'"', b"\n"),
]


def bytes_of(source, path):
    """What a reader's good file holds: given, in a sample, or made."""
    if isinstance(source, str):
        return source.encode()
    return source(path) if callable(source) else source.read_bytes()


def damaged(content, chance):
    """The content after one accident."""
    at = chance.randrange(len(content))
    end = min(len(content), at + chance.choice((1, 2, 8, 60)))
    kind = chance.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[end:]
    if kind == 2:
        return content[:at] + chance.randbytes(end - at) + content[end:]
    if kind == 3:
        return content[:end] + content[at:]
    words = content.replace(b",", b" ").replace(b":", b" ").replace(b"}", b" ").split()
    word = chance.choice(words)
    return content.replace(word, chance.choice(VALUES), chance.choice((1, -1)))


def refusal(read):
    """The words with which a file is refused, empty where it is read; any other exception fails the test."""
    try:
        read()
    except (CalibrateError, SimError) as error:
        return str(error)
    return ""


def assert_names_a_file(words):
    """A refusal begins with the file that it means."""
    assert not words or Path(words.partition(":")[0]).exists(), words


@pytest.mark.parametrize("name", READERS)
@pytest.mark.slow
def test_damage_is_read_over_or_named(tmp_path, name):
    source, read = READERS[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes_of(source, path)
    path.write_bytes(content)
    read(path)
    chance = random.Random(name)
    for _ in range(25):
        path.write_bytes(damaged(content, chance))
        assert_names_a_file(refusal(lambda: read(path)))


@pytest.mark.parametrize("name", ["result.json", "predictions.csv"])
def test_damage_to_a_run_is_read_over_or_named(tmp_path, run_folder, name):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / name
    content = path.read_bytes()
    chance = random.Random(name)
    for _ in range(15):
        path.write_bytes(damaged(content, chance))
        assert_names_a_file(refusal(lambda: read_run(path.parent)))
