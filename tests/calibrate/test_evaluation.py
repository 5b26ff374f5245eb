"""``evaluate`` and ``calibrate evaluate``: errors of known truths, what is left out, and what a program reads."""

import json

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.outcome.evaluation import evaluate
from calibrate.records.errors import CalibrateError
from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Fixed
from sim.serving.workload import Stage
from tests.conftest import GUIDE_H100, ROOT
from tests.synthetic import serving_row, synthetic_steps, write_campaign

H100 = Hardware("H100", {**gpu_specs()["H100"].values, **GUIDE_H100}, "the guide")
V1 = latency_model("roofline-v1")
ERRORS = {"n", "mape", "median", "p90", "bias"}
SLOWER = 1.1


def served(scale=1.0, **columns):
    """Two load points of many requests, of lengths that are the same for all: little is left to chance."""
    workload = Workload(1000, Stage(2.0), Fixed(400), Fixed(20))
    rows = pd.DataFrame(
        [serving_row(H100, V1, name, 1, workload, 3, **columns) for name in ("llama-3.1-8b",) * 2]
    )
    times = [name for name in rows if "_ms_" in name]
    return rows.assign(**{name: rows[name] * scale for name in times}, run_id=["a", "b"])


def steps(scale=1.0):
    frame = synthetic_steps(H100, 36)
    return frame.assign(latency_us=frame["latency_us"] * scale)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the guide's configuration and no campaign yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"H100": GUIDE_H100}))
    return tmp_path


@pytest.fixture
def evaluated(place, calibrate):
    """Run ``calibrate evaluate`` on the campaigns of that folder."""
    return lambda *options: calibrate(
        "evaluate", "--gpu", "H100", "--hardware-config", "config.json", *options
    )


def campaigns_of(folder, **tables):
    """Write a campaign for each table, named after it, and load all."""
    for name, frame in tables.items():
        table = name.partition("_")[0]
        write_campaign(folder / "ground_truth", "H100", frame, name, {"itl": "per-token"}, table)
    return load_campaigns(folder / "ground_truth", "H100")


def files_under(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_configuration_that_made_the_steps_has_no_error(tmp_path):
    evaluation = evaluate(campaigns_of(tmp_path, steps=steps()), H100)
    assert set(evaluation.steps) >= {
        "all",
        "phase:decode",
        "model:llama-2-13b",
        "tp:8",
        "campaign:steps",
    }
    assert evaluation.steps["all"].n == 36
    assert all(one.mape < 1e-9 for one in evaluation.steps.values())
    assert (evaluation.serving, evaluation.notes) == (None, ())


def test_measurements_a_tenth_faster_are_a_bias_of_a_tenth(tmp_path):
    (campaign,) = campaigns_of(tmp_path, steps=steps(1 / SLOWER))
    errors = evaluate(campaign, H100).steps["all"]  # one campaign, not in a list
    assert [errors.mape, errors.median_ape, errors.p90_ape, errors.bias] == pytest.approx(
        [0.1] * 4, rel=1e-9
    )


def test_the_configuration_and_the_model_make_the_prediction(tmp_path):
    campaigns = campaigns_of(tmp_path, steps=steps())
    other = H100.with_values({"BwEffConstant": 0.36})
    (table,) = (campaign.table for campaign in campaigns)
    for model, hardware in (("roofline-v1", other), ("roofline-v3", H100)):
        expected = latency_model(model).predict_us(table, hardware)
        evaluation = evaluate(campaigns, hardware, model=model)
        assert evaluation.rows["predicted_us"].to_numpy() == pytest.approx(expected)
        relative = expected / campaigns[0].steps["latency_us"].to_numpy() - 1
        assert evaluation.steps["all"].mape == pytest.approx(np.abs(relative).mean())
        assert evaluation.steps["all"].bias == pytest.approx(relative.mean())


def test_serving_of_a_known_engine_has_next_to_no_error_and_a_scaled_one_its_scale(tmp_path):
    right = evaluate(campaigns_of(tmp_path / "right", serving=served()), H100)
    fast = evaluate(campaigns_of(tmp_path / "fast", serving=served(1 / SLOWER)), H100)
    assert right.steps is None
    assert right.serving.rows == right.serving.errors["e2e"]["model:llama-3.1-8b"].n == 2
    for metric in ("ttft", "itl", "e2e"):
        assert right.serving.errors[metric]["all"].mape < 0.03
        scaled = SLOWER * (1 + right.serving.errors[metric]["all"].bias)
        assert 1 + fast.serving.errors[metric]["all"].bias == pytest.approx(scaled, rel=1e-9)


def test_overloaded_rows_and_assumptions_are_named(tmp_path):
    rows = served().assign(failed_requests=[0, 900], max_num_seqs=np.nan)
    evaluation = evaluate(campaigns_of(tmp_path, serving=rows), H100)
    assert evaluation.serving.rows == 1
    assert evaluation.serving.left_out[0].startswith(
        "1 serving rows left out: the engine was overloaded"
    )
    assert "do not say max_num_seqs" in evaluation.serving.assumptions[0]


def test_steps_stay_where_no_serving_row_can_be_used(tmp_path):
    campaigns = campaigns_of(tmp_path, steps=steps(), serving=served().assign(failed_requests=900))
    content = evaluate(campaigns, H100).to_dict()
    assert content["steps"]["all"]["n"] == 36
    assert content["serving"]["ttft"] is None
    assert content["serving"]["rows"] == 0
    assert "2 serving rows left out" in content["serving"]["left_out"][0]


def mixture_steps():
    row = {"model": "mixtral-8x7b", "tp": 1, "num_decode_requests": 8, "sum_decode_kv_tokens": 8192}
    return pd.DataFrame([{**row, "latency_us": 90_000.0 + i} for i in range(3)])


def test_steps_that_the_model_cannot_compute_are_named(tmp_path):
    evaluation = evaluate(campaigns_of(tmp_path, steps=steps(), steps_moe=mixture_steps()), H100)
    assert evaluation.steps["all"].n == 36
    (note,) = evaluation.notes
    assert note.endswith("3 rows left out.")


def test_nothing_to_predict_is_an_error_that_says_why(tmp_path):
    with pytest.raises(CalibrateError, match=r"no row to evaluate: .* 3 rows left out\."):
        evaluate(campaigns_of(tmp_path, steps=mixture_steps()), H100)
    with pytest.raises(CalibrateError, match="no row to evaluate"):
        evaluate([], H100)


def test_bad_rows_are_counted_and_not_used(tmp_path):
    bad = steps()
    bad.loc[[3, 5], "latency_us"] = -1.0
    evaluation = evaluate(campaigns_of(tmp_path, steps=bad), H100)
    assert evaluation.steps["all"].n == 34
    assert evaluation.notes == (
        "steps: 2 of 36 rows of steps are not used; `calibrate validate` says why.",
    )


def test_it_prints_its_errors_in_few_lines(tmp_path):
    lines = repr(evaluate(campaigns_of(tmp_path, steps=steps(1 / SLOWER)), H100)).splitlines()
    assert lines[0] == "Evaluation of H100, roofline-v1, the guide"
    assert lines[1:] == [
        "steps  mean error 10.0%, median 10.0%, 90th percentile 10.0%, bias +10.0% (36 rows)"
    ]


def test_a_program_reads_the_errors(place, evaluated):
    campaigns_of(place, steps=steps(1 / SLOWER), serving=served())
    before = files_under(place)
    code, out, error = evaluated("--json")
    content = json.loads(out)
    assert (code, error) == (0, "")
    assert files_under(place) == before
    assert list(content) == ["gpu", "latency_model", "hardware_config", "steps", "serving", "notes"]
    assert [content["gpu"], content["latency_model"], content["hardware_config"]] == [
        "H100",
        "roofline-v1",
        "config.json",
    ]
    assert all(set(one) == ERRORS for one in content["steps"].values())
    assert content["steps"]["all"]["bias"] == pytest.approx(0.1)
    assert list(content["serving"]) == ["ttft", "itl", "e2e", "rows", "left_out", "assumptions"]
    for metric in ("ttft", "itl", "e2e"):
        assert set(content["serving"][metric]) == {*ERRORS, "slices"}
        slices = content["serving"][metric]["slices"]
        assert set(slices) == {"model:llama-3.1-8b", "tp:1", "engine:vllm", "campaign:serving"}
        assert all(set(one) == ERRORS for one in slices.values())


@pytest.mark.parametrize(("limit", "code"), [(9.9, 3), (10.1, 0)])
def test_errors_above_a_limit_fail(place, evaluated, limit, code):
    campaigns_of(place, steps=steps(1 / SLOWER))
    got, out, error = evaluated("--json", "--fail-above", limit)
    assert got == code
    assert json.loads(out)["steps"]["all"]["mape"] == pytest.approx(0.1)
    said = "calibrate: the mean error of steps is 10.00%, 0.10 points above --fail-above 9.9\n"
    assert error == (said if code else "")


def test_a_serving_metric_fails_by_itself(place, evaluated):
    rows = served()
    slow = [name for name in rows if name.startswith("e2e")]
    campaigns_of(
        place, steps=steps(), serving=rows.assign(**{name: rows[name] * 0.8 for name in slow})
    )
    code, _, error = evaluated("--fail-above", "20")
    assert code == 3
    assert "the mean error of end to end is 2" in error
    assert "steps" not in error


@pytest.mark.parametrize("limit", ["-1", "nan", "inf", "much"])
def test_a_bad_limit_is_wrong_usage(place, evaluated, limit):
    code, out, error = evaluated(f"--fail-above={limit}")
    assert (code, out) == (2, "")
    assert "--fail-above" in error


def test_every_row_is_written(place, evaluated):
    campaigns_of(place, steps=steps(1 / SLOWER), serving=served())
    code, out, _ = evaluated("-o", "rows.csv")
    assert code == 0
    assert "Errors of step times" in out
    assert "+10.0%" in out
    rows = pd.read_csv("rows.csv")
    of_steps, of_serving = (rows[rows["kind"] == kind] for kind in ("steps", "serving"))
    assert (len(of_steps), len(of_serving)) == (36, 2 * 12)
    assert (of_steps["predicted_us"] / of_steps["measured_us"]).to_numpy() == pytest.approx(
        SLOWER, rel=1e-6
    )
    assert set(zip(of_serving["metric"], of_serving["statistic"], strict=True)) == {
        (metric, statistic)
        for metric in ("ttft", "itl", "e2e")
        for statistic in ("mean", "p50", "p90", "p99")
    }
    assert (
        of_serving[["line", "model", "tp", "engine", "measured_ms", "predicted_ms"]]
        .notna()
        .all(axis=None)
    )
    assert of_steps[["line", "model", "tp", "phase", "batch"]].notna().all(axis=None)


def test_a_folder_that_is_not_there_is_named_before_the_work(place, evaluated):
    campaigns_of(place, steps=steps())
    code, out, error = evaluated("-o", "nowhere/rows.csv")
    assert (code, out) == (1, "")
    assert "nowhere: no such folder" in error


def test_names_that_do_not_exist_are_bad_input(place, evaluated, calibrate):
    campaigns_of(place, steps=steps())
    code, _, error = evaluated("--campaign", "stepps")
    assert code == 1
    assert "did you mean 'steps'" in error
    code, _, error = calibrate("evaluate", "--gpu", "H10", "--hardware-config", "config.json")
    assert code == 1
    assert "did you mean 'H100'" in error


@pytest.mark.slow
def test_it_agrees_with_what_a_fit_says_of_its_start(place, evaluated, calibrate):
    noisy = synthetic_steps(H100.with_values({"BwEffConstant": 0.6}), 48, noise=0.1, seed=4)
    campaigns_of(place, steps=noisy)
    options = ("--gpu", "H100", "--hardware-config", "config.json", "--json")
    code, out, error = calibrate("fit", *options, "--dry-run", "--starts", "1", "--force")
    assert code == 0, error
    before = json.loads(out)["metrics"]["before"]
    found = json.loads(evaluated("--json")[1])["steps"]
    assert found.keys() == before.keys()
    assert found["all"]["mape"] > 0.05
    for label, one in found.items():
        assert one["mape"] == pytest.approx(before[label]["mape"], rel=1e-9)
        assert one["p90"] == pytest.approx(before[label]["p90_ape"], rel=1e-9)


def test_a_shipped_serving_campaign_is_evaluated(place, evaluated):
    shipped = (
        "--ground-truth",
        ROOT / "ground_truth",
        "--campaign",
        "inferencemax-style-sglang-0.5.1.post1",
    )
    code, out, error = evaluated(*shipped, "--json")
    content = json.loads(out)
    assert (code, error) == (0, "")
    assert content["steps"] is None
    assert content["serving"]["rows"] == content["serving"]["ttft"]["n"] == 78
    assert content["serving"]["e2e"] is None  # the campaign does not measure it
    assert 0 < content["serving"]["itl"]["mape"] < 1
