"""Two runs side by side: parameters with intervals, errors on the points both measured, and regressions."""

import dataclasses
import json

import numpy as np
import pytest

from calibrate import fit
from calibrate.job.publish import publish
from calibrate.outcome.comparison import compare
from calibrate.records.interval import overlap
from calibrate.report import draw_comparison
from sim import load_hardware
from tests.calibrate.test_fit import truth_campaign
from tests.conftest import GUIDE_H100, one_plot


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one engine, and of its successor, whose decode steps at TP 2 take 20% longer."""
    folder = tmp_path_factory.mktemp("runs")
    hardware = load_hardware({"H100": GUIDE_H100})
    old = truth_campaign(hardware, noise=0.01, tps=(1, 2), name="old")
    slower = np.where((old.steps["tp"] == 2) & (old.steps["num_prefill_requests"] == 0), 1.2, 1.0)
    new = dataclasses.replace(
        old, name="new", steps=old.steps.assign(latency_us=old.steps["latency_us"] * slower)
    )
    few = dataclasses.replace(old, steps=old.steps.iloc[:60], table=old.table.take(np.arange(60)))
    folders = {}
    for name, campaign in (("old", old), ("new", new), ("few", few)):
        result = fit([campaign], hardware, starts=2, cv=["2"])
        config = folder / f"{name}.json"
        with one_plot():
            published = publish(result, hardware, config, folder / name, force=True, dry_run=False)
        folders[name] = published.run
    return folders


@pytest.mark.slow
def test_a_run_is_like_itself(runs):
    found = compare(runs["old"], runs["old"])
    assert all(p.a == p.b and p.overlap in (True, None) for p in found.parameters)
    assert all(one.error_a == one.error_b and one.drift == 0 for one in found.slices)
    assert found.same_rows
    assert found.slices[0].n > 100
    assert found.regressions(0) == []


def test_what_drifted_is_found_where_it_drifted(runs):
    found = compare(runs["old"], runs["new"])
    by_slice = {one.slice: one for one in found.slices}
    assert by_slice["tp:1"].drift == pytest.approx(0, abs=1e-3)
    assert 0.05 < by_slice["tp:2"].drift < by_slice["phase:decode"].drift * 2
    assert by_slice["all"].n == sum(
        one.n for name, one in by_slice.items() if name.startswith("tp:")
    )
    assert by_slice["tp:2"].error_a > by_slice["tp:2"].error_b
    exponent = next(p for p in found.parameters if p.name == "decodeTpScalingExponent")
    assert exponent.overlap is False
    assert next(p for p in found.parameters if p.name == "mfuPrefill").overlap is True
    said = found.regressions(5)
    assert any(text.startswith("tp:2: steps take +") for text in said)
    assert not any("tp:1" in text for text in said)
    assert found.regressions(50) == []


def test_only_points_in_common_count(runs):
    found = compare(runs["old"], runs["few"])
    assert found.slices[0].n == 60


def test_a_configuration_has_parameters_only(runs):
    found = compare(runs["old"] / "hardware_config.json", runs["new"], "H100")
    assert found.slices == ()
    assert all(p.ci90_a is None and p.overlap is None for p in found.parameters)
    assert {name for name, (a, b) in found.own.items() if a is None} == set(found.own)


def test_one_sided_intervals_overlap_where_they_meet():
    assert overlap((0.1, 0.2), (0.15, None)) is True
    assert overlap((0.1, 0.2), (0.3, None)) is False
    assert overlap((None, None), (0.3, 0.4)) is True
    assert overlap(None, (0.3, 0.4)) is None


def test_the_command(runs, calibrate):
    code, out, err = calibrate("compare", runs["old"], runs["new"], "--fail-on-regression", 5)
    assert code == 1
    assert "≠ the intervals lie apart" in out
    assert "regression: tp:2: steps take" in err
    code, out, _ = calibrate(
        "compare", runs["old"], runs["new"], "--fail-on-regression", 50, "--json"
    )
    assert code == 0
    content = json.loads(out)
    assert content["regressions"] == []
    assert {"slice", "n", "error_a", "error_b", "drift"} == content["slices"][0].keys()


def test_the_page_escapes_what_it_shows_and_stands_alone(runs, calibrate, tmp_path):
    page = tmp_path / "comparison.html"
    assert calibrate("compare", runs["old"], runs["new"], "--html", page)[0] == 0
    text = page.read_text()
    assert "decodeTpScalingExponent" in text
    assert "apart" in text
    assert "http" not in text.replace("http-equiv", "")
    hostile = dataclasses.replace(
        compare(runs["old"], runs["new"]), a='<script>alert("1")</script>'
    )
    draw_comparison(hostile, page)
    assert "<script>alert" not in page.read_text()
    assert "&lt;script&gt;alert" in page.read_text()


def test_the_page_of_two_configurations_has_no_errors(runs, tmp_path):
    config = runs["old"] / "hardware_config.json"
    draw_comparison(compare(config, config, "H100"), tmp_path / "page.html")
    assert "no error to compare" in (tmp_path / "page.html").read_text()
