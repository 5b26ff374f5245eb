"""A vLLM server's log: what is read of its forms, and which columns of an import it fills."""

import pandas as pd
import pytest

from calibrate.importers import read_source
from calibrate.importers.imported import Imported
from calibrate.importers.labels import NEEDS, fill_from_log, labelled
from calibrate.importers.server import read_log
from calibrate.records.errors import ImportFormatError
from tests.conftest import DATA, ROOT

LOGS = DATA / "vllm_logs"
SHARED = ROOT.parent / "shared/ground_truth"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "v0_6",
            {
                "model": "llama-3.1-8b",
                "model_in_log": LLAMA,
                "tp": 2,
                "dtype": "bf16",
                "engine": "vllm 0.6.3.post1",
                "max_num_seqs": 128,
                "block_size": 32,
                "kv_cache_tokens": 640_000,
                "prefix_hit_rate": 0.125,
            },
        ),
        (
            "v0_8",
            {
                "model": "llama-3.1-8b",
                "model_in_log": LLAMA,
                "tp": 4,
                "dtype": "int4",
                "engine": "vllm 0.8.3",
                "max_num_batched_tokens": 512,
                "block_size": 16,
                "kv_cache_tokens": 33_660 * 16,
            },
        ),
        (
            "v1_restarted",
            {
                "model": "llama-3.1-8b",
                "model_in_log": LLAMA,
                "tp": 2,
                "dtype": "fp8",
                "engine": "vllm 0.11.1",
                "max_num_batched_tokens": 2048,
                "max_num_seqs": 64,
                "block_size": 16,
                "kv_cache_tokens": 400_000,
            },
        ),
        ("no_engine", {}),
    ],
)
def test_every_form_of_the_log_is_read_and_the_last_engine_counts(log, said):
    assert read_log(LOGS / f"{log}.log") == said


@pytest.mark.skipif(
    not SHARED.exists(), reason="the real measurements are not beside this checkout"
)
@pytest.mark.parametrize(("folder", "tokens"), [("otel", 119_008), ("guidellm", 40_592)])
def test_real_logs_are_read(folder, tokens):
    said = read_log(SHARED / folder / "vllm.log")
    assert (said["engine"], said["tp"], said["kv_cache_tokens"], said["block_size"]) == (
        "vllm 0.11.0",
        1,
        tokens,
        16,
    )
    assert (said["max_num_batched_tokens"], said["max_num_seqs"]) == (4096, 256)


def serving(**columns):
    return Imported(
        {"serving": pd.DataFrame({"ttft_ms_mean": [1.0, 2.0], **columns})}, {"engine": "vllm"}
    )


def test_empty_columns_are_filled_and_others_kept():
    rows = serving(
        model=["", "meta-llama/Llama-3.1-8B"],
        tp=[None, 2],
        engine=["vllm", "vllm 0.11.1"],
        max_num_seqs=[64, None],
    )
    filled = fill_from_log(rows, LOGS / "v1_restarted.log")
    table = filled.tables["serving"]
    assert table["model"].tolist() == ["llama-3.1-8b", "meta-llama/Llama-3.1-8B"], (
        "its name in the registry"
    )
    assert table["model_in_log"].tolist() == [LLAMA, LLAMA], "to be compared with the model"
    assert table["tp"].tolist() == [2, 2]
    assert table["dtype"].tolist() == ["fp8", "fp8"]
    assert table["engine"].tolist() == ["vllm 0.11.1", "vllm 0.11.1"], "a version is added"
    assert table["max_num_seqs"].tolist() == [64, 64]
    assert table["kv_cache_tokens"].tolist() == [400_000, 400_000]
    assert filled.info["engine"] == "vllm 0.11.1"
    assert "prefix_hit_rate" not in table


def test_a_served_name_that_is_no_models_leaves_the_model_open(tmp_path):
    log = tmp_path / "server.log"
    log.write_text((LOGS / "v1_restarted.log").read_text().replace(LLAMA, "my-assistant"))
    filled = fill_from_log(serving(engine="vllm"), log)
    assert "model" not in filled.tables["serving"]
    with pytest.raises(
        ImportFormatError, match=r"called my-assistant, as none of the registry is\); give --model$"
    ):
        labelled(filled, "here", {}, NEEDS)
    table = labelled(filled, "here", {"model": "llama-3.1-8b"}, NEEDS).tables["serving"]
    assert (
        table[["model", "tp", "model_in_log"]].values.tolist()
        == [["llama-3.1-8b", 2, "my-assistant"]] * 2
    )


def test_a_path_that_was_served_is_known_by_its_end(tmp_path):
    log = tmp_path / "server.log"
    log.write_text(
        (LOGS / "v1_restarted.log").read_text().replace(LLAMA, "/models/Llama-3.1-8B-Instruct")
    )
    said = read_log(log)
    assert (said["model"], said["model_in_log"]) == ("llama-3.1-8b", LLAMA), (
        "no folder of some machine"
    )


def test_steps_take_model_degree_and_weight_type():
    rows = Imported({"steps": pd.DataFrame({"latency_us": [1.0]})}, {})
    steps = fill_from_log(rows, LOGS / "v1_restarted.log").tables["steps"]
    assert steps.to_dict("records") == [
        {"model": "llama-3.1-8b", "tp": 2, "dtype": "fp8", "latency_us": 1.0}
    ]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("missing", "missing.log: cannot be read"),
        ("no_engine", "no_engine.log: names no vLLM engine"),
        ("another_run", "another_run.log: says tp 8, but the rows 2; is it the log of this run?"),
    ],
)
def test_a_log_that_cannot_be_this_runs_is_refused_in_words(log, words):
    with pytest.raises(ImportFormatError) as error:
        fill_from_log(serving(tp=2, engine="vllm"), LOGS / f"{log}.log")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("column", "own", "words"),
    [
        ("model", "qwen3-32b", "says model llama-3.1-8b, but the rows qwen3-32b"),
        ("dtype", "bf16", "says dtype fp8, but the rows bf16"),
        ("engine", "sglang 0.5", "says engine vllm 0.11.1, but the rows sglang 0.5"),
        ("max_num_seqs", 128, "says max_num_seqs 64, but the rows 128"),
    ],
)
def test_a_row_that_says_otherwise_is_of_another_run(column, own, words):
    with pytest.raises(ImportFormatError, match=words):
        fill_from_log(serving(**{column: own}), LOGS / "v1_restarted.log")


def test_an_option_that_says_otherwise_than_the_log_is_refused():
    filled = fill_from_log(serving(engine="vllm"), LOGS / "v1_restarted.log")
    assert labelled(filled, "here", {"tp": 2}, NEEDS).tables["serving"]["tp"].tolist() == [2, 2]
    with pytest.raises(ImportFormatError, match="here: tp is 2, not 8"):
        labelled(filled, "here", {"tp": 8}, NEEDS)


def test_a_log_beside_kernels_is_refused():
    with pytest.raises(ImportFormatError, match="no table of this source says what ran"):
        fill_from_log(Imported({"gemm": pd.DataFrame()}, {}), LOGS / "v0_6.log")


def test_what_the_user_says_fills_what_is_open_and_no_more():
    rows = serving(engine="vllm", tp=2)
    with pytest.raises(
        ImportFormatError,
        match="does not say what ran; give --model, or the log of its vLLM server",
    ):
        labelled(rows, "here", {}, NEEDS)
    with pytest.raises(ImportFormatError, match="here: tp is 2, not 4; leave --tp out"):
        labelled(rows, "here", {"model": "qwen3-32b", "tp": 4}, NEEDS)
    table = labelled(rows, "here", {"model": "qwen3-32b", "dtype": "fp8"}, NEEDS).tables["serving"]
    assert list(table)[:3] == ["model", "tp", "dtype"]
    assert table["dtype"].tolist() == ["fp8", "fp8"]


def test_the_option_fills_a_campaign(calibrate, tmp_path):
    log = DATA / "forward_pass_metrics.jsonl"
    options = ("--gpu", "H100", "--campaign", "mine", "--ground-truth", tmp_path / "gt")
    code, _, err = calibrate(
        "import", "forward-pass-metrics", log, *options, "--server-log", LOGS / "v1_restarted.log"
    )
    assert code == 0, err
    steps = pd.read_csv(tmp_path / "gt/H100/mine/steps.csv")
    assert steps[["model", "tp", "dtype"]].drop_duplicates().values.tolist() == [
        ["llama-3.1-8b", 2, "fp8"]
    ]
    code, _, err = calibrate(
        "import",
        "forward-pass-metrics",
        log,
        *options,
        "--force",
        "--server-log",
        LOGS / "no_engine.log",
    )
    assert (code, "Traceback" in err) == (1, False)
    assert "names no vLLM engine" in " ".join(err.split())


def test_a_log_of_one_engine_does_not_fill_rows_of_several():
    source = str(DATA / "inferencemax/silicon_sample.csv")
    with pytest.raises(
        ImportFormatError,
        match=r"says engine vllm 0\.11\.1, but the rows sglang 0\.5\.6 in c, b, a",
    ):
        read_source("inferencemax", source, "H100", server_log=LOGS / "v1_restarted.log")
