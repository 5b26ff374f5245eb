"""Rows of the package for models of 2026: in which types and on how many GPUs they say that a model is served."""

import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.campaign.folders import folders_for
from calibrate.importers import read_source, write_campaign
from calibrate.parameters.start import guide_hardware
from calibrate.records.errors import ImportFormatError
from calibrate.serving.points import usable_points
from sim.models.registry import latency_model
from tests.conftest import DATA, ROOT

GOOD = str(DATA / "inferencemax/of_2026.csv")
SHIPPED = {
    "H100/inferencemax-2026-04-27-2026": 69,
    "H200/inferencemax-2026-04-27-2026": 298,
    "B200/inferencemax-2026-04-27-2026": 878,
    "B300/inferencemax-2026-04-27-2026": 227,
    "H100/inferencemax-style-2026": 131,
    "H200/inferencemax-style-2026": 56,
    "B200/inferencemax-style-2026": 23,
    "GB200/inferencemax-style-2026": 18,
}
WITH_DENSE = ("B200", "B300", "GB200")


def rows(importer, source, models):
    imported = read_source(importer, source, "B200", models=models)
    return imported.tables["serving"].set_index("run_id")


@pytest.fixture(scope="module")
def of_inferencemax():
    return rows("inferencemax", GOOD, "all")


@pytest.fixture(scope="module")
def of_others():
    return rows("inferencemax-style", f"{GOOD}:all", "all")


@pytest.mark.parametrize(
    ("run", "dtype", "moe_dtype", "kv_dtype"),
    [
        ("april", "fp8_block", "", "fp8"),
        ("product", "nvfp4", "", "fp8"),
        ("oss", "mxfp4", "", "fp8"),
        ("minimax", "bf16", "nvfp4", ""),
        ("dense", "nvfp4", "", "fp8"),
    ],
)
def test_types_are_those_of_the_checkpoint_that_the_precision_means(
    of_inferencemax, run, dtype, moe_dtype, kv_dtype
):
    row = of_inferencemax.loc[run]
    assert (row["dtype"], row["moe_dtype"], row["kv_dtype"]) == (dtype, moe_dtype, kv_dtype)


def test_degrees_that_a_dump_multiplied_are_put_right(of_inferencemax):
    tp, ep = of_inferencemax["tp"].to_dict(), of_inferencemax["ep"].to_dict()
    assert (tp["product"], ep["product"]) == (4, 4), "written as TP 16 with experts 4 × 4"
    assert (tp["april"], ep["april"]) == (8, 8), "as the dump of March has the same measurement"
    assert (tp["oss"], ep["oss"]) == (2, 1)


def test_what_the_launch_scripts_limit_stands_in_the_rows(of_inferencemax):
    limits = of_inferencemax[["max_num_batched_tokens", "max_num_seqs"]].astype(object)
    told = {run: tuple(row) for run, row in zip(limits.index, limits.to_numpy(), strict=True)}
    assert told["oss"] == (8192, 512)
    assert told["product"] == (16384, 256)
    assert told["april"][0] == 8192
    assert told["minimax"][1] == 4, "as many as are in flight"


def test_inferencemax_asks_for_the_likeliest_token(of_inferencemax):
    assert set(of_inferencemax["sampling"]) == {"greedy"}


def test_what_inferencemax_calls_v3_is_r1_and_counts_once(of_inferencemax):
    assert of_inferencemax.loc["product", "model"] == "deepseek-r1"
    assert "march" not in of_inferencemax.index, "a copy, from a dump that says less"


def test_of_an_overloaded_client_only_the_whole_time_is_taken():
    shipped = pd.read_csv(ROOT / "ground_truth/H100/inferencemax-2026-04-27-2026/serving.csv")
    late = shipped["concurrency"] == 512
    assert late.sum() == 9
    assert shipped.loc[late, ["ttft_ms_mean", "itl_ms_mean"]].isna().all(axis=None)
    assert shipped["e2e_ms_mean"].notna().eq(late).all()


def test_what_is_left_out_is_counted_by_its_reason():
    assert read_source("inferencemax", GOOD, "B200", models="2026").left_out == (
        "4 rows that are not InferenceMAX's (Qwen/Qwen3-235B-A22B-FP8, moonshotai/Kimi-K2.5, openai/gpt-oss-120b)",
        "1 rows of models that roofline-v4 has no term for, or not in the registry (zhipuai/GLM-5)",
        "1 rows of dense models, which the import without --models takes (meta-llama/Llama-3.1-70B)",
        "1 rows of pipeline or data parallelism (MiniMaxAI/MiniMax-M2.5)",
        "1 rows of more GPUs than a server has: the sum over those of a disaggregated one (deepseek-ai/DeepSeek-R1)",
        "1 rows that stand there twice (deepseek-ai/DeepSeek-R1)",
        "1 rows of DeepSeek-R1 that may have decoded speculatively (deepseek-ai/DeepSeek-R1)",
    )


def test_others_rows_are_of_several_engines_and_without_inferencemax_copies(of_others):
    assert set(of_others.index) == {"other", "kimi"}, "one is a rounded copy, one has two replicas"
    assert (of_others.loc["other", "dtype"], of_others.loc["other", "ep"]) == ("fp8_block", 4)
    assert of_others.loc["kimi", "dtype"] == "int4"
    assert set(of_others["engine"]) == {"tensorrt-llm 1.0.0rc3", "vllm 0.15.1"}


def test_without_models_only_dense_ones_are_taken_and_no_latency_model_is_named():
    imported = read_source("inferencemax", GOOD, "B200")
    assert imported.tables["serving"]["run_id"].tolist() == ["dense"]
    assert "latency_models" not in imported.info


def test_the_campaign_is_for_roofline_v4_and_without_a_finding(tmp_path):
    imported = read_source("inferencemax", GOOD, "B200", models="all")
    write_campaign(imported, tmp_path / "B200/served")
    campaign = load_campaign(tmp_path / "B200/served", "B200", guide_hardware("B200")[0])
    assert campaign.problems == ()
    assert campaign.info.latency_models == ("roofline-v4",)


@pytest.mark.parametrize("importer", ["inferencemax", "inferencemax-style"])
def test_unknown_models_are_refused_in_words(importer):
    source = GOOD if importer == "inferencemax" else f"{GOOD}:all"
    with pytest.raises(
        ImportFormatError, match=r"--models 'al' is not known here: say 2026.*'all'"
    ):
        read_source(importer, source, "B200", models="al")


def test_inferencemax_own_results_take_no_models(tmp_path):
    with pytest.raises(ImportFormatError, match="leave --models out"):
        read_source("inferencemax", str(tmp_path), "B200", models="2026")


@pytest.mark.parametrize(("at", "count"), SHIPPED.items())
def test_a_shipped_campaign_is_what_the_package_gives(at, count, tmp_path):
    pytest.importorskip(
        "aiconfigurator_core", reason="the extra llm-calibrate[silicon] is not installed"
    )
    gpu, _, name = at.partition("/")
    importer, source = (
        ("inferencemax-style", "package:all") if "style" in name else ("inferencemax", "package")
    )
    models = "all" if gpu in WITH_DENSE else "2026"
    write_campaign(read_source(importer, source, gpu, models=models), tmp_path)
    for file in ("serving.csv", "campaign.toml"):
        assert (tmp_path / file).read_bytes() == (ROOT / "ground_truth" / at / file).read_bytes()
    assert count == len((tmp_path / "serving.csv").read_text().splitlines()) - 1


@pytest.mark.parametrize("gpu", ["H100", "H200", "B200", "B300", "GB200"])
@pytest.mark.slow
def test_shipped_campaigns_are_whole_and_simulated(gpu):
    names = [at.partition("/")[2] for at in SHIPPED if at.startswith(f"{gpu}/")]
    hardware, _ = guide_hardware(gpu, model="roofline-v4")
    campaigns = load_campaigns(ROOT / "ground_truth", gpu, names, hardware)
    assert all(c.problems == () and c.info.latency_models == ("roofline-v4",) for c in campaigns)
    points = usable_points(campaigns, hardware, latency_model("roofline-v4"))
    assert len(points) == sum(SHIPPED[f"{gpu}/{name}"] for name in names)
    assert points.left_out == ()


@pytest.mark.parametrize("model", ["roofline-v1", "roofline-v3"])
def test_other_latency_models_do_not_see_them(model):
    folders = folders_for(ROOT / "ground_truth", "H100", (), (model,))
    assert not {folder.name for folder in folders} & {at.partition("/")[2] for at in SHIPPED}


def test_make_campaigns_makes_each_of_them():
    made = (ROOT / "Makefile").read_text()
    for at in SHIPPED:
        gpu, _, name = at.partition("/")
        variable = "STYLE_2026" if "style" in name else "INFERENCEMAX_2026"
        models = "all" if gpu in WITH_DENSE else "2026"
        line = next(one for one in made.splitlines() if one.startswith(f"{variable} :="))
        assert f"{gpu}/{models}" in line.split()
