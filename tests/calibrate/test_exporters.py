"""Exports: read back they are the same GPU; fitted to another model they find a known truth and say their error."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from calibrate.campaign.campaign import load_campaigns
from calibrate.cli import main
from calibrate.exporters import (
    EXPORTERS,
    aiconfigurator,
    blis_trained_physics,
    export,
    genz,
    llm_optimizer,
    own_json,
    write_exported,
)
from calibrate.exporters.blis import fit_efficiencies
from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.step_times import Serving
from calibrate.fitting.objective import build_dataset
from calibrate.job.calibration import fit
from calibrate.outcome.result_json import dump_json
from calibrate.records.errors import CalibrateError, CampaignError, ImportFormatError
from calibrate.trust.crossval import splits
from calibrate.trust.metrics import errors
from sim import StepTable, latency_model, load_hardware, load_mfu_table
from sim.errors import HardwareError
from sim.hardware import Hardware
from sim.models.blis.roofline import BlisRoofline
from sim.models.blis.trained_physics import BETAS, basis_us
from tests.conftest import DATA, GUIDE_H100, ROOT
from tests.synthetic import synthetic_steps, write_campaign

CAMPAIGN = ROOT / "ground_truth/H100/aiconfigurator-vllm-0.24.0"
NODE = {"InterNodeBwGBps": 50.0}
FITTED = ("blis", "blis-trained-physics")
SERVED = (
    *("aisimulate", "dynamo-planner", "sglang-simulator", "llm-d-inference-sim", "autoscaler"),
    *("vidur", "llmservingsim"),
)


@pytest.fixture(scope="module")
def source():
    """The guide's H100 and the shipped campaign."""
    return Source(load_hardware({"H100": GUIDE_H100}, gpu="H100"), ROOT / "ground_truth")


@pytest.fixture(scope="module")
def exported(source):
    """Every format, made once."""
    named = dataclasses.replace(source, serving=Serving(("llama-3.1-8b",)))
    return {name: export(name, named) for name in EXPORTERS}


def measured_as(tmp_path, predict, hardware, rows, **options):
    """The data of steps that take what ``predict`` says of them, be that faster than physics."""
    steps = synthetic_steps(hardware, rows, **options)
    steps["latency_us"] = predict(StepTable.from_columns(steps))
    write_campaign(tmp_path, "H100", steps)
    return build_dataset(load_campaigns(tmp_path, "H100"))


def test_blis_v1_read_back_predicts_the_same(tmp_path, source, exported):
    path = tmp_path / "hardware_config.json"
    write_exported(exported["blis-v1"], path)
    model = latency_model("roofline-v1")
    table = source.data.table
    again = model.predict_us(table, load_hardware(path, "H100"))
    np.testing.assert_allclose(again, model.predict_us(table, source.hardware), rtol=1e-6)
    assert list(json.loads(path.read_text())["H100"]) == ["_comment", *GUIDE_H100]


def test_blis_v1_writes_defaults_out_and_a_key_in_the_usual_case(source):
    few = {
        "tflopspeak": 100,
        "BwPeakTBs": 1,
        "BwEffConstant": 0.7,
        "MfuPrefill": 0.6,
        "mfuDecode": 0.1,
    }
    made = json.loads(export("blis-v1", Source(load_hardware(few, "X"))).text)["X"]
    assert list(made) == ["_comment", *GUIDE_H100]
    assert made["mfuPrefill"] == 0.6
    assert made["allReduceLatency"] == 20.0


@pytest.mark.parametrize(("name", "kept"), [("blis-v2", True), ("blis-minimal", False)])
def test_the_files_for_a_database_predict_what_roofline_v2_does(
    tmp_path, source, exported, name, kept
):
    path = tmp_path / "hardware_config.json"
    write_exported(exported[name], path)
    model = latency_model(
        "roofline-v2", mfu_table=load_mfu_table(DATA / "mfu_database", gpu="x100")
    )
    four = {
        k: v for k, v in GUIDE_H100.items() if re.search(r"(?i)Micros$|PeakT|TFlops|allReduce", k)
    }
    truth = four if kept else {key: GUIDE_H100[key] for key in ("TFlopsPeak", "BwPeakTBs")}
    table = source.data.table
    again = model.predict_us(table, load_hardware(path, "H100"))
    np.testing.assert_allclose(again, model.predict_us(table, Hardware("H100", truth)), rtol=1e-6)
    comment, *keys = json.loads(path.read_text())["H100"]
    assert comment == "_comment"
    assert len(keys) == (6 if kept else 2)
    assert all(key[0].isupper() for key in keys)


def test_blis_finds_the_efficiencies_that_made_the_steps(tmp_path, h100):
    truth = h100.with_values({"mfuPrefill": 0.47, "mfuDecode": 0.011})
    data = measured_as(tmp_path, lambda table: BlisRoofline().predict_us(table, truth), h100, 200)
    fitted, said = fit_efficiencies(h100, data)
    assert fitted.values["mfuPrefill"] == pytest.approx(0.47, rel=1e-4)
    assert fitted.values["mfuDecode"] == pytest.approx(0.011, rel=1e-4)
    assert "mean error 0.0%; left out by run 0.0%" in said[0]


def test_blis_says_so_where_memory_bounds_every_decode_step(tmp_path, h100):
    truth = h100.with_values({"mfuPrefill": 0.47, "mfuDecode": 0.9})
    phases = ("prefill", "decode")
    data = measured_as(
        tmp_path, lambda table: BlisRoofline().predict_us(table, truth), h100, 100, phases=phases
    )
    fitted, said = fit_efficiencies(h100, data)
    assert fitted.values["mfuPrefill"] == pytest.approx(0.47, rel=1e-3)
    assert any("No step shows mfuDecode" in text for text in said)


def test_blis_writes_only_what_its_strict_parser_knows_and_both_node_bandwidths_or_none(
    source, exported
):
    allowed = {"TFlopsPeak", "TFlopsFP8", "BwPeakTBs", "mfuPrefill", "mfuDecode", "MemoryGiB"}
    assert set(json.loads(exported["blis"].text)["H100"]) == {*allowed, "_comment"}
    assert any("go together" in note for note in exported["blis"].notes)
    both = Source(source.hardware.with_values(NODE), source.ground_truth)
    block = json.loads(export("blis", both).text)["H100"]
    assert set(block) == {*allowed, "_comment", "IntraNodeBwGBps", "InterNodeBwGBps"}


def test_blis_states_the_error_it_has_on_these_steps(tmp_path, source, exported):
    path = tmp_path / "hardware_config.json"
    write_exported(exported["blis"], path)
    predicted = BlisRoofline().predict_us(source.data.table, load_hardware(path, "H100"))
    error = errors(predicted, source.data.measured_us).mape
    assert f"mean error {error:.1%}" in json.loads(path.read_text())["H100"]["_comment"]
    copied = errors(
        BlisRoofline().predict_us(source.data.table, source.peaks), source.data.measured_us
    ).mape
    assert f"{copied:.1%}" in exported["blis"].notes[1]
    assert error < copied


def test_trained_physics_finds_the_coefficients_that_made_the_steps(tmp_path, h100):
    truth = np.array([1.3, 0.4, 1.1, 7.0, 30.0, 4.0, 120.0, 0.0, 0.2, 1.5])
    data = measured_as(tmp_path, lambda table: basis_us(table, h100) @ truth, h100, 400)
    found = blis_trained_physics.fit_betas(basis_us(data.table, h100), data)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)


def test_trained_physics_read_back_predicts_with_the_error_it_states(source, exported):
    text = exported["blis-trained-physics"].text
    block = yaml.safe_load(text)["trained_physics_coefficients"]
    assert len(block["alpha_coeffs"]) == 3
    assert len(block["beta_coeffs"]) == len(BETAS) == 10
    assert min(block["beta_coeffs"]) >= 0
    predicted = blis_trained_physics.predict_us(
        blis_trained_physics.read(text), source.data, source.peaks
    )
    assert f"mean error {errors(predicted, source.data.measured_us).mape:.1%}" in text


def test_trained_physics_holds_out_by_folds_of_runs(source, exported):
    data = source.data
    held = re.search(r"by run ([\d.]+)%", exported["blis-trained-physics"].text)
    basis = basis_us(data.table, source.peaks)
    folds = splits(data, 0)[0]
    predicted = np.empty(len(data))
    for label in np.unique(folds.labels):
        out = folds.labels == label
        predicted[out] = basis[out] @ blis_trained_physics.fit_betas(basis, data, ~out)
    assert float(held[1]) == pytest.approx(100 * errors(predicted, data.measured_us).mape, abs=0.06)


def test_trained_physics_leaves_out_what_the_simulator_refuses(tmp_path, h100):
    steps = synthetic_steps(h100, 60, models=("llama-3.1-8b",), tps=(1, 2))
    steps.loc[::5, "model"] = "mixtral-8x7b"
    steps.loc[1::5, "tp"] = 16
    steps["latency_us"] *= 20
    write_campaign(tmp_path, "H100", steps)
    notes = export("blis-trained-physics", Source(h100, tmp_path)).notes
    assert "on 36 steps" in notes[0]
    assert any("mixture of experts" in note and "12 rows" in note for note in notes)
    assert any("multiples of tp 16: 12 rows" in note for note in notes)


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_format_needs_good_steps(tmp_path, h100, name):
    with pytest.raises(CalibrateError, match="no such ground-truth folder"):
        export(name, Source(h100, tmp_path / "none"))
    steps = synthetic_steps(h100, 24)
    steps.loc[0, "latency_us"] = -1.0
    write_campaign(tmp_path, "H100", steps)
    with pytest.raises(CampaignError, match="must be a positive number"):
        export(name, Source(h100, tmp_path))


EFFECTIVE = {"MemoryGiB": 80.0, "IntraNodeBwGBps": 450.0}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            aiconfigurator,
            {
                "TFlopsPeak": 989.5,
                "BwPeakTBs": 3.35,
                "BwEffConstant": 0.72,
                "InterNodeBwGBps": 50.0,
                **EFFECTIVE,
            },
        ),
        (
            genz,
            {
                "TFlopsPeak": 989.5 * 0.65,
                "BwPeakTBs": 3.35 * 0.72,
                "allReduceLatency": 20.0,
                **EFFECTIVE,
            },
        ),
        (
            llm_optimizer,
            {
                "TFlopsPeak": 989.5,
                "TFlopsFP8": 1979.0,
                "BwPeakTBs": 3.35 * 0.72,
                "mfuPrefill": 0.65,
                "mfuDecode": 0.12,
                "MemoryGiB": 80.0,
            },
        ),
        (own_json, GUIDE_H100),
    ],
)
def test_what_is_read_back_is_what_was_written(source, module, expected):
    again = module.read(module.write(source).text)
    assert {key: again[key] for key in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "module", [aiconfigurator, blis_trained_physics, genz, llm_optimizer, own_json]
)
@pytest.mark.parametrize(
    "text", ["", "[1]", "a: [", '{"gpu": 1}', '{"format": "calibrate", "version": 1}', "gpu: {}"]
)
def test_a_reader_refuses_another_text_in_words(module, text):
    with pytest.raises(ImportFormatError, match="not a "):
        module.read(text)


def test_multipliers_and_factors_are_part_of_what_is_achieved(source):
    tuned = Source(
        source.hardware.with_values({"mfuPrefillMultiplier": 0.9, "decodeBwFactor": 0.5})
    )
    read = genz.read(genz.write(tuned).text)
    assert read["TFlopsPeak"] == pytest.approx(989.5 * 0.65 * 0.9)
    assert read["BwPeakTBs"] == pytest.approx(3.35 * 0.72 * 0.5)


def test_a_gpu_of_which_nobody_knows_the_memory_is_refused_by_key():
    unknown = Hardware("X1", GUIDE_H100)
    for name in ("aiconfigurator", "genz", "llm-optimizer", "blis"):
        with pytest.raises(HardwareError, match="MemoryGiB must be a valid positive number"):
            export(name, Source(unknown))


def test_an_unknown_format_is_answered_with_those_there_are(source):
    with pytest.raises(
        CalibrateError, match=r"no exporter 'gens' .*aiconfigurator.*did you mean 'genz'"
    ):
        export("gens", source)


def test_nothing_is_replaced_unless_forced_and_a_failed_write_leaves_the_old(tmp_path):
    path = tmp_path / "out.json"
    write_exported(Exported("one"), path)
    with pytest.raises(CalibrateError, match="is there already"):
        write_exported(Exported("two"), path)
    assert path.read_text() == "one"
    write_exported(Exported("two"), path, force=True)
    assert path.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(CalibrateError, match="no such folder"):
        write_exported(Exported("three"), tmp_path / "none" / "out.json")


def test_a_folder_of_files_stays_in_its_folder(tmp_path):
    paths = write_exported(Exported({"a/b.csv": "1", "c.csv": "2"}), tmp_path / "out")
    assert sorted(str(p.relative_to(tmp_path)) for p in paths) == ["out/a/b.csv", "out/c.csv"]
    for name in ("../x", "/etc/x", "a//b", "a/../../b", ".hidden", "a\\..\\b/", ""):
        with pytest.raises(CalibrateError, match="not a path"):
            write_exported(Exported({name: "x"}), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.fixture
def calibrate(monkeypatch, capsys, tmp_path):
    """Run the command line in a folder with a configuration and a campaign: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_configs").mkdir()
    (tmp_path / "hardware_configs/hardware_config.json").write_text(
        json.dumps({"H100": GUIDE_H100})
    )
    shutil.copytree(CAMPAIGN, tmp_path / "ground_truth/H100/kernels")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.slow
def test_all_formats_are_written_into_a_folder(calibrate, tmp_path):
    arguments = ("export", "--all", "out", "--gpu", "h100", "--models", "llama-3.1-8b")
    code, out, _ = calibrate(*arguments)
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(f"{name}{exporter.end}" for name, exporter in EXPORTERS.items())
    assert "mean error" in out
    code, _, err = calibrate(*arguments)
    assert code == 1
    assert f"! genz: not written: {Path('out', 'genz.json')}: is there already" in err


def test_formats_that_cannot_be_filled_are_named_and_do_not_fail_the_others(calibrate, tmp_path):
    shutil.rmtree(tmp_path / "ground_truth")
    code, out, err = calibrate("export", "--all", "out", "--gpu", "H100")
    assert code == 0
    left_out = {*FITTED, "bench-data", *SERVED}
    assert all(f"! {name}: left out: " in err for name in left_out)
    assert "--models" in err
    assert "genz" in out
    assert len(list((tmp_path / "out").iterdir())) == len(EXPORTERS) - len(left_out)


def test_one_format_is_written_where_it_is_asked_for(calibrate, tmp_path):
    assert calibrate("export", "blis-v1", "--gpu", "H100", "-o", "mine.json")[0] == 0
    assert load_hardware(tmp_path / "mine.json", "H100").values == pytest.approx(GUIDE_H100)
    code, _, err = calibrate("export", "blis-v1", "--gpu", "H100", "-o", "mine.json")
    assert code == 1
    assert "--force" in err
    assert calibrate("export", "blis-v1", "--gpu", "../H100", "-o", "x.json")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["genz"], ["-o", "x"], ["genz", "-o", "x", "--all", "y"], ["--all", "y", "genz"]],
)
def test_wrong_usage_is_told(calibrate, arguments):
    code, _, err = calibrate("export", "--gpu", "H100", *arguments)
    assert code == 2
    assert "--all" in err


def test_a_run_gives_its_values_with_their_intervals(calibrate, tmp_path, h100):
    write_campaign(
        tmp_path / "ground_truth", "H100", synthetic_steps(h100, 48, noise=0.02), "steps"
    )
    result = fit(load_campaigns("ground_truth", "H100", ["steps"]), h100, starts=1, cv=("2",))
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text(dump_json(result.to_dict()))
    result.predictions.to_csv(run / "predictions.csv", index=False)
    assert calibrate("export", "json", "--gpu", "H100", "--run", run, "-o", "out.json")[0] == 0
    made = json.loads((tmp_path / "out.json").read_text())
    assert any(parameter.ci90 for parameter in result.parameters)
    for parameter in result.parameters:
        entry = made["parameters"][parameter.name]
        assert (entry["value"], entry["status"]) == (parameter.value, parameter.status)
        assert entry["ci90"] == (None if parameter.ci90 is None else list(parameter.ci90))
    assert made["held_out_mape"]["folds"] == result.metrics.held_out["folds"]["all"].mape
    assert calibrate("export", "blis-v1", "--gpu", "H100", "--run", run, "-o", "v1.json")[0] == 0
    again = Source(
        load_hardware(tmp_path / "v1.json", "H100"), tmp_path / "ground_truth", ("steps",)
    )
    predicted = latency_model("roofline-v1").predict_us(again.data.table, again.hardware)
    np.testing.assert_allclose(predicted, result.predictions["after_us"], rtol=1e-6)
    code, _, err = calibrate("export", "json", "--gpu", "A100", "--run", run, "-o", "a.json")
    assert code == 1
    assert "is a run of H100" in err


def test_formats_are_listed_both_ways(calibrate):
    _, out, _ = calibrate("show", "formats")
    assert "forward-pass-metrics" in out
    assert all(name in out for name in EXPORTERS)
    assert all(exporter.checked in out for exporter in EXPORTERS.values())


RETIRED = ("blis", "blis-trained-physics", "blis-v1", "blis-v2", "blis-minimal")


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_format_says_so_in_its_file(exported, name):
    assert "For BLIS up to August 2026." in exported[name].text


def test_a_retired_format_says_so_when_it_is_written(calibrate):
    _, out, _ = calibrate("export", "blis-v1", "--gpu", "H100", "-o", "v1.json")
    assert "For BLIS up to August 2026 only." in out


def test_served_models_degrees_and_limits_are_options(calibrate, tmp_path):
    command = ("export", "autoscaler", "--gpu", "H100", "-o", "out.json")
    served = ("--models", "llama-3.1-8b", "--tp", "1,2", "--max-num-seqs", "32")
    assert calibrate(*command, *served, "--prompt-tokens", "512", "--output-tokens", "64")[0] == 0
    models = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [model["accCount"] for model in models] == [1, 2]
    assert {(model["maxBatchSize"], model["atTokens"]) for model in models} == {(32, 544)}
    code, _, err = calibrate(*command, "--models", "llama-3.1-8b", "--tp", "two", "--force")
    assert code == 2
    assert "give whole numbers" in err


def test_step_times_are_those_of_the_named_latency_model(calibrate, tmp_path):
    command = ("export", "llm-d-inference-sim", "--gpu", "H100", "--models", "llama-3.1-8b")
    assert calibrate(*command, "-o", "v1.yaml")[0] == 0
    assert calibrate(*command, "--latency-model", "roofline-v3", "-o", "v3.yaml")[0] == 0
    assert "times of roofline-v1" in (tmp_path / "v1.yaml").read_text()
    assert "times of roofline-v3" in (tmp_path / "v3.yaml").read_text()
    code, _, err = calibrate(*command, "--latency-model", "roofline-v2", "-o", "v2.yaml")
    assert code == 1
    assert "--bench-data-path" in err
    assert not (tmp_path / "v2.yaml").exists()
