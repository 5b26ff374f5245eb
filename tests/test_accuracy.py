"""The page of accuracies: its numbers against known truth, and the README's figures against its numbers."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy import page, tables
from benchmarks.accuracy.__main__ import measure
from benchmarks.accuracy.datasets import (
    ROOT,
    Absent,
    StepData,
    reference_database,
    shipped,
    splitwise,
)
from benchmarks.accuracy.evaluation import Contender, contenders, evaluate, guide_hardware
from benchmarks.accuracy.noise import replicate_noise
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.serving import ServingRow
from benchmarks.accuracy.transfer import transfers
from calibrate.trust.metrics import Errors
from sim import StepTable, load_hardware
from sim.models.roofline_v1.model import RooflineV1
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

V1 = Contender("roofline-v1", "roofline-v1")
TRUTH = {
    "BwEffConstant": 0.8,
    "mfuPrefill": 0.5,
    "TOverheadMicros": 150.0,
    "allReduceLatency": 30.0,
}


@pytest.fixture(scope="module")
def truth():
    return load_hardware({"H100": GUIDE_H100}, gpu="H100").with_values(TRUTH)


@pytest.fixture(scope="module")
def steps(truth):
    return synthetic_steps(truth, 96)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, steps):
    """Steps that roofline-v1 takes at known values, as a data set."""
    folder = tmp_path_factory.mktemp("ground_truth")
    write_campaign(folder, "H100", steps)
    return StepData("H100", "H100", folder, "synthetic", folder)


@pytest.fixture(scope="module")
def evaluated(made_up):
    return evaluate(made_up, V1)


def off(steps, hardware):
    predicted = RooflineV1().predict_us(StepTable.from_columns(steps), hardware)
    return float(np.abs(predicted / steps["latency_us"] - 1).mean())


@pytest.mark.slow
def test_errors_are_those_of_the_guides_values_and_of_the_truth(evaluated, steps):
    guide = load_hardware({"H100": GUIDE_H100}, gpu="H100")
    assert evaluated.error("guide") == pytest.approx(off(steps, guide), rel=1e-3)  # the file rounds
    assert evaluated.error("guide") > 0.1
    for how in ("fitted", "run", "model"):
        assert evaluated.error(how) < 0.01
    assert evaluated.error("kernels") is None
    assert evaluated.rows == len(steps)


def test_the_guides_values_are_no_fitted_ones():
    assert guide_hardware("H100", "roofline-v1").values == pytest.approx(GUIDE_H100)


def test_a_model_that_cannot_be_fitted_says_why(made_up):
    tried = {one.label: one for one in contenders(made_up)}
    assert list(tried) == ["roofline-v1", "roofline-v3", "roofline-v2", "roofline-v2-interp"]
    failed = evaluate(made_up, tried["roofline-v2"])
    assert "benchmark database" in failed.failure
    assert failed.error("guide") is None
    assert failed.rows == 0


def test_values_carry_over_to_a_gpu_that_has_the_same(made_up, evaluated):
    target = dataclasses.replace(evaluated, data=dataclasses.replace(made_up, name="twin"))
    (found,) = transfers([evaluated, target], "H100", ["roofline-v1"])
    assert found.everything["all"].mape == pytest.approx(evaluated.error("fitted"), rel=1e-6)
    assert evaluated.error("fitted") < found.shares["all"].mape < evaluated.error("guide")


def repeated(kind, latencies, truth, tmp_path):
    step = synthetic_steps(truth, 1)
    rows = pd.concat([step] * len(latencies), ignore_index=True)
    rows = rows.assign(latency_us=latencies, run_id=[f"run-{i}" for i in range(len(latencies))])
    write_campaign(tmp_path, "H100", rows, info={"kind": kind})
    return StepData("H100", "H100", tmp_path, "synthetic", tmp_path).load()


@pytest.mark.parametrize("copies", [0, 2])
def test_noise_is_the_distance_from_the_other_runs(truth, tmp_path, copies):
    latencies = [90e3, 100e3, 110e3] + [110e3] * copies
    found = replicate_noise("H100", repeated("measured", latencies, truth, tmp_path))
    assert [one.phase for one in found] == ["all", "prefill"]
    assert (found[0].points, found[0].runs) == (1, 3)
    assert found[0].mean == pytest.approx((1 - 90 / 105 + 0 + 110 / 95 - 1) / 3)
    assert found[0].median == pytest.approx(1 - 90 / 105)


@pytest.mark.parametrize(
    ("kind", "latencies"), [("kernel-composed", [90e3, 100e3, 110e3]), ("measured", [90e3, 100e3])]
)
def test_composed_steps_and_pairs_have_no_noise(truth, tmp_path, kind, latencies):
    assert replicate_noise("H100", repeated(kind, latencies, truth, tmp_path)) == []


def small(evaluated, **changes):
    found = page.Accuracy([evaluated], [], [], [], PEERS, [Absent("the moon", "it is not here")])
    return dataclasses.replace(found, **changes)


def test_the_page_is_whole_without_what_is_absent(evaluated, tmp_path):
    third = dataclasses.replace(evaluated, contender=Contender("roofline-v3", "roofline-v3"))
    found = small(evaluated, evaluations=[evaluated, third])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        page.write(found, tmp_path / folder)
    text = (tmp_path / "one/accuracy.md").read_text(encoding="utf-8")
    assert "the moon; it is not here" in text
    assert not re.search(r"## (Serving|Transfer)|None|nan", text)
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == ["accuracy-errors.png", "accuracy-steps.png"]
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_serving_rows_make_a_section(evaluated):
    third = dataclasses.replace(evaluated, contender=Contender("roofline-v3", "roofline-v3"))
    row = ServingRow("inference|perf", "roofline-v3", "nothing tuned", 6, 0.165, 0.032, None)
    text = page.text(small(evaluated, evaluations=[evaluated, third], serving=[row]), [])
    assert "| inference\\|perf | roofline-v3 | nothing tuned | 6 | 16.5% | 3.2% | – |" in text


def test_held_out_errors_are_spread_as_they_lie(evaluated):
    slices = {"all": Errors(9, 0.2, 0.1, 0.5, -0.0123)}
    found = dataclasses.replace(
        evaluated, errors={"guide": slices, "run": evaluated.errors["run"], "tp": slices}
    )
    assert tables.spread([found]).rows == (
        ("H100", "roofline-v1", "TP out", "20.0%", "10.0%", "50.0%", "−1.2%"),
    )


def test_a_fit_worse_than_its_start_is_marked(evaluated):
    assert evaluated.result is not None
    worse = {"folds": {"all": Errors(1, 9.0, 9.0, 9.0, 9.0)}}
    metrics = dataclasses.replace(evaluated.result.metrics, held_out=worse)
    marked = dataclasses.replace(
        evaluated, result=dataclasses.replace(evaluated.result, metrics=metrics)
    )
    names = [row[1] for row in tables.steps([evaluated, marked]).rows]
    assert names == ["roofline-v1", "roofline-v1 †"]


def test_what_is_not_there_is_named(tmp_path):
    missing = [splitwise(tmp_path, tmp_path), reference_database(tmp_path)]
    assert [type(one) for one in missing] == [Absent, Absent]
    told = []
    found = measure(missing[:1], missing[1], told.append)
    assert found.absent == missing
    assert not found.evaluations
    assert not told
    page.write(found, tmp_path)
    assert missing[0].why in (tmp_path / "accuracy.md").read_text(encoding="utf-8")


def test_a_campaign_without_steps_is_named(tmp_path, steps):
    write_campaign(tmp_path, "B200", steps)
    (tmp_path / "H100/kernels").mkdir(parents=True)
    found = shipped(tmp_path)
    assert found == [
        Absent("H100 kernels", "it holds neither steps nor serving results"),
        StepData("B200", "B200", tmp_path, "synthetic", tmp_path),
    ]


def test_published_figures_say_where_they_stand():
    assert all(one.address.startswith("https://") and "%" in one.figure for one in PEERS)


# What is committed


@pytest.fixture(scope="module")
def numbers():
    return json.loads((ROOT / "docs/accuracy.json").read_text(encoding="utf-8"))


def test_the_committed_page_has_the_committed_numbers(numbers):
    text = (ROOT / "docs/accuracy.md").read_text(encoding="utf-8")
    own = [
        row for row in numbers["steps"] if "," not in row["latency_model"] and not row["failure"]
    ]
    assert len(own) >= 20
    for row in own:
        cells = [f"{row['errors'][how]['all']:.1%}" for how in ("guide", "fitted")]
        mark = re.escape(row["data"]) + r" \| " + row["latency_model"]
        assert re.search(rf"\| {mark}( †)? \| .*{cells[0]} .*{cells[1]} ", text), row["data"]


@pytest.mark.slow
def test_the_committed_numbers_are_what_the_code_gives(numbers):
    """If this fails, run `make accuracy` and see what changed."""
    data = next(one for one in shipped() if one.name == "H100")
    now = evaluate(data, Contender("roofline-v3", "roofline-v3"))
    then = next(
        r for r in numbers["steps"] if (r["data"], r["latency_model"]) == ("H100", "roofline-v3")
    )
    for how, slices in now.errors.items():
        assert then["errors"][how]["all"] == pytest.approx(slices["all"].mape, abs=5e-4), how


def figures(numbers):
    """Every percentage that the command printed, by what it is of."""
    found = {}
    for row in (row for section in numbers.values() for row in section):
        name = next(row[key] for key in ("data", "dataset", "to", "tool", "name") if key in row)
        found.setdefault(name, set()).update(percentages_in(row))
    return found


def percentages_in(value):
    if isinstance(value, dict):
        return {text for part in value.values() for text in percentages_in(part)}
    if isinstance(value, float):
        return {f"{abs(value):.1%}"}
    return set(re.findall(r"\d+\.\d+%", value)) if isinstance(value, str) else set()


def unfounded(line, numbers):
    """Percentages with a decimal that the command did not print of what the line names, or of anything."""
    found = figures(numbers)
    named = [name for name in found if name in line] or list(found)
    return set(re.findall(r"\d+\.\d+%", line)) - set().union(*(found[name] for name in named))


def test_every_error_in_the_readme_was_printed(numbers):
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        assert not unfounded(line, numbers), line


def test_a_figure_that_was_not_printed_is_found(numbers):
    found = figures(numbers)
    other = min(found["A100-SXM"] - found["B200"])
    assert unfounded(f"On A100-SXM {other}, on a GPU 999.9%", numbers) == {"999.9%"}
    assert unfounded(f"On B200 {other}", numbers) == {other}


def test_the_first_campaigns_table_of_errors_is_that_fit(numbers):
    """The sample of the fit of H100, slice by slice."""
    fit = next(
        r for r in numbers["steps"] if (r["data"], r["latency_model"]) == ("H100", "roofline-v1")
    )
    rows = re.findall(
        r"^(\S+(?: \S+)?) +(\d+)((?: +[\d.]+%){5})$",
        (ROOT / "docs/first-campaign.md").read_text("utf-8").partition("## A better model")[0],
        re.MULTILINE,
    )
    assert len(rows) > 5
    for name, _, cells in rows:
        where = name.replace(" ", ":")
        made = [
            f"{fit['errors'][how][where]:.1%}" for how in ("guide", "fitted", "run", "model", "tp")
        ]
        assert cells.split() == made, name
