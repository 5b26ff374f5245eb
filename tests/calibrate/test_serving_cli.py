"""``calibrate fit`` with serving results: beside steps, alone, with kernels; what is written, and what is refused."""

import json
import shutil

import pandas as pd
import pytest

from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Normal
from sim.serving.workload import Stage
from tests.conftest import CAMPAIGN
from tests.synthetic import serving_row, synthetic_steps, write_campaign

pytestmark = pytest.mark.usefixtures("one_plot", "no_profiles")

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
V3 = latency_model("roofline-v3")
TRUTH = {"layerMicros": 38.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0}
MODELS = ("llama-3.1-8b", "llama-2-13b")


def served(values, models=MODELS):
    workload = Workload(1000, Stage(16.0), Normal(300, 60, 1), Normal(40, 10, 2))
    rows = [
        serving_row(H100.with_values(values), V3, name, 1, workload, 50, run_id=name)
        for name in models
    ]
    return pd.DataFrame(rows).filter(regex="^(?!.*_ms_p)")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a configuration of two peaks and no campaign yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}})
    )
    return tmp_path


@pytest.fixture
def fit(calibrate):
    """Run ``calibrate fit`` with roofline-v3."""

    def run(*options):
        common = (
            "--latency-model",
            "roofline-v3",
            "--hardware-config",
            "config.json",
            "--starts",
            "1",
        )
        return calibrate("fit", "--gpu", "H100", *common, *options)

    return run


def composed_steps(place, **values):
    guided = H100.with_values({"BwEffConstant": 1.0, "mfuPrefill": 1.0, "mfuDecode": 1.0, **values})
    steps = synthetic_steps(guided, 48, models=MODELS[:1], tps=(1, 2), model=V3, noise=0.002)
    return write_campaign(
        place / "ground_truth", "H100", steps, "kernels", {"kind": "kernel-composed"}
    )


@pytest.mark.slow
def test_steps_and_then_serving_make_a_configuration_that_simulate_uses(place, fit, calibrate):
    composed_steps(place, layerMicros=25.0)
    write_campaign(place / "ground_truth", "H100", served(TRUTH), "server", table="serving")
    code, said, error = fit("--serving")
    assert (code, error) == (0, "")
    assert "Tuned to 2 serving runs" in said
    assert "one model out" in said
    block = json.loads((place / "config.json").read_text())["H100"]
    assert block["layerMicros"] == pytest.approx(38.0, rel=0.1)
    assert block["apiMicros"] == pytest.approx(5000.0, rel=0.25)
    tuned = {name: block[name] for name in ("layerMicros", "prefillLayerMicros", "apiMicros")}
    (models,) = [block["engines"]["vllm"].pop("models")]
    assert block["engines"] == {"vllm": tuned}
    assert models == ["llama-2-13b", "llama-3.1-8b"]
    asked = (
        "--model",
        "llama-3.1-8b",
        "--gpu",
        "H100",
        "--workload",
        "distribution",
        "--prompt-tokens",
        300,
    )
    asked += (
        "--output-tokens",
        4,
        "--rate",
        0.5,
        "--num-requests",
        5,
        "--arrivals",
        "constant",
        "--json",
    )
    common = ("--latency-model", "roofline-v3", "--hardware-config", "config.json")
    with_api, without = (
        json.loads(calibrate("simulate", *asked, *common, *more)[1])["ttft_ms"]["mean"]
        for more in ((), ("--api-us", 0))
    )
    assert with_api - without == pytest.approx(block["apiMicros"] / 1e3)


def test_serving_alone_says_so_and_a_dry_run_writes_nothing(place, fit):
    write_campaign(place / "ground_truth", "H100", served(TRUTH), "server", table="serving")
    before = (place / "config.json").read_text()
    code, said, _ = fit("--dry-run", "--json")
    result = json.loads(said)
    assert code == 0
    assert result["metrics"]["after"] == {}
    assert {one["name"] for one in result["serving"]["tuned"]} == set(TRUTH)
    assert result["serving"]["held_out"]["model"]["ttft"]["all"]["n"] == 2
    assert (place / "config.json").read_text() == before
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "ground_truth"]


def test_device_parameters_come_from_kernels_where_there_are_no_steps(place, fit):
    folder = place / "ground_truth/H100/kernels"
    folder.mkdir(parents=True)
    for name in ("gemm.csv", "campaign.toml"):
        shutil.copy(CAMPAIGN / name, folder)
    write_campaign(
        place / "ground_truth", "H100", served(TRUTH, MODELS[:1]), "server", table="serving"
    )
    code, said, _ = fit("--dry-run", "--json")
    held = {one["name"]: one for one in json.loads(said)["parameters"]}
    assert code == 0
    assert held["gemmMfu"]["why"] == "there are no steps to fit it to: taken from the kernels"
    assert 0.7 < held["gemmMfu"]["value"] < 0.8 < held["gemmMfu"]["start"]
    assert held["kvBwFraction"]["why"] == "there are no steps to fit it to"


def test_a_time_around_the_engine_can_be_fixed(place, fit):
    composed_steps(place, layerMicros=25.0)
    write_campaign(
        place / "ground_truth", "H100", served(TRUTH, MODELS[:1]), "server", table="serving"
    )
    code, said, error = fit("--serving", "--fix", "apiMicros=5000", "--dry-run", "--json")
    assert (code, error) == (0, "")
    parameters = {one["name"]: one for one in json.loads(said)["parameters"]}
    assert code == 0
    assert (parameters["apiMicros"]["value"], parameters["apiMicros"]["why"]) == (
        5000.0,
        "fixed by name",
    )
    assert parameters["prefillLayerMicros"]["value"] == pytest.approx(60.0, rel=0.2)


def test_a_time_around_the_engine_without_serving_is_refused(place, fit):
    composed_steps(place)
    code, _, error = fit("--fix", "apiMicros=5000")
    assert code == 1
    assert "apiMicros: a time around the engine, which no step shows" in error


def test_serving_without_a_serving_row_is_refused(place, fit):
    composed_steps(place)
    code, _, error = fit("--serving", "--dry-run")
    assert code == 1
    assert "no serving row to fit to" in error


def test_a_fit_that_serving_makes_worse_exits_3_and_writes_nothing(place, fit):
    """Each model's server contradicts the other's, so that what one teaches makes the other worse than no fit."""
    composed_steps(place)
    config = json.dumps({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, **TRUTH}})
    (place / "config.json").write_text(config)
    rows = served(TRUTH)
    rows["ttft_ms_mean"] *= [1.5, 0.65]
    write_campaign(place / "ground_truth", "H100", rows, "server", table="serving")
    code, _, error = fit("--serving", "--fix", "layerMicros")
    assert code == 3
    assert "predicted worse than with nothing tuned to serving" in error
    assert (place / "config.json").read_text() == config


def itl_ms(calibrate, *options):
    code, stdout, stderr = calibrate(
        *("simulate", "--gpu", "H100", "--model", "llama-3.1-8b", "--latency-model", "roofline-v3"),
        *("--concurrency", "1", "--num-requests", "5", "--prompt-tokens", "100"),
        *("--output-tokens", "20", "--json", *options),
    )
    assert code == 0, stderr
    return json.loads(stdout)["itl_ms"]["mean"]


def test_an_engine_is_chosen_by_its_name(calibrate):
    """vLLM's sampler takes 160 µs a step and 0.19 µs a thousand of 128,256 logits; each of 32 layers 6 µs more."""
    plain = itl_ms(calibrate)
    greedy = itl_ms(calibrate, "--engine", "vllm", "--greedy")
    assert greedy - plain == pytest.approx(32 * 0.006)
    sampler = 0.160 + 0.19e-3 * 128.256
    assert itl_ms(calibrate, "--engine", "vllm") - greedy == pytest.approx(sampler)
    assert itl_ms(calibrate, "--engine", "vllm", "--top-p", "1") == pytest.approx(greedy)
    assert itl_ms(calibrate, "--engine", "tensorrt-llm") == pytest.approx(plain)


def test_an_engine_that_is_not_known_is_an_error(calibrate):
    code, _, stderr = calibrate(
        "simulate", "--gpu", "H100", "--model", "llama-3.1-8b", "--engine", "vlm"
    )
    assert code == 1
    assert "no engine 'vlm' (known: vllm, sglang, tensorrt-llm)" in stderr
    assert "did you mean 'vllm'?" in stderr


def test_an_engine_without_serving_results_to_fit_to_is_refused(place, fit):
    composed_steps(place, layerMicros=25.0)
    code, _, error = fit("--engine", "vllm", "--no-serving")
    assert code == 1
    assert "--engine chooses among serving results: leave out --no-serving" in error
