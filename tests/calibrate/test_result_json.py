"""A result as ``result.json`` holds it, and what is said of a file that holds something else."""

import dataclasses
import json
import math

import pytest

from calibrate import fit, load_campaigns
from calibrate.outcome.result import FitResult, KernelResult
from calibrate.outcome.result_json import dump_json
from calibrate.outcome.run_files import read_result, read_run
from calibrate.records.errors import CalibrateError
from sim.hardware import Hardware, gpu_specs
from tests.calibrate.test_serving_report import add_table, served_rows
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """A fit to steps with a bootstrap."""
    folder = tmp_path_factory.mktemp("steps")
    write_campaign(
        folder, "H100", synthetic_steps(H100.with_values(GUIDE_H100), 60, noise=0.05), "steps"
    )
    start = H100.with_values(GUIDE_H100)
    return fit(load_campaigns(folder, "H100"), start, starts=2, cv=["2"], bootstrap=20)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """A fit to serving results alone."""
    folder = tmp_path_factory.mktemp("serving")
    add_table(folder, served_rows(clients=(1, 4)))
    return fit(load_campaigns(folder, "H100"), H100, latency_model="roofline-v3")


def through_json(result):
    return FitResult.from_dict(json.loads(dump_json(result.to_dict())))


@pytest.mark.parametrize("name", ["steps", "serving", "full"])
@pytest.mark.slow
def test_a_result_comes_back_as_it_was_written(name, request):
    result = request.getfixturevalue(name)
    again = through_json(result)
    assert again.to_dict() == result.to_dict()
    assert (again.has_steps, again.values) == (name != "serving", result.values)


def test_parts_come_back_as_what_they_were(steps, serving):
    again = through_json(steps)
    assert again.metrics == steps.metrics
    assert again.parameters == steps.parameters
    assert again.bootstrap == steps.bootstrap
    assert again.bootstrap.samples == 20
    assert again.data == steps.data
    assert through_json(serving).serving == serving.serving


def test_a_number_that_was_not_finite_comes_back_as_not_known(steps):
    seen = dataclasses.replace(steps.identifiability, condition_number=math.inf)
    found = through_json(dataclasses.replace(steps, identifiability=seen)).identifiability
    assert math.isnan(found.condition_number)
    assert found.rank == steps.identifiability.rank


def test_the_source_of_kernels_is_written_as_from(steps):
    kernel = KernelResult("gemmMfu", 0.7, (0.6, 0.8), 12, "compute-bound GEMMs", 0.68, True)
    result = dataclasses.replace(steps, kernels=(kernel,))
    assert result.to_dict()["kernels"][0]["from"] == "compute-bound GEMMs"
    assert through_json(result).kernels == (kernel,)


def test_tables_come_with_a_run(steps, tmp_path):
    (tmp_path / "result.json").write_text(dump_json(steps.to_dict()))
    steps.predictions.to_csv(tmp_path / "predictions.csv", index=False)
    run = read_run(tmp_path)
    assert run.predictions["line"].tolist() == steps.predictions["line"].tolist()
    assert run.served is None
    assert read_result(tmp_path).predictions.empty


def without(content, *path):
    *parents, last = path
    for key in parents:
        content = content[key]
    del content[last]


def with_value(content, value, *path):
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda c: with_value(c, 1, "schema_version"),
            "schema_version = 1: this is no result of schema version 2",
        ),
        (lambda c: without(c, "schema_version"), "schema_version = None"),
        (lambda c: without(c, "fit"), "fit is missing"),
        (lambda c: without(c, "parameters", 1, "value"), "parameters[1].value is missing"),
        (
            lambda c: with_value(c, ["roofline-v1"], "latency_model"),
            'latency_model = ["roofline-v1"]: ',
        ),
        (lambda c: with_value(c, "0.8", "parameters", 0, "value"), 'parameters[0].value = "0.8": '),
        (
            lambda c: with_value(c, "good enough", "verdict", "level"),
            'verdict.level = "good enough": ',
        ),
        (lambda c: with_value(c, None, "fit", "n_rows"), "fit.n_rows = null: "),
        (lambda c: with_value(c, {"all": 3}, "metrics", "after"), "metrics.after.all = 3: "),
        (lambda c: without(c, "metrics", "after", "all"), "metrics.after = {"),
        (
            lambda c: with_value(c, {}, "metrics", "held_out", "folds"),
            "metrics.held_out.folds = {}",
        ),
        (lambda c: with_value(c, {}, "metrics", "before"), "metrics = {"),
    ],
)
def test_a_malformed_file_is_named_with_its_field_and_value(steps, tmp_path, spoil, said):
    content = json.loads(dump_json(steps.to_dict()))
    spoil(content)
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(CalibrateError) as refused:
        read_run(tmp_path)
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / 'result.json'}: {said}")
    assert "run the fit again" in text
    assert "\n" not in text


def test_errors_of_a_metric_that_serving_has_not_are_named(serving):
    content = json.loads(dump_json(serving.to_dict()))
    content["serving"]["after"]["run_id"] = content["serving"]["after"]["ttft"]
    with pytest.raises(CalibrateError, match="'run_id' is none of ttft, itl, e2e"):
        FitResult.from_dict(content)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"3", b"\xff\xfe"])
def test_a_file_that_holds_no_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(CalibrateError, match=r"result\.json: .*run the fit again"):
        read_run(tmp_path)


def test_a_truncated_file_is_one_line_on_the_command_line(steps, tmp_path, calibrate):
    text = dump_json(steps.to_dict())
    (tmp_path / "result.json").write_text(text[: len(text) // 2])
    code, _, err = calibrate("report", tmp_path)
    assert code == 1
    assert f"{tmp_path / 'result.json'}:" in err
    assert "not readable JSON: " in err
    assert len(err.strip().splitlines()) == 1
