"""Which latency model is taken where none is named."""

import dataclasses
import json

import numpy as np
import pytest

from calibrate import fit, load_campaigns
from calibrate.cli.selection import fit_best
from calibrate.outcome.selection import select_model
from calibrate.records.errors import CalibrateError
from sim import StepTable, latency_model, load_hardware
from tests.conftest import GUIDE_H100, no_profiles
from tests.synthetic import synthetic_steps, write_campaign

pytestmark = pytest.mark.usefixtures("one_plot", "no_profiles")

ENGINE = {"allReduceHopMicros": 10.0, "hostLayerMicros": 250.0, "hostPrefillMicros": 5000.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Fits of roofline-v1 and roofline-v3 to steps that roofline-v3 takes."""
    folder = tmp_path_factory.mktemp("ground-truth")
    h100 = load_hardware({"H100": GUIDE_H100}, gpu="H100")
    steps = synthetic_steps(h100, 120)
    latency = latency_model("roofline-v3").predict_us(
        StepTable.from_columns(steps), h100.with_values(ENGINE)
    )
    write_campaign(folder, "H100", steps.assign(latency_us=latency * np.tile([0.99, 1.01], 60)))
    campaigns = load_campaigns(folder, "H100", hardware=h100)
    with no_profiles():
        return [
            fit(campaigns, h100, latency_model=name, starts=4, skip_bad_rows=True)
            for name in ("roofline-v1", "roofline-v3")
        ]


@pytest.mark.slow
def test_the_model_that_made_the_steps_is_taken(results):
    best, candidates = select_model(results)
    assert best.latency_model == "roofline-v3"
    assert [one.chosen for one in candidates] == [False, True]
    assert candidates[0].held_out == "one model or TP out"
    held_out = results[1].metrics.held_out
    assert candidates[1].error == pytest.approx(
        (held_out["model"]["all"].mape + held_out["tp"]["all"].mape) / 2
    )
    assert candidates[0].why == f"{candidates[0].error / candidates[1].error:.1f} times the error"


def test_a_model_that_leaves_rows_out_is_not_taken_for_its_easier_ones(results):
    fewer = dataclasses.replace(results[1], fit=dataclasses.replace(results[1].fit, n_rows=100))
    best, candidates = select_model([results[0], fewer])
    assert best is results[0]
    assert candidates[1].why == "cannot compute 20 rows that another can"


def test_models_are_compared_by_what_all_of_them_held_out(results):
    def without(result, *kinds):
        held_out = {
            kind: errors for kind, errors in result.metrics.held_out.items() if kind not in kinds
        }
        return dataclasses.replace(
            result, metrics=dataclasses.replace(result.metrics, held_out=held_out)
        )

    assert select_model([without(results[0], "tp"), results[1]])[1][1].held_out == "one model out"
    by_run = select_model([without(one, "tp", "model") for one in results])[1][1]
    assert by_run.held_out == "by run"
    assert by_run.error == results[1].metrics.unseen["all"].mape
    nothing = select_model([without(one, "tp", "model", "folds") for one in results])[1][1]
    assert nothing.error == results[1].metrics.after["all"].mape
    assert nothing.why == "the least error"


@pytest.mark.slow
def test_fit_takes_the_better_model_and_says_why(calibrate, workplace):
    code, out, _ = calibrate(
        "fit", "--gpu", "H100", "--latency-model", "auto", "--starts", 1, "--dry-run", "--json"
    )
    said = json.loads(out)
    assert code == 0
    assert said["latency_model"] == "roofline-v3"
    assert [(one["latency_model"], one["chosen"]) for one in said["candidates"]] == [
        ("roofline-v1", False),
        ("roofline-v3", True),
        ("roofline-v4", False),
    ]


def test_without_any_model_that_computes_a_row_the_error_is_said():
    def refuse(name):
        raise CalibrateError(f"no step row to fit: {name}")

    with pytest.raises(CalibrateError, match="no step row to fit: b"):
        fit_best(refuse, ["a", "b"])


@pytest.mark.slow
def test_a_mixture_of_experts_leaves_one_model(calibrate, workplace, h100):
    steps = synthetic_steps(h100, 60, models=("llama-3.1-8b",)).assign(model="mixtral-8x7b")
    latency = latency_model("roofline-v3").predict_us(StepTable.from_columns(steps), h100)
    write_campaign(workplace / "ground_truth", "H100", steps.assign(latency_us=latency), "mixture")
    arguments = (
        "--campaign",
        "mixture",
        "--latency-model",
        "auto",
        "--starts",
        1,
        "--dry-run",
        "--json",
    )
    code, out, _ = calibrate("fit", "--gpu", "H100", *arguments)
    assert code == 0, out
    said = json.loads(out)
    assert said["latency_model"] == "roofline-v3"
    passed_over = said["candidates"][-1]
    assert (passed_over["latency_model"], passed_over["rows"], passed_over["error"]) == (
        "roofline-v1",
        0,
        None,
    )
    assert "no term for a mixture of experts" in passed_over["why"]
