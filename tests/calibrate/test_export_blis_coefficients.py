"""BLIS's coefficient sets: known constants are found again, all rules are kept, and only what is known is filled."""

import copy
import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from calibrate.campaign.campaign import load_campaigns
from calibrate.exporters import blis_coefficients, export
from calibrate.exporters.blis_laws import all_reduce, attention_decode, gemm
from calibrate.exporters.blis_rules import problems
from calibrate.exporters.blis_scenario import REGISTRY_SETS
from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import Serving
from calibrate.job.calibration import fit
from calibrate.records.errors import CalibrateError
from calibrate.serving.summary import Tuned
from sim import load_hardware
from sim.hardware import Hardware
from tests.conftest import GUIDE_H100, ROOT
from tests.synthetic import synthetic_steps, write_campaign

CAMPAIGN = "aiconfigurator-vllm-0.24.0"
SETS = ("primitives", "attention", "collectives")


@pytest.fixture(scope="module")
def source():
    hardware = load_hardware({"H100": GUIDE_H100}, gpu="H100")
    serving = Serving(("llama-3.1-8b",), (2,))
    return Source(hardware, ROOT / "ground_truth", (CAMPAIGN,), serving=serving)


@pytest.fixture(scope="module")
def exported(source):
    return export("blis-coefficients", source)


def entries_of(exported, name):
    content = yaml.safe_load(exported.text[f"registry/coefficients/calibrate-h100-{name}.yaml"])
    return {key: fields for entry in content["coefficients"] for key, fields in entry.items()}


def test_a_ramp_of_matrix_products_is_found_again():
    m = np.array([1, 8, 64, 256, 1024, 8192])
    efficiency = 0.8 * m / (m + 150.0)
    rows = pd.DataFrame({"m": m, "n": 4096, "k": 4096, "dtype": "bf16"})
    rows["latency_us"] = 2.0 * m * 4096 * 4096 / (efficiency * 989.5e6)
    slower = rows.assign(latency_us=rows["latency_us"] * 3.0)
    eps, half = gemm(pd.concat([rows, slower, rows.assign(dtype="fp8")]), 989.5)
    assert (eps.value, half.value) == pytest.approx((0.8, 150.0), rel=1e-4)
    assert eps.error < 1e-4
    assert gemm(rows[:3], 989.5) is None
    assert gemm(rows.assign(dtype="fp8"), 989.5) is None


def test_floor_and_rate_of_attention_are_found_again_on_a_ranks_heads():
    rows = pd.DataFrame({"batch_size": [1, 8, 64, 64, 128, 256], "kv_len": 4096, "tp": [1, 2] * 3})
    rows = rows.assign(num_kv_heads=8, head_dim=128, num_heads=32, dtype="bf16", kv_dtype="bf16")
    kv_bytes = 4.0 * rows["batch_size"] * 4096 * (8 / rows["tp"]) * 128
    rows["latency_us"] = 11.0 + kv_bytes / 2.4e6
    floor, rate = attention_decode(rows)
    assert (floor.value, rate.value) == pytest.approx((11.0, 2.4e6), rel=1e-4)


def test_the_constants_of_an_all_reduce_are_found_again():
    size = np.array([256.0, 4096, 65536, 1 << 20, 1 << 24, 1 << 28])
    times = np.maximum(5.0 + size / 2e5, size / 3e5)
    rows = pd.DataFrame({"tp": 4, "bytes": size, "dtype": "bf16", "latency_us": times})
    floor, transition, peak = all_reduce(rows, 4)
    assert floor.value == pytest.approx(5.0, rel=1e-3)
    assert transition.value == pytest.approx(2e5, rel=1e-2)
    assert peak.value == (size / times).max()
    assert all_reduce(rows, 8) is None


def test_every_file_of_sets_keeps_the_rules(exported):
    files = [name for name in exported.text if name.startswith("registry/")]
    assert files == [f"registry/coefficients/calibrate-h100-{name}.yaml" for name in SETS]
    for name in files:
        assert problems(yaml.safe_load(exported.text[name])) == []


def test_the_shipped_tables_fill_laws_with_intervals_and_errors(exported):
    primitives = entries_of(exported, "primitives")
    eps = primitives["gemm_eps_max_bf16"]
    assert eps["ci95"][0] < eps["value"] <= 1.0
    assert f"{CAMPAIGN}/gemm.csv" in eps["sources"][0]["cite"]
    assert "mean error" in eps["rationale"]
    attention = entries_of(exported, "attention")
    assert attention["attention_decode_rate"]["value"] < 3.35e6
    collectives = entries_of(exported, "collectives")
    names = [f"collective_floor_all_reduce_fp16_{n}rank_h100" for n in (2, 4, 8)]
    assert [collectives[name]["value"] for name in names] == sorted(
        collectives[name]["value"] for name in names
    )
    for ranks in (2, 4, 8):
        rates = [
            collectives[f"collective_{kind}_rate_all_reduce_fp16_{ranks}rank_h100"]["value"]
            for kind in ("transition", "peak")
        ]
        assert rates[0] <= rates[1] < 450e3


def test_a_value_without_a_run_is_no_more_than_assumed(exported):
    derate = entries_of(exported, "primitives")["hbm_derate"]
    assert (derate["value"], derate["method"], derate["fitted"]) == (0.72, "assumed", False)
    assert "sources" not in derate


def test_chip_scenario_and_deployment_go_with_the_sets(exported):
    chip = yaml.safe_load(exported.text["catalog/hardware/h100.yaml"])
    assert chip["Provenance"] == "vendor_spec"
    assert (chip["TFlopsPeak"], chip["IntraNodeBwGBps"]) == (989.5, 450.0)
    scenario = yaml.safe_load(exported.text["scenarios/llama-3.1-8b-instruct-on-h100.yaml"])
    assert scenario["kind"] == "Scenario"
    assert scenario["coefficients"][:6] == list(REGISTRY_SETS)
    assert scenario["coefficients"][6:] == [f"calibrate-h100-{name}" for name in SETS]
    deployment = yaml.safe_load(exported.text["scenarios/deployments/tp2.yaml"])
    assert deployment["pools"][0]["parallel"] == {"tp": 2, "pp": 1, "dp": 1}


def test_what_is_left_to_the_registry_is_named(exported, source):
    said = " ".join(exported.notes)
    assert all(name in said for name in blis_coefficients.LEFT_TO_THE_REGISTRY)
    nameless = dataclasses.replace(source, serving=Serving())
    assert "No scenario: name a model" in export("blis-coefficients", nameless).notes[-1]
    other = dataclasses.replace(source, serving=Serving(("yi-6b",)))
    assert "the catalog has no yi-6b" in export("blis-coefficients", other).notes[-1]


def test_a_run_gives_measured_values_with_intervals_of_95_percent(tmp_path, h100):
    write_campaign(tmp_path, "H100", synthetic_steps(h100, 48, noise=0.02), "steps")
    run = fit(load_campaigns(tmp_path, "H100", ["steps"]), h100, starts=1, cv=("2",))
    fitted = next(one for one in run.parameters if one.name == "BwEffConstant")
    assert fitted.ci90
    hardware = Hardware("H100", {**run.peaks, **run.values}, "a run")
    exported = export("blis-coefficients", Source(hardware, tmp_path / "none", (), run))
    derate = entries_of(exported, "primitives")["hbm_derate"]
    assert (derate["method"], derate["fitted"]) == ("measured", True)
    low, high = derate["ci95"]
    assert low < fitted.ci90[0] < fitted.ci90[1] < high
    assert "a run" in derate["sources"][0]["cite"]


def test_times_of_requests_fitted_to_serving_are_host_overheads(tmp_path, h100):
    write_campaign(tmp_path, "H100", synthetic_steps(h100, 48, noise=0.02), "steps")
    run = fit(load_campaigns(tmp_path, "H100", ["steps"]), h100, starts=1, cv=("2",))
    tuned = Tuned("apiOutputTokenMicros", 0.0, 40.0, "µs/token", 2.0, (36.0, 44.0))
    served = dataclasses.replace(run, serving=_served(tuned))
    hardware = Hardware("H100", {**run.peaks, **run.values, "apiOutputTokenMicros": 40.0}, "a run")
    exported = export("blis-coefficients", Source(hardware, tmp_path / "none", (), served))
    found = entries_of(exported, "host-overheads")["host_output_token"]
    assert (found["value"], found["units"], found["method"]) == (40.0, "us_per_token", "measured")
    assert found["ci95"][0] < 36.0 < 44.0 < found["ci95"][1]


def _served(tuned):
    """As much of a fit to serving results as is read of it."""

    class Served:
        def __init__(self):
            self.tuned = (tuned,)

    return Served()


def test_nothing_to_fill_is_refused(tmp_path):
    bare = Source(Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}), tmp_path / "none")
    with pytest.raises(CalibrateError, match=r"nothing to fill: .*gemm\.csv"):
        export("blis-coefficients", bare)


def test_a_campaign_with_one_table_fills_what_that_shows(tmp_path):
    folder = tmp_path / "H100/one"
    shutil.copytree(ROOT / "ground_truth/H100" / CAMPAIGN, folder)
    for name in ("gemm.csv", "attention_decode.csv", "attention_prefill.csv", "steps.csv"):
        (folder / name).unlink()
    bare = Source(Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}), tmp_path)
    files = export("blis-coefficients", bare).text
    assert [name for name in files if name.startswith("registry")] == [
        "registry/coefficients/calibrate-h100-collectives.yaml"
    ]


GOOD = {
    "kind": "CoefficientSet",
    "name": "one",
    "coefficients": [
        {
            "hbm_derate": {
                "value": 0.8,
                "units": "dimensionless",
                "method": "measured",
                "fitted": True,
                "scope": {"hardware": ["h100"]},
                "sources": [{"kind": "model", "cite": "a file", "role": "primary"}],
                "ci95": [0.7, 0.9],
            }
        }
    ],
}


def damaged(**changes):
    content = copy.deepcopy(GOOD)
    content["coefficients"][0]["hbm_derate"].update(changes)
    return content


def test_a_sound_set_has_no_problem():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "named fields"),
        ({**GOOD, "extra": 1}, "unknown key extra"),
        ({**GOOD, "kind": "Set"}, "kind must be"),
        ({**GOOD, "name": ""}, "name is missing"),
        ({**GOOD, "coefficients": []}, "must be a list"),
        ({**GOOD, "coefficients": [{"a": 1, "b": 2}]}, "one key"),
        ({**GOOD, "coefficients": GOOD["coefficients"] * 2}, "stands twice"),
        (damaged(speed=1), "unknown key speed"),
        (damaged(value=float("nan")), "finite number"),
        (damaged(value=0), "only not_charged"),
        (damaged(value=0.95), "ci95"),
        (damaged(ci95=[0.7]), "ci95"),
        (damaged(units="us"), "units 'us'"),
        (damaged(method="fitted"), "method 'fitted'"),
        (damaged(method="vendor_spec"), "fitted: true requires"),
        (damaged(method="assumed", fitted=False, rationale="short"), "substantial"),
        (damaged(method="copied", fitted=False, rationale="x"), "copied_from"),
        (damaged(fitted="yes"), "true or false"),
        (damaged(sources=[]), "requires sources"),
        (damaged(sources=[{"kind": "model", "cite": "x"}]), "kind, cite and role"),
        (damaged(sources=[{"kind": "log", "cite": "x", "role": "primary"}]), "vocabulary"),
        (damaged(sources=[{"kind": "model", "cite": "", "role": "primary"}]), "cite something"),
        (damaged(scope={}), "at least one dimension"),
        (damaged(scope={"gpu": ["h100"]}), "unknown scope key gpu"),
        (damaged(scope={"hardware": []}), "scope hardware is empty"),
    ],
)
def test_every_rule_of_the_format_is_told(content, words):
    assert any(words in problem for problem in problems(content))


def test_a_scope_is_the_same_in_any_order():
    content = copy.deepcopy(GOOD)
    for hardware in (["h100", "h200"], ["h200", "h100"]):
        entry = copy.deepcopy(GOOD["coefficients"][0])
        entry["hbm_derate"]["scope"] = {"hardware": hardware}
        content["coefficients"].append(entry)
    assert problems(content) == ["hbm_derate: stands twice for the same scope"]
