"""InferenceMAX's rows: what becomes of them, what is left out and why, and what is refused."""

import pytest

from calibrate import fit
from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from tests.conftest import DATA, ROOT

SAMPLES = DATA / "inferencemax"
GOOD = str(SAMPLES / "silicon_sample.csv")


def test_a_row_becomes_a_closed_load_point_of_the_lengths_that_were_drawn():
    serving = read_source("inferencemax", GOOD, "H100").tables["serving"].set_index("run_id")
    first = serving.loc["a"].to_dict()
    assert (first["model"], first["tp"], first["dtype"], first["engine"]) == (
        "llama-3.1-70b",
        2,
        "fp8",
        "vllm 0.13.0",
    )
    assert (first["load"], first["concurrency"], first["num_requests"]) == ("closed", 16, 160)
    assert (first["input_tokens_mean"], first["output_tokens_mean"]) == (900, 1800), (
        "0.9 of the nominal lengths"
    )
    assert first["input_tokens_std"] == pytest.approx(200 / 12**0.5, abs=0.05), (
        "even between 800 and 1000"
    )
    assert (first["ttft_ms_mean"], first["itl_ms_mean"]) == (123.4568, 20.12346)
    assert first["max_num_batched_tokens"] == 8192
    assert serving.loc["b", "engine"] == "tensorrt-llm"
    assert serving.loc["b", "concurrency"] == 4, "the concurrency, not the batch of a rank"
    assert serving.loc["c"].to_dict()["model"] == "qwen3-32b"


def test_what_is_left_out_is_counted_by_its_reason():
    imported = read_source("inferencemax", GOOD, "H100")
    assert imported.tables["serving"]["run_id"].tolist() == ["c", "b", "a"]
    assert imported.left_out == (
        "1 rows that are not InferenceMAX's (meta-llama/Llama-3.1-70B)",
        "1 rows of disaggregated servers (meta-llama/Llama-3.1-70B)",
        "2 rows of models with experts or not in the registry (meta-llama/Llama-99B, openai/gpt-oss-120b)",
        "1 rows of weight types not known (meta-llama/Llama-3.1-70B)",
        "1 rows of pipeline or data parallelism (meta-llama/Llama-3.1-70B)",
        "1 rows that stand there twice (meta-llama/Llama-3.1-70B)",
    )
    assert all(words in imported.info["notes"] for words in imported.left_out)
    assert imported.info["collected"].isoformat() == "2026-01-01", (
        "when it was measured, not dumped"
    )


def test_the_campaign_is_without_a_finding(tmp_path, h100):
    write_campaign(read_source("inferencemax", GOOD, "H100"), tmp_path / "H100/inferencemax")
    campaign = load_campaign(tmp_path / "H100/inferencemax", "H100", h100)
    assert campaign.problems == ()
    assert len(campaign.serving) == 3
    assert campaign.info.licence == "Apache-2.0"
    assert campaign.info.itl == "per-token"


@pytest.mark.parametrize(
    ("file", "gpu", "words"),
    [
        ("missing", "H100", "missing.csv: cannot be read"),
        ("no_column", "H100", "no_column.csv:1: silicon_tpot_ms: the required column is missing"),
        (
            "text_for_a_number",
            "H100",
            ".csv:3: silicon_ttft_ms = fast: must be a positive number. Correct",
        ),
        (
            "no_concurrency",
            "H100",
            ".csv:3: silicon_data_source = 'db-dump/2026-01-02; config_id=7' must say a number",
        ),
        ("no_degree", "H100", ".csv:3: tp_size = '' must say a number, as 1 does"),
        ("cut_off", "H100", ".csv:3: has 5 fields, the header 17"),
        (
            "silicon_sample",
            "L40S",
            "no row for GPU 'L40S' (its systems: b200_sxm, h100_sxm, h200_sxm)",
        ),
        (
            "silicon_sample",
            "B200",
            "no row for GPU 'B200' can be used: 1 rows of models with experts",
        ),
    ],
)
def test_a_bad_file_is_refused_in_words(file, gpu, words):
    with pytest.raises(ImportFormatError) as error:
        read_source("inferencemax", str(SAMPLES / f"{file}.csv"), gpu)
    assert words in str(error.value)


@pytest.mark.parametrize(("gpu", "rows"), [("H100", 45), ("H200", 132)])
def test_a_shipped_campaign_is_what_the_package_gives(gpu, rows, tmp_path):
    pytest.importorskip(
        "aiconfigurator_core", reason="the extra llm-calibrate[silicon] is not installed"
    )
    shipped = ROOT / f"ground_truth/{gpu}/inferencemax-2025-10-29"
    write_campaign(read_source("inferencemax", "package", gpu), tmp_path)
    for file in ("serving.csv", "campaign.toml"):
        assert (tmp_path / file).read_bytes() == (shipped / file).read_bytes()
    assert len((shipped / "serving.csv").read_text().splitlines()) == rows + 1


@pytest.mark.parametrize("gpu", ["H100", "H200"])
def test_a_shipped_campaign_is_whole_and_stands_beside_the_steps(gpu):
    campaigns = {c.name: c for c in load_campaigns(ROOT / "ground_truth", gpu)}
    campaign = campaigns["inferencemax-2025-10-29"]
    assert campaign.problems == ()
    assert campaign.steps.empty
    assert set(campaign.serving["model"]) == {"llama-3.1-70b"}
    assert set(campaign.serving["dtype"]) == {"fp8"}
    assert any(len(other.steps) for other in campaigns.values())


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_steps_are_fitted_as_if_it_were_not_there(h100):
    steps, serving = (
        load_campaigns(ROOT / "ground_truth", "H100", [name], h100)
        for name in ("aiconfigurator-vllm-0.24.0", "inferencemax-2025-10-29")
    )
    alone, beside = (
        fit(campaigns, h100, starts=1, cv=("2",)) for campaigns in (steps, steps + serving)
    )
    assert alone.values == beside.values
    assert alone.warnings == beside.warnings
