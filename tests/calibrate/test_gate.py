"""What may go into the configuration, and what a user is told of a fit that may not."""

import dataclasses
import json

import pytest

from calibrate.job.fitted import Fit
from calibrate.job.gate import refusal
from calibrate.job.publish import publish
from calibrate.records.errors import RefusedFitError, WorseFitError
from sim import Hardware

pytestmark = pytest.mark.usefixtures("one_plot")

H100 = Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35})
IN_GB = H100.with_values({"BwPeakTBs": 3350.0})


def judged(result, level, *, stuck=True, **changes):
    """The same fit with another verdict, and its first fitted parameter at its bound."""
    parameters = list(result.parameters)
    if stuck:
        first = next(i for i, p in enumerate(parameters) if p.status == "fitted")
        parameters[first] = dataclasses.replace(
            parameters[first], name="mfuPrefill", status="at-bound"
        )
    verdict = dataclasses.replace(result.verdict, level=level)
    return dataclasses.replace(result, verdict=verdict, parameters=tuple(parameters), **changes)


@pytest.mark.parametrize(
    ("level", "stuck", "refused"),
    [("poor", True, True), ("poor", False, False), ("fair", True, False), ("good", False, False)],
)
def test_a_fit_is_refused_that_is_poor_and_at_a_bound(plain, level, stuck, refused):
    assert (refusal(judged(plain, level, stuck=stuck), H100) is not None) is refused


def test_a_refused_fit_leaves_its_report_and_the_configuration_as_it_was(plain, tmp_path):
    poor = judged(plain, "poor")
    config, out = tmp_path / "h.json", tmp_path / "out"
    with pytest.raises(RefusedFitError) as refused:
        publish(poor, H100, config, out, force=False, dry_run=False)
    (report,) = out.rglob("report.html")
    assert not config.exists()
    said = str(refused.value)
    assert "The fit is poor, with mfuPrefill at a physical bound" in said
    assert f"{config} stays as it was. The report is {report}. --latency-model auto" in said
    assert "--force writes it all the same" in said
    written = json.loads((report.parent / "result.json").read_text())
    assert "it was not written to the configuration" in written["verdict"]["sentence"]
    assert written["config_diff"] == []
    published = publish(poor, H100, config, out, force=True, dry_run=False)
    assert published.config == config
    assert config.exists()


def test_a_dry_run_of_a_refused_fit_writes_nothing(plain, tmp_path):
    with pytest.raises(RefusedFitError, match="nothing was written"):
        publish(
            judged(plain, "poor"),
            H100,
            tmp_path / "h.json",
            tmp_path / "out",
            force=False,
            dry_run=True,
        )
    assert not list(tmp_path.iterdir())


def test_a_notebook_refuses_the_same_fit(plain, tmp_path):
    fit = Fit.of(judged(plain, "poor"), H100)
    with pytest.raises(RefusedFitError, match="force=True writes it all the same"):
        fit.write_config(tmp_path / "h.json")
    assert not isinstance(RefusedFitError(), WorseFitError)
    fit.write_config(tmp_path / "h.json", force=True)
    assert (tmp_path / "h.json").exists()


@pytest.mark.parametrize(
    ("start", "changes", "words"),
    [
        (H100, {}, "--latency-model auto fits the richer roofline-v3 too"),
        (
            H100,
            {"latency_model": "roofline-v3"},
            "`calibrate plan --gpu H100` says what to measure",
        ),
        (H100, {"command": "calibrate fit --latency-model auto"}, "`calibrate plan"),
        (IN_GB, {}, "Correct BwPeakTBs first: no GPU's memory moves 3350 TB/s. Probably GB/s"),
    ],
)
def test_the_advice_is_what_would_help_most(plain, start, changes, words):
    assert words in refusal(judged(plain, "poor", **changes), start).advice
