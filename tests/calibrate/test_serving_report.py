"""What a run that was fitted to serving results shows, with steps and without."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate import fit, load_campaigns
from calibrate.job.priors import read_priors
from calibrate.job.publish import publish
from calibrate.outcome.comparison import compare
from calibrate.outcome.result import FitResult
from calibrate.outcome.run_files import read_run
from calibrate.records.errors import CalibrateError, WorseFitError
from calibrate.report import draw_comparison, draw_report, plots
from calibrate.report.checks import checks
from calibrate.report.serving_tables import serving_content
from calibrate.serving.figures import Replay
from calibrate.serving.point import ServingPoint
from calibrate.serving.points import FIGURES
from sim import Hardware, Workload, latency_model, load_architecture
from sim.hardware import gpu_specs
from sim.serving.engine import EngineLimits
from sim.serving.lengths import Fixed
from sim.serving.workload import Closed
from tests.report_sample import HOSTILE
from tests.synthetic import synthetic_steps, write_campaign

MODEL = latency_model("roofline-v3")
H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
TRUTH = H100.with_values({"layerMicros": 38.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0})
OF_STEPS = {"errors", "explorer", "regimes", "model-form"}
_REQUESTS = 1000  # so many that a fit draws them once
_ENGINE = {"max_num_batched_tokens": 8192, "max_num_seqs": 256}


def served_rows(models=("llama-3.1-8b", "llama-2-13b"), clients=(1, 2, 4), seed=100):
    """A ``serving`` table as the simulator has it: two models, a run for each closed load, off by 3% as a whole."""
    asked = [(model, count) for model in models for count in clients]
    points = [
        ServingPoint(
            load_architecture(model),
            1,
            Workload(_REQUESTS, Closed(n), Fixed(500), Fixed(24)),
            EngineLimits(**_ENGINE),
        )
        for model, n in asked
    ]
    noise = np.exp(0.03 * np.random.default_rng(seed).standard_normal((len(points), 1)))
    figures = Replay.of(points, [[seed]] * len(points)).figures_ms(MODEL, TRUTH) * noise
    lengths = {
        "num_requests": _REQUESTS,
        "input_tokens_mean": 500,
        "output_tokens_mean": 24,
    }
    measured = {
        f"{metric}_ms_{statistic}": figures[:, i] for i, (metric, statistic) in enumerate(FIGURES)
    }
    frame = pd.DataFrame(
        {"model": [model for model, _ in asked], "concurrency": [n for _, n in asked], **measured}
    )
    runs = [f"{model}-{n}" for model, n in asked]
    return frame.assign(tp=1, load="closed", engine="vllm", run_id=runs, **lengths, **_ENGINE)


def add_table(folder, rows, name="served"):
    campaign = folder / "H100" / name
    campaign.mkdir(parents=True)
    (campaign / "campaign.toml").write_text(
        f'title = "{name}"\nkind = "synthetic"\n', encoding="utf-8"
    )
    rows.to_csv(campaign / "serving.csv", index=False)


def fit_alone(folder):
    add_table(folder, served_rows())
    return fit(load_campaigns(folder, "H100"), H100, latency_model="roofline-v3")


def fit_together(folder):
    write_campaign(
        folder, "H100", synthetic_steps(TRUTH, 60, tps=(1,), noise=0.02, model=MODEL), "steps"
    )
    add_table(folder, served_rows())
    return fit(
        load_campaigns(folder, "H100"),
        H100,
        latency_model="roofline-v3",
        starts=2,
        cv=["model", "run"],
        serving=True,
    )


@pytest.fixture(scope="module")
def alone(made_once):
    """A fit to serving results alone."""
    return made_once("served-alone", fit_alone)


@pytest.fixture(scope="module")
def together(made_once):
    """A fit to steps that went on to serving results."""
    return made_once("served-together", fit_together)


@pytest.fixture(scope="module")
def runs(alone, together, made_once):
    """The folders of both, one after the other."""
    return made_once("served-runs", lambda folder: publish_both(alone, together, folder))


def publish_both(alone, together, folder):
    def run(result):
        return publish(
            result, H100, folder / "hardware.json", folder / "reports", force=True, dry_run=False
        ).run

    return {"together": run(together), "alone": run(alone)}


def page_of(run):
    return (run / "report.html").read_text(encoding="utf-8")


def text_of(run):
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", page_of(run), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", bare).split())


def sections_of(run):
    return set(re.findall(r'<section id="([^"]+)"', page_of(run)))


def result_of(run):
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_without_steps_shows_what_it_has_and_nothing_of_steps(runs):
    assert sections_of(runs["alone"]) == {
        "verdict",
        "parameters",
        "serving",
        "identifiability",
        "provenance",
        "glossary",
    }
    linked = set(re.findall(r'href="#(?!term-)([^"]+)"', page_of(runs["alone"])))
    assert linked - {"warnings"} == sections_of(runs["alone"])
    assert not (runs["alone"] / "predictions.csv").exists()
    plots = {path.stem for path in (runs["alone"] / "plots").iterdir()}
    assert {"serving_predicted_measured", "serving_errors"} <= plots
    assert not plots & {"predicted_measured", "residuals", "roofline", "regimes", "multistart"}
    assert (runs["alone"] / "report.html").stat().st_size < 1_000_000, (
        "no chart library without an explorer"
    )


def test_a_run_with_both_has_every_section(runs):
    assert sections_of(runs["together"]) >= OF_STEPS | {"serving"}
    assert {"predictions.csv", "serving.csv"} <= {path.name for path in runs["together"].iterdir()}
    for name in ("serving_predicted_measured", "serving_errors"):
        assert all(
            (runs["together"] / "plots" / f"{name}.{kind}").stat().st_size > 5000
            for kind in ("png", "svg")
        )


@pytest.mark.parametrize("name", ["alone", "together"])
def test_the_section_says_what_was_tuned_and_how_well(runs, name):
    serving = read_run(runs[name]).serving
    text = text_of(runs[name])
    assert serving.points == 6
    assert "Left out and assumed" in text
    assert "Held out: by a fit that saw none of that model." in text
    assert "6 of 6 serving rows do not say how large the KV cache is" in text
    for said in (*serving.explanation, *serving.assumptions):
        assert said.replace("'", "&#39;") in text
    content = serving_content(serving)
    assert content.treatments == ("nothing tuned", "tuned", "one model out", "one run out")
    all_rows, medians, *by_model = content.rows
    assert (all_rows.label, medians.label) == ("All", "All, medians")
    assert [row.label for row in by_model] == ["llama-2-13b", "llama-3.1-8b"]
    for row in (all_rows, *by_model):
        assert row.points == ("6" if row is all_rows else "3")
        assert all(cell.mape >= 0 for cells in row.errors for cell in cells)
    assert medians.points == "6"
    assert medians.errors[0][1] == serving.medians["after"]["ttft"]["all"]
    assert content.rows[0].errors[0][1] == serving.after["ttft"]["all"]


def test_the_table_of_figures_has_the_errors_that_the_result_says(runs):
    result = read_run(runs["alone"])
    serving, served = result.serving, result.served
    means = served[(served["statistic"] == "mean") & (served["metric"] == "ttft")]
    for column, errors in (
        ("before_ms", serving.before),
        ("held_out_model_ms", serving.held_out["model"]),
    ):
        error = np.abs(means[column] / means["measured_ms"] - 1).mean()
        assert error == pytest.approx(errors["ttft"]["all"].mape, rel=1e-5)


def test_figures_of_odd_names_are_read_as_they_were_written(runs, tmp_path):
    shutil.copy(runs["alone"] / "result.json", tmp_path)
    with pytest.raises(CalibrateError, match=r"serving\.csv: no such file"):
        read_run(tmp_path)
    served = read_run(runs["alone"]).served.assign(model="nan", engine="", dtype="NA")
    served.to_csv(tmp_path / "serving.csv", index=False)
    pd.testing.assert_frame_equal(read_run(tmp_path).served, served, check_dtype=False)
    (tmp_path / "serving.csv").write_text("\n")
    with pytest.raises(CalibrateError, match=r"serving\.csv: is empty"):
        read_run(tmp_path)


def test_a_report_is_drawn_again_to_the_byte(runs, calibrate, tmp_path):
    run = shutil.copytree(runs["alone"], tmp_path / runs["alone"].name)
    (run / "report.html").unlink()
    code, out, _ = calibrate("report", run)
    assert (code, out.startswith("report ")) == (0, True)
    assert page_of(run) == page_of(runs["alone"])


def test_a_run_that_lost_a_table_is_an_error_in_words(runs, calibrate, tmp_path):
    (tmp_path / "result.json").write_text((runs["together"] / "result.json").read_text())
    code, _, err = calibrate("report", tmp_path)
    assert code != 0
    assert "predictions.csv: no such file" in err
    (tmp_path / "result.json").write_text((runs["alone"] / "result.json").read_text())
    code, _, err = calibrate("report", tmp_path)
    assert code != 0
    assert "serving.csv: no such file" in err


def test_names_are_text(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "PLOTS", plots.PLOTS[:1])
    result = read_run(runs["together"])
    content = json.loads(
        json.dumps(result.to_dict()).replace(":llama-2-13b", f":{json.dumps(HOSTILE)[1:-1]}")
    )
    content["serving"]["assumptions"] = [HOSTILE]
    served = result.served.replace({"model": {"llama-2-13b": HOSTILE}})
    draw_report(FitResult.from_dict(content, result.predictions, served), tmp_path)
    assert "<script>alert" not in page_of(tmp_path)
    assert page_of(tmp_path).count("&lt;script&gt;alert") >= 2
    assert "<script>alert" not in (tmp_path / "plots/serving_errors.svg").read_text()


def test_many_models_and_points_and_one_metric_are_drawn(runs, tmp_path):
    result = read_run(runs["alone"])
    served = result.served
    parts = [
        served[served["metric"] == "itl"].assign(model=f"m{i}", line=i, run=f"r{i // 2}")
        for i in range(50)
    ]
    many = pd.concat(parts, ignore_index=True)
    many["after_ms"] = many["measured_ms"] * np.linspace(0.2, 4.0, len(many))
    draw_report(dataclasses.replace(result, served=many), tmp_path)
    assert "The worst 40 of 50 load points are shown" in text_of(tmp_path)
    drawn = (tmp_path / "plots/serving_predicted_measured.svg").read_text()
    assert [f"m{i}<" in drawn for i in (0, 6, 7)] == [True, True, False], (
        "as many as there are colours"
    )
    assert "others<" in drawn
    assert "What lies beyond 100% is drawn at the edge" in text_of(tmp_path)


def test_one_run_without_held_out_figures_is_drawn(runs, tmp_path):
    result = read_run(runs["alone"])
    one = result.served[result.served["line"] == 2].drop(
        columns=["held_out_model_ms", "held_out_run_ms"]
    )
    seen = dataclasses.replace(
        result, serving=dataclasses.replace(result.serving, held_out={}), served=one
    )
    draw_report(seen, tmp_path)
    assert "Nothing could be held out" in text_of(tmp_path)
    (unseen,) = [
        check for check in checks(seen, seen.predictions) if check.title == "Serving, held out"
    ]
    assert unseen.level == "unknown"


def test_checks_are_those_of_the_rows_there_are(alone, together):
    def titles(result):
        return [check.title for check in checks(result, result.predictions)]

    assert titles(alone) == [
        "Serving, tuned",
        "Serving, held out",
        "Parameters determined",
        "Data and warnings",
    ]
    assert {"Mean error after the fit", "Coverage of regimes", "Serving, held out"} <= set(
        titles(together)
    )
    data = checks(alone, alone.predictions)[-1]
    assert data.more.startswith("6 load points used")


@pytest.mark.usefixtures("one_plot")
def test_the_run_before_may_have_no_steps(runs, alone, together, tmp_path):
    def publish_next(result):
        run = publish(result, H100, tmp_path / "h.json", tmp_path, force=True, dry_run=False).run
        return result_of(run)["previous"], text_of(run)

    assert publish_next(alone)[0] is None
    previous, text = publish_next(together)
    assert (previous["mape_after"], previous["mape_held_out"]) == (None, None)
    unseen = {metric: slices["all"].mape for metric, slices in alone.serving.unseen.items()}
    assert previous["serving"] == pytest.approx(unseen)
    assert f"Serving then: TTFT {unseen['ttft']:.1%}" in text
    assert "now there are no steps" in text_of(runs["alone"])
    assert result_of(runs["alone"])["previous"]["mape_after"] == together.metrics.after["all"].mape


def test_the_verdict_counts_all_warnings(together):
    said = [text for text in together.verdict.reasons if text.endswith("below.")]
    assert said == [
        f"{len(together.warnings)} warning{'s' if len(together.warnings) > 1 else ''} below."
    ]
    assert {*together.serving.assumptions} <= {*together.warnings}


def test_an_option_that_cannot_be_followed_is_named(tmp_path):
    add_table(tmp_path, served_rows(clients=(1, 4)))
    found = fit(
        load_campaigns(tmp_path, "H100"),
        H100,
        latency_model="roofline-v3",
        prior="guide",
        cv=["run"],
        fix=dict.fromkeys(set(MODEL.parameter_names) - {"apiMicros"}),
    )
    named = [text.split()[0] for text in found.warnings if "was not followed" in text]
    assert named == ["--prior"]
    assert list(found.serving.held_out) == ["run"]


def test_its_intervals_can_be_a_prior(runs, alone):
    priors = read_priors(str(runs["alone"]), 1.0, ["layerMicros", "gemmMfu"])
    assert set(priors) == {"layerMicros"}
    assert priors["layerMicros"].mean == alone.values["layerMicros"]


def test_two_runs_are_compared_by_metric(runs, alone, calibrate, tmp_path):
    found = compare(runs["together"], runs["alone"])
    by_name = {one.name: one for one in found.serving}
    assert (found.slices, found.same_rows, found.same_serving) == ((), False, True)
    assert {
        "TTFT all",
        "ITL model:llama-2-13b",
        "E2E all, held out model",
        "E2E all, held out run",
    } <= set(by_name)
    assert by_name["ITL all"].error_b == alone.serving.after["itl"]["all"].mape
    assert (by_name["ITL all"].n_a, by_name["ITL all"].n_b) == (6, 6)
    page = tmp_path / "comparison.html"
    code, out, _ = calibrate("compare", runs["together"], runs["alone"], "--html", page)
    assert code == 0
    assert "Mean error of serving" in out
    assert "TTFT" in out
    assert 'id="serving"' in page.read_text()
    draw_comparison(
        dataclasses.replace(found, serving=(dataclasses.replace(found.serving[0], slice=HOSTILE),)),
        page,
    )
    assert "<script>alert" not in page.read_text()


def test_a_regression_of_serving_fails(runs, calibrate, tmp_path):
    worse = result_of(runs["alone"])
    worse["serving"]["after"]["ttft"]["all"]["mape"] += 0.3
    (tmp_path / "result.json").write_text(json.dumps(worse))
    shutil.copy(runs["alone"] / "serving.csv", tmp_path)
    code, _, err = calibrate("compare", runs["alone"], tmp_path, "--fail-on-regression", 5)
    assert code == 1
    assert err.count("regression:") == 1
    assert "regression: TTFT all: mean error" in err
    assert calibrate("compare", tmp_path, runs["alone"], "--fail-on-regression", 5)[0] == 0


def test_what_has_no_error_in_common_cannot_pass_for_good(runs, calibrate):
    config = runs["alone"] / "hardware_config.json"
    code, _, err = calibrate("compare", runs["alone"], config, "--fail-on-regression", 5)
    assert code != 0
    assert "the two have no error in common" in err


def spoilt(served):
    """Errors of 900%."""
    return {
        metric: {name: dataclasses.replace(one, mape=9.0) for name, one in slices.items()}
        for metric, slices in served.items()
    }


@pytest.mark.usefixtures("one_plot")
@pytest.mark.parametrize("name", ["alone", "together"])
def test_a_fit_that_makes_serving_worse_says_so_in_its_terms(name, request, tmp_path):
    result = request.getfixturevalue(name)
    held_out = {kind: spoilt(served) for kind, served in result.serving.held_out.items()}
    worse = dataclasses.replace(
        result, serving=dataclasses.replace(result.serving, held_out=held_out)
    )
    with pytest.raises(
        WorseFitError, match="TTFT, ITL and E2E are in the mean predicted worse"
    ) as refused:
        publish(worse, H100, tmp_path / "h.json", tmp_path / "out", force=False, dry_run=False)
    assert "rows it has not seen (900.0% against" in str(refused.value)
    (report,) = (tmp_path / "out").rglob("report.html")
    assert f"The report is {report}" in str(refused.value)
    assert not (tmp_path / "h.json").exists()
