"""Rows in InferenceMAX's style: whose become load points, by which engine, and what of them is inferred."""

import pytest

from calibrate import fit
from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError
from calibrate.serving.points import serving_points
from sim.models.registry import latency_model
from tests.conftest import DATA, ROOT

SAMPLES = DATA / "inferencemax"
OF_2026 = "inferencemax-style-2026"
GOOD = SAMPLES / "others.csv"
SHIPPED = {
    "H100/sglang-0.5.1.post1": 78,
    "H100/tensorrt-llm-1.0.0rc3": 353,
    "H100/vllm-0.12.0": 90,
    "H200/sglang-0.5.6.post2": 46,
    "H200/vllm-0.12.0": 21,
}


def sample(engine, gpu="H100"):
    return read_source("inferencemax-style", f"{GOOD}:{engine}", gpu)


def test_a_row_becomes_a_closed_load_point_of_the_nominal_lengths():
    row = sample("vllm-0.11.0").tables["serving"].iloc[0].to_dict()
    assert (row["model"], row["tp"], row["dtype"], row["engine"]) == (
        "qwen3-32b",
        2,
        "",
        "vllm 0.11.0",
    )
    assert (row["load"], row["concurrency"]) == ("closed", 16)
    assert (row["input_tokens_mean"], row["output_tokens_mean"]) == (1000, 2000)
    assert (row["ttft_ms_mean"], row["itl_ms_mean"]) == (123.4568, 20.12346)
    assert (
        not {"num_requests", "max_num_seqs", "max_num_batched_tokens", "output_tokens_std"}
        & row.keys()
    )


def test_what_is_inferred_of_an_engine_stands_in_its_rows_and_its_notes():
    imported = sample("tensorrt-llm-1.0.0rc3")
    serving = imported.tables["serving"].set_index("model")
    assert serving["num_requests"].to_dict() == {"llama-3.1-8b": 80, "qwen3-32b": 160}
    assert serving.loc["llama-3.1-8b", "max_num_seqs"] == 7, (
        "its engine ran one request fewer than were in flight"
    )
    assert serving["max_num_seqs"].isna().sum() == 1
    assert "num_requests is inferred" in imported.info["notes"]
    assert "max_num_seqs of Llama-3.1-8B is inferred" in imported.info["notes"]


def test_inferencemax_and_the_others_share_the_file_and_no_row():
    others = {
        run for engine in ("vllm-0.11.0", "tensorrt-llm-1.0.0rc3") for run in runs(sample(engine))
    }
    assert others == {"dense", "llama", "qwen"}
    assert runs(read_source("inferencemax", str(GOOD), "H100")) == {"inferencemax"}


def test_what_is_left_out_is_counted_by_its_reason():
    imported = sample("vllm-0.11.0")
    assert imported.left_out == (
        "1 rows of InferenceMAX itself (meta-llama/Llama-3.1-70B)",
        "1 rows of disaggregated servers (Qwen/Qwen3-32B)",
        "1 rows of models with experts or not in the registry (openai/gpt-oss-120b)",
        "1 rows that do not state their concurrency (Qwen/Qwen3-32B)",
        "1 rows of quantised GEMMs without a weight type (Qwen/Qwen3-32B)",
        "2 rows of other engines and versions: tensorrt-llm-1.0.0rc3 (2 rows)",
    )
    assert all(words in imported.info["notes"] for words in imported.left_out)


def test_a_quantised_copy_is_its_model_in_the_weight_type_of_the_row():
    row = sample("vllm-0.12.0", "H200").tables["serving"].iloc[0]
    assert (row["model"], row["dtype"]) == ("llama-3.1-8b", "fp8")


def test_the_campaign_is_without_a_finding(tmp_path, h100):
    write_campaign(sample("tensorrt-llm-1.0.0rc3"), tmp_path / "H100/style")
    campaign = load_campaign(tmp_path / "H100/style", "H100", h100)
    assert campaign.problems == ()
    assert (campaign.info.licence, campaign.info.itl) == ("Apache-2.0", "unknown")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            f"{GOOD}:vllm-0.11",
            "(there are tensorrt-llm-1.0.0rc3 (2 rows), vllm-0.11.0 (1 rows)); did you mean 'vllm-0.11",
        ),
        (str(GOOD), f"say which engine after a colon, as in {GOOD}:tensorrt-llm-1.0.0rc3"),
        (f"{SAMPLES}/missing.csv:vllm-0.12.0", "missing.csv: cannot be read"),
        (f"{SAMPLES}/no_column.csv:vllm-0.12.0", "silicon_tpot_ms: the required column is missing"),
        (f"{SAMPLES}/silicon_sample.csv:trtllm-1.0", "there are vllm-0.13.0 (1 rows)"),
    ],
)
def test_a_bad_source_is_refused_in_words(source, words):
    with pytest.raises(ImportFormatError) as error:
        read_source("inferencemax-style", source, "H100")
    assert words in str(error.value)


@pytest.mark.parametrize(("at", "rows"), SHIPPED.items())
def test_a_shipped_campaign_is_what_the_package_gives(at, rows, tmp_path):
    pytest.importorskip(
        "aiconfigurator_core", reason="the extra llm-calibrate[silicon] is not installed"
    )
    gpu, _, engine = at.partition("/")
    shipped = ROOT / f"ground_truth/{gpu}/inferencemax-style-{engine}"
    write_campaign(read_source("inferencemax-style", f"package:{engine}", gpu), tmp_path)
    for file in ("serving.csv", "campaign.toml"):
        assert (tmp_path / file).read_bytes() == (shipped / file).read_bytes()
    assert len((shipped / "serving.csv").read_text().splitlines()) == rows + 1


def test_make_campaigns_makes_each_of_them():
    line = next(
        line
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line.startswith("INFERENCEMAX_STYLE")
    )
    assert line.partition(":=")[2].split() == list(SHIPPED)
    shipped = (ROOT / "ground_truth").glob("*/inferencemax-style-*-*")
    assert {f"{folder.parent.name}/{folder.name[19:]}" for folder in shipped} == SHIPPED.keys()


@pytest.mark.parametrize("gpu", ["H100", "H200"])
def test_shipped_campaigns_are_whole(gpu):
    campaigns = [
        c
        for c in load_campaigns(ROOT / "ground_truth", gpu)
        if c.name.startswith("inferencemax-style-") and c.name != OF_2026
    ]
    assert all(campaign.problems == () and campaign.steps.empty for campaign in campaigns)
    assert sum(len(c.serving) for c in campaigns) == sum(
        rows for at, rows in SHIPPED.items() if at.startswith(gpu)
    )


def test_every_shipped_row_can_be_simulated(h100):
    campaigns = [
        c
        for c in load_campaigns(ROOT / "ground_truth", "H100")
        if c.name.startswith("inferencemax-style-") and c.name != OF_2026
    ]
    points = serving_points(campaigns, h100, latency_model("roofline-v3"))
    assert len(points) == 521
    assert points.left_out == ()
    trt = points.frame["engine"] == "tensorrt-llm 1.0.0rc3"
    assert (
        (points.frame["dtype"] == "fp8") & (points.frame["model"] == "qwen3-32b") & trt
    ).sum() == 176
    assert all(
        point.workload.num_requests == 10 * point.workload.load.concurrency
        for point in points.points
    )


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_steps_are_fitted_as_if_they_were_not_there(h100):
    everything = load_campaigns(ROOT / "ground_truth", "H100", hardware=h100)
    steps = [campaign for campaign in everything if len(campaign.steps)]
    alone, beside = (fit(campaigns, h100, starts=1, cv=("2",)) for campaigns in (steps, everything))
    assert alone.values == beside.values
    assert alone.warnings == beside.warnings


def runs(imported):
    return set(imported.tables["serving"]["run_id"])
