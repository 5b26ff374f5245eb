"""The command line as a person uses it: what is printed, what is written, and the exit codes."""

import contextlib
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate.job.leftovers import place_run
from sim import StepTable, load_hardware
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import truth_campaign
from tests.conftest import GUIDE_H100, ROOT, WORKPLACE_CONFIG, make_workplace
from tests.faults.children import command, run
from tests.synthetic import synthetic_steps, write_campaign

QUICK = ("--starts", 1, "--cv", 2)


def config_of(folder):
    return json.loads((folder / "hardware_configs/hardware_config.json").read_text())


@pytest.fixture(scope="module")
def fitted_once(made_once):
    """A workplace after a fit of the H100's campaign, and what it printed."""

    def fit_once(folder):
        place = make_workplace(folder / "place")
        with contextlib.chdir(place):
            code = run(command("fit", "--gpu", "h100", "--starts", 2), folder / "said")
        return code, place, (folder / "said").read_text()

    return made_once("fitted workplace", fit_once)


@pytest.fixture
def fitted(fitted_once, tmp_path, monkeypatch):
    """A copy of that workplace, where the test is, and what was printed."""
    code, place, out = fitted_once
    assert code == 0
    shutil.copytree(place, tmp_path / "fitted")
    monkeypatch.chdir(tmp_path / "fitted")
    return tmp_path / "fitted", out


@pytest.fixture
def small(tmp_path, monkeypatch, h100):
    """A workplace whose campaign has forty steps."""
    place = make_workplace(tmp_path / "small", campaign=False)
    hardware = h100.with_values({"mfuPrefill": 0.5, "BwEffConstant": 0.8, "TOverheadMicros": 80.0})
    write_campaign(place / "ground_truth", "H100", synthetic_steps(hardware))
    monkeypatch.chdir(place)
    return place


@pytest.mark.slow
def test_the_main_job_writes_report_and_configuration(fitted):
    workplace, out = fitted
    assert "BwEffConstant" in out
    assert "tp 8" in out
    (run,) = (workplace / "reports/H100").iterdir()
    assert f"{run.relative_to(workplace)}/report.html" in out
    names = {path.name for path in run.iterdir()}
    assert names == {
        "result.json",
        "predictions.csv",
        "report.html",
        "hardware_config.json",
        "plots",
    }
    plots = {path.name for path in (run / "plots").iterdir()}
    assert len(plots) >= 14
    assert {p.removesuffix(".png") for p in plots if p.endswith(".png")} == {
        p.removesuffix(".svg") for p in plots if p.endswith(".svg")
    }
    result = json.loads((run / "result.json").read_text())
    config = config_of(workplace)
    fitted = {p["name"]: p["value"] for p in result["parameters"]}
    assert config["H100"]["BwEffConstant"] == fitted["BwEffConstant"] != GUIDE_H100["BwEffConstant"]
    assert config["Other"] == {"TFlopsPeak": 1.0, "vendorNote": "keep"}
    assert list(config["H100"]) == list(GUIDE_H100)
    assert json.loads((run / "hardware_config.json").read_text()) == config
    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == result["fit"]["n_rows"] == 883
    assert {"measured_us", "before_us", "after_us", "residual", "weight", "held_out_us"} <= set(
        predictions
    )
    after = np.abs(predictions["after_us"] / predictions["measured_us"] - 1).mean()
    assert after == pytest.approx(result["metrics"]["after"]["all"]["mape"], rel=1e-6)


def test_the_result_has_the_documented_schema(small, calibrate):
    code, out, err = calibrate("fit", "--gpu", "H100", "--starts", 1, "--json", "--dry-run")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert {
        "schema_version",
        "command",
        "created",
        "seed",
        "duration_s",
        "gpu",
        "latency_model",
        "software",
    } <= result.keys()
    assert {"calibrate", "python", "numpy", "scipy", "lmfit"} == result["software"].keys()
    assert {"campaign", "table", "rows", "used", "dropped", "sha256"} == result["data"][0].keys()
    fields = {"name", "value", "start", "unit", "lower", "upper", "stderr", "ci90", "status", "why"}
    assert all(fields <= p.keys() for p in result["parameters"])
    assert {
        "status",
        "message",
        "cost",
        "n_rows",
        "n_free",
        "n_evaluations",
        "starts",
        "starts_at_best",
    } <= result["fit"].keys()
    assert {"before", "after", "held_out", "every_row"} == result["metrics"].keys()
    assert {"folds", "model", "tp"} == result["metrics"]["held_out"].keys()
    assert {"n", "mape", "median_ape", "p90_ape", "bias"} == result["metrics"]["after"][
        "phase:prefill"
    ].keys()
    known = {"rank", "n_free", "condition_number", "inert", "groups", "correlations"}
    assert known <= result["identifiability"].keys()
    assert not (small / "reports").exists()
    assert config_of(small)["H100"] == GUIDE_H100


@pytest.mark.usefixtures("one_plot", "no_profiles")
@pytest.mark.slow
def test_a_second_fit_of_the_same_data_changes_nothing_and_succeeds(fitted, calibrate):
    workplace, out = fitted
    assert "held this fit already" not in " ".join(out.split())
    original, first = WORKPLACE_CONFIG, config_of(workplace)
    code, out, _ = calibrate("fit", "--gpu", "H100", "--starts", 2)
    assert code == 0
    said = " ".join(out.split())
    assert "The configuration held this fit already, as the last one wrote it" in said
    assert "its smaller error is on rows that it was fitted to" in said
    assert "worse than" not in out
    assert "worse fit" not in out
    second = config_of(workplace)
    for key, value in first["H100"].items():
        assert second["H100"][key] == pytest.approx(value, rel=1e-3, abs=1e-9)
    kept = [
        json.loads((workplace / f"hardware_configs/hardware_config.json.{name}").read_text())
        for name in ("bak", "previous")
    ]
    assert kept == [original, first]


@pytest.mark.usefixtures("one_plot")
@pytest.mark.slow
def test_a_second_run_knows_the_first_and_can_take_it_as_prior(fitted, calibrate):
    workplace, _ = fitted
    (first,) = (workplace / "reports/H100").iterdir()
    before = json.loads((first / "result.json").read_text())
    assert before["previous"] is None
    assert any(
        line.startswith("-") and '"BwEffConstant": 0.72' in line for line in before["config_diff"]
    )
    code, out, _ = calibrate(
        "fit",
        "--gpu",
        "H100",
        "--starts",
        2,
        "--cv",
        2,
        "--prior",
        first,
        "--bootstrap",
        20,
        "--force",
    )
    assert code == 0
    assert f"Prior: {first.name}" in out
    second = max((workplace / "reports/H100").iterdir(), key=lambda path: path.name)
    after = json.loads((second / "result.json").read_text())
    assert after["previous"]["run"] == first.name
    assert after["previous"]["mape_after"] == before["metrics"]["after"]["all"]["mape"]
    old, new = ({p["name"]: p for p in result["parameters"]} for result in (before, after))
    assert after["previous"]["parameters"]["mfuDecode"] == {
        key: old["mfuDecode"][key] for key in ("value", "ci90")
    }
    assert new["mfuDecode"]["prior"]["mean"] == old["mfuDecode"]["value"]
    assert 0.3 < new["mfuDecode"]["prior"]["pull"] < 0.7
    assert new["mfuDecode"]["ci90_method"] == "profile likelihood"
    assert {"profile likelihood", "sandwich by run", "bootstrap by run"} <= new["mfuDecode"][
        "intervals"
    ].keys()
    assert after["bootstrap"]["samples"] == 20
    assert not list((workplace / "reports/H100").glob(".*"))


def hopeless(workplace):
    """Runs that are each off by a factor of its own, around the very configuration: what a fit learns is noise."""
    slow = {**GUIDE_H100, "BwEffConstant": 0.5, "mfuPrefill": 0.4, "mfuDecode": 0.08}
    (workplace / "hardware_configs/hardware_config.json").write_text(json.dumps({"H100": slow}))
    campaign = truth_campaign(load_hardware({"H100": slow}), seed=1, tps=(1, 2))
    runs = campaign.steps["run_id"].unique()
    factor = dict(
        zip(
            runs,
            np.exp(np.abs(0.5 * np.random.default_rng(1).standard_normal(len(runs)))),
            strict=True,
        )
    )
    steps = campaign.steps.drop(columns="line")
    steps["latency_us"] *= steps["run_id"].map(factor) / np.quantile(list(factor.values()), 0.3)
    shutil.rmtree(workplace / "ground_truth")
    folder = workplace / "ground_truth/H100/noise"
    folder.mkdir(parents=True)
    steps.to_csv(folder / "steps.csv", index=False)


@pytest.mark.usefixtures("one_plot", "no_profiles")
@pytest.mark.slow
def test_a_fit_that_is_worse_on_held_out_rows_is_not_written_unless_forced(workplace, calibrate):
    hopeless(workplace)
    start = config_of(workplace)
    code, _, err = calibrate("fit", "--gpu", "H100", *QUICK)
    assert code == 3, err
    assert "worse than the configuration it started from" in err
    assert "--force" in err
    assert "--latency-model auto" in err
    assert config_of(workplace) == start
    (report,) = (workplace / "reports/H100").glob("2*/report.html")
    assert str(report.relative_to(workplace)) in err
    assert "it was not written to the configuration" in report.read_text()
    assert json.loads((report.parent / "result.json").read_text())["config_diff"] == []
    code, out, _ = calibrate("fit", "--gpu", "H100", *QUICK, "--force")
    assert code == 0
    assert "poor" in out
    assert config_of(workplace) != start


@pytest.mark.usefixtures("one_plot", "no_profiles")
@pytest.mark.slow
def test_a_new_gpu_is_added_from_the_registry_or_from_a_spec(small, calibrate):
    for gpu in ("H200", "MyGPU"):
        shutil.copytree(
            small / "ground_truth/H100/synthetic", small / "ground_truth" / gpu / "copy"
        )
    code, out, _ = calibrate("fit", "--gpu", "H200", *QUICK, "--json")
    result = json.loads(out)
    assert code == 0
    assert any("a block is added" in warning for warning in result["warnings"])
    assert f"{len(result['warnings'])} warnings below." in result["verdict"]["reasons"]
    code, _, err = calibrate("fit", "--gpu", "MyGPU", *QUICK)
    assert code == 1
    assert "--spec TFlopsPeak" in err
    assert (
        calibrate(
            "fit",
            "--gpu",
            "MyGPU",
            *QUICK,
            "--spec",
            "TFlopsPeak=1200",
            "--spec",
            "bwpeaktbs=4",
        )[0]
        == 0
    )
    config = config_of(small)
    assert list(config) == ["H100", "Other", "H200", "MyGPU"]
    assert config["H200"]["BwPeakTBs"] == 4.8
    assert (config["MyGPU"]["TFlopsPeak"], config["MyGPU"]["BwPeakTBs"]) == (1200, 4)
    assert set(GUIDE_H100) <= config["MyGPU"].keys()


def test_predict_adds_a_column(workplace, calibrate):
    steps = workplace / "ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv"
    without = workplace / "steps.csv"
    pd.read_csv(steps).drop(columns="latency_us").to_csv(without, index=False)
    code, out, _ = calibrate("predict", without, "--gpu", "H100", "-o", "predicted.csv")
    assert (code, out) == (0, "")
    predicted = pd.read_csv(workplace / "predicted.csv")
    expected = RooflineV1().predict_us(
        StepTable.from_columns(pd.read_csv(steps)), load_hardware({"H100": GUIDE_H100})
    )
    np.testing.assert_allclose(predicted["predicted_us"], expected, rtol=1e-12)
    assert list(predicted)[:-1] == list(pd.read_csv(without))
    assert (
        calibrate("predict", without, "--gpu", "H100")[1]
        == (workplace / "predicted.csv").read_text()
    )


def test_predict_takes_a_campaigns_own_table(workplace, calibrate):
    steps = workplace / "ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv"
    code, out, _ = calibrate("predict", steps, "--gpu", "H100")
    assert code == 0
    assert out.splitlines()[0].endswith("latency_us,run_id,predicted_us")
    assert len(out.splitlines()) == 884


@pytest.mark.slow
def test_an_80_column_terminal_cuts_nothing(workplace, calibrate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(ROOT / "ground_truth/L40S", workplace / "ground_truth/L40S")
    code, out, _ = calibrate("fit", "--gpu", "L40S", *QUICK, "--dry-run", "--force")
    assert code == 0
    assert "at-bound" in out
    assert "mixedPrefillOverheadMicros " in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_version_is_told(calibrate):
    code, out, _ = calibrate("--version")
    assert code == 0
    assert out.startswith("calibrate 0.")


def test_fits_that_end_in_the_same_second_get_folders_of_their_own(tmp_path):
    drawn = [tmp_path / name for name in ("a", "b", "c")]
    for folder in drawn:
        folder.mkdir()
        (folder / "result.json").touch()
    names = {place_run(folder, tmp_path, "2026-11-20T22:00:00+00:00").name for folder in drawn}
    assert names == {"20261120-220000", "20261120-220000-2", "20261120-220000-3"}


@pytest.mark.usefixtures("one_plot", "no_profiles")
@pytest.mark.slow
def test_report_draws_the_same_page_again(small, calibrate):
    calibrate("fit", "--gpu", "H100", "--starts", 1)
    (run,) = (small / "reports/H100").iterdir()
    page = (run / "report.html").read_text()
    (run / "report.html").unlink()
    assert calibrate("report", run)[0] == 0
    assert (run / "report.html").read_text() == page
    assert 100_000 < len(page) < 5_000_000
    outside_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "http" not in outside_scripts.replace("http-equiv", "")
    headings = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", outside_scripts)
    assert headings[0].startswith("Verdict")
    wanted = (
        "parameter",
        "errors by slice",
        "explorer",
        "worst",
        "regimes",
        "form",
        "tell apart",
        "provenance",
    )
    order = [next(i for i, h in enumerate(headings) if word in h.lower()) for word in wanted]
    assert order == sorted(order)


def test_compare_puts_runs_and_configurations_side_by_side(fitted, calibrate):
    workplace, _ = fitted
    before = workplace / "before.json"
    before.write_text(json.dumps(WORKPLACE_CONFIG))
    (run,) = (workplace / "reports/H100").iterdir()
    code, out, _ = calibrate(
        "compare", before, "hardware_configs/hardware_config.json", "--gpu", "H100", "--json"
    )
    values = {p["name"]: (p["a"], p["b"]) for p in json.loads(out)["parameters"]}
    assert code == 0
    assert values["mfuPrefill"] == (0.65, config_of(workplace)["H100"]["mfuPrefill"])
    code, out, _ = calibrate("compare", run, run)
    assert code == 0
    assert "held out folds" in out


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("gpus", "A100-SXM"),
        ("models", "llama-3.1-8b"),
        ("parameters", "BwEffConstant"),
        ("formats", "aiconfigurator"),
    ],
)
def test_show_lists_what_there_is(calibrate, topic, expected):
    code, out, _ = calibrate("show", topic)
    assert code == 0
    assert expected in out


@pytest.mark.usefixtures("one_plot", "no_profiles")
def test_hostile_names_are_escaped_in_report_and_terminal(small, calibrate):
    name = "<script>alert(1)<b>"
    (small / "ground_truth" / name).mkdir()
    sizes = {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    (small / "ground_truth" / name / "config.json").write_text(
        json.dumps({**sizes, "intermediate_size": 14336})
    )
    folder = small / "ground_truth/H100/synthetic"
    steps = pd.read_csv(folder / "steps.csv")
    steps["model"] = steps["model"].replace("llama-3.1-8b", f"../../{name}")
    steps["run_id"] = "[red]$x_1$ " + steps["run_id"]
    steps.to_csv(folder / "steps.csv", index=False)
    code, out, err = calibrate("fit", "--gpu", "H100", "--starts", 1)
    assert (code, err) == (0, "")
    assert "<script>alert(1)<b>" in out.replace("\n", "")
    (run,) = (small / "reports/H100").iterdir()
    page = (run / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit",),
        ("fit", "--gpu"),
        ("nonsense",),
        ("fit", "--gpu", "H100", "--starts", "none"),
        ("show", "cars"),
    ],
)
def test_wrong_usage_exits_with_2(workplace, calibrate, arguments):
    code, out, err = calibrate(*arguments)
    assert code == 2
    assert "Traceback" not in out + err


def test_help_names_every_command(calibrate):
    code, out, _ = calibrate("--help")
    assert code == 0
    for name in ("fit", "predict", "validate", "import", "report", "compare", "show"):
        assert f" {name} " in out
