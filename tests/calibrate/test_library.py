"""The library as a notebook uses it: fit, look, predict, evaluate, plan, export, save."""

import lmfit
import numpy as np
import pandas as pd
import pytest

import calibrate
from calibrate.fitting.objective import build_dataset
from sim import load_hardware
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps

H100 = load_hardware({"H100": GUIDE_H100})
FIXED = dict.fromkeys(("mixedPrefillOverheadMicros", "vectorPeakFraction"))


@pytest.fixture(scope="module")
def steps():
    return synthetic_steps(H100, 120, noise=0.02)


@pytest.fixture(scope="module")
def result(steps):
    start = H100.with_values({"BwEffConstant": 0.65, "mfuPrefill": 0.55})
    return calibrate.fit(steps, start, starts=4, fix=FIXED)


def test_the_face_shows_what_there_is():
    assert {
        "fit",
        "predict",
        "plan",
        "evaluate",
        "export",
        "load_campaigns",
        "CalibrateError",
    } <= set(dir(calibrate))
    assert all(getattr(calibrate, name) is not None for name in calibrate.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        calibrate.fitt  # noqa: B018  # the access is what is tested


@pytest.mark.slow
def test_a_frame_of_steps_is_enough(result):
    assert result.gpu == "H100"
    assert result.values["BwEffConstant"] == pytest.approx(0.72, rel=0.03)
    assert result.hardware.values["BwEffConstant"] == result.values["BwEffConstant"]
    assert result.hardware.values["TFlopsPeak"] == 989.5


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_one_campaign_is_as_good_as_a_list(steps, result):
    campaign = calibrate.Campaign.from_frame(steps, gpu="H100", kind="synthetic")
    assert campaign.info.kind == "synthetic"
    one = calibrate.fit(campaign, result.start, starts=4, fix=FIXED)
    several = calibrate.fit([campaign], result.start, starts=4, fix=FIXED)
    assert one.values == several.values == result.values


def test_bad_rows_of_a_frame_are_named(steps):
    bad = steps.assign(latency_us=steps["latency_us"].where(steps.index != 3, -1.0))
    with pytest.raises(
        calibrate.CampaignError, match=r"steps of frame:5: latency_us = -1\.0: must be a positive"
    ):
        calibrate.fit(bad, H100)


def test_params_are_lmfits_own(result):
    assert isinstance(result.params, lmfit.Parameters)
    bandwidth = result.params["BwEffConstant"]
    assert (bandwidth.min, bandwidth.max, bandwidth.vary, bandwidth.init_value) == (
        0.001,
        1.0,
        True,
        0.65,
    )
    stderr = next(p.stderr for p in result.parameters if p.name == "BwEffConstant")
    assert bandwidth.stderr == pytest.approx(stderr, rel=1e-5)
    names = list(result.covariance)
    assert np.sqrt(np.diag(result.covariance)) == pytest.approx(
        [result.params[name].stderr for name in names]
    )
    scale = np.sqrt(np.diag(result.covariance))
    correlation = result.covariance.to_numpy() / np.outer(scale, scale)
    assert result.params[names[0]].correl[names[1]] == pytest.approx(correlation[0, 1])
    assert "BwEffConstant" in lmfit.fit_report(result.params)


def test_statistics_are_those_of_least_squares(result, steps):
    known = result.fit.statistics
    data = build_dataset([calibrate.Campaign.from_frame(steps, "H100")])
    residual = result.predictions["residual"] / data.sigma
    assert known.n_data == 120
    assert known.n_varys == result.fit.n_free
    assert known.chi_square == pytest.approx((data.weight * residual**2).sum(), rel=1e-6)
    assert known.reduced_chi_square == pytest.approx(known.chi_square / (120 - known.n_varys))
    assert known.aic == pytest.approx(120 * np.log(known.chi_square / 120) + 2 * known.n_varys)
    assert known.bic == pytest.approx(
        120 * np.log(known.chi_square / 120) + np.log(120) * known.n_varys
    )


def test_the_report_is_a_page_and_the_representation_ten_lines(result):
    page = result.fit_report()
    assert "reduced chi-square" in page
    assert "[[Correlations]]" in page
    assert result.verdict.sentence in page
    assert 5 < len(repr(result).splitlines()) <= 10
    assert result._repr_html_().count("<tr>") <= 8


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_names_are_escaped_in_a_notebook(steps):
    named = calibrate.fit(steps, calibrate.fit(steps, H100, starts=1).hardware, starts=1)
    object.__setattr__(named, "gpu", "<script>")
    assert "<script>" not in named._repr_html_()
    assert "&lt;script&gt;" in named._repr_html_()


@pytest.mark.slow
def test_a_saved_fit_reads_back(result, tmp_path):
    report = result.save(tmp_path / "run")
    assert report.is_file()
    again = calibrate.load_run(tmp_path / "run")
    assert again.to_dict() == result.to_dict()
    assert again.params == result.params
    with pytest.raises(calibrate.CalibrateError, match="holds files already"):
        result.save(tmp_path / "run")


@pytest.mark.usefixtures("no_profiles")
def test_a_configuration_is_written_and_started_from(result, steps, tmp_path):
    file = tmp_path / "hardware_config.json"
    assert result.write_config(file) is None
    assert load_hardware(file, "H100").values["BwEffConstant"] == result.values["BwEffConstant"]
    again = calibrate.fit(steps, file, starts=1, fix=FIXED)
    assert again.params["mfuPrefill"].init_value == result.values["mfuPrefill"]


def test_plots_are_those_of_the_report(result):
    assert result.plot("residuals").axes
    with pytest.raises(
        calibrate.CalibrateError, match=r"no plot 'residual'.*did you mean 'residuals'"
    ):
        result.plot("residual")


def test_predictions_keep_the_frames_index(result, steps):
    few = steps.drop(columns="latency_us").iloc[[5, 2]]
    predicted = calibrate.predict(few, result.hardware)
    assert predicted.index.tolist() == [5, 2]
    assert predicted["predicted_us"].tolist() == pytest.approx(
        result.predictions["after_us"].iloc[[5, 2]].tolist()
    )
    with pytest.raises(calibrate.CampaignError, match=r"did you mean 'llama-3\.1-8b'"):
        calibrate.predict(few.assign(model="lama-3.1-8b"), result.hardware)


def test_a_configuration_is_evaluated_and_exported(result, steps):
    scored = calibrate.evaluate(steps, result.hardware)
    assert scored.steps["all"].mape == pytest.approx(result.metrics.after["all"].mape)
    assert '"BwEffConstant"' in calibrate.export("json", result).text


def test_a_plan_needs_no_campaign(result):
    made = calibrate.plan([], result.hardware, budget=3)
    assert len(made.points) == 3
    assert isinstance(made.steps, pd.DataFrame)


def test_an_unknown_option_is_named(steps):
    with pytest.raises(
        calibrate.CalibrateError, match=r"a fit has no option 'model'.*did you mean"
    ):
        calibrate.fit(steps, H100, model="roofline-v3")
    with pytest.raises(calibrate.CalibrateError, match="starts must be 1 or more, got 0"):
        calibrate.fit(steps, H100, starts=0)
