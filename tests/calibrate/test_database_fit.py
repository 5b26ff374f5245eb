"""The database models through the whole machinery: known truth, what zero means, the command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from calibrate import fit, load_campaigns
from calibrate.campaign.campaign import load_campaign
from calibrate.cli import app
from calibrate.exporters import export, write_exported
from calibrate.exporters.exported import Source
from calibrate.importers import read_source, write_campaign
from calibrate.job.publish import publish
from calibrate.parameters.start import starting_hardware
from calibrate.planning.plan import plan
from calibrate.records.errors import CalibrateError, ImportFormatError
from sim import MfuTableError, latency_model, load_hardware, load_mfu_table
from sim.database.table import Shape
from tests.conftest import DATA, ROOT
from tests.synthetic import synthetic_steps
from tests.synthetic import write_campaign as write_steps

pytestmark = pytest.mark.usefixtures("one_plot")

DATABASE = DATA / "mfu_database"
TABLE = load_mfu_table(DATABASE, "X100")
GOLDEN = ROOT.parent / "shared" / "golden" / "bench_data"
PEAKS = {"TFlopsPeak": 400.0, "BwPeakTBs": 2.0}
TRUTH = {
    "TOverheadMicros": 180.0,
    "prefillOverheadMicros": 350.0,
    "mixedPrefillOverheadMicros": 90.0,
    "allReduceLatency": 17.0,
}
START = {"TOverheadMicros": 0.0, "prefillOverheadMicros": 100.0, "allReduceLatency": 60.0}


def campaigns(folder, name, values, noise=0.0, rows=160):
    truth = load_hardware({"X100": {**PEAKS, **values}})
    model = latency_model(name, mfu_table=TABLE)
    write_steps(folder, "X100", synthetic_steps(truth, rows, model=model, noise=noise, tps=(1, 4)))
    return load_campaigns(folder, "X100")


def fitted(result):
    return {p.name: p.value for p in result.parameters if p.status == "fitted"}


@pytest.mark.usefixtures("no_profiles")
def test_known_overheads_come_back(tmp_path):
    start = load_hardware({"X100": {**PEAKS, **START}})
    result = fit(
        campaigns(tmp_path, "roofline-v2", TRUTH),
        start,
        latency_model="roofline-v2",
        mfu_table=TABLE,
        starts=4,
    )
    assert fitted(result) == pytest.approx(TRUTH, rel=1e-4)
    assert {p.name: p.status for p in result.parameters if p.name not in TRUTH} == {
        "bwEfficiencyFactor": "inert",
        "perLayerOverhead": "inert",
    }
    why = {p.name: p.why for p in result.parameters}
    assert "0 switches it off" in why["bwEfficiencyFactor"]
    assert "--spec perLayerOverhead=" in why["perLayerOverhead"]


def test_intervals_of_noisy_steps_hold_the_truth(tmp_path):
    start = load_hardware({"X100": {**PEAKS, **START, "bwEfficiencyFactor": 0.9}})
    truth = {**TRUTH, "bwEfficiencyFactor": 0.7}
    noisy = campaigns(tmp_path, "roofline-v2", truth, noise=0.03, rows=240)
    result = fit(noisy, start, latency_model="roofline-v2", mfu_table=TABLE, starts=4)
    within = [
        p.ci90[0] <= truth[p.name] <= p.ci90[1] for p in result.parameters if p.status == "fitted"
    ]
    assert len(within) == 5
    assert sum(within) >= 4
    assert result.metrics.unseen["all"].mape < 0.04


def test_both_parameters_of_the_interpolating_model_come_back_from_nothing(tmp_path):
    truth = {"bwEfficiencyFactor": 0.7, "perLayerOverhead": 12.0}
    start = load_hardware({"X100": {**PEAKS, "bwEfficiencyFactor": 1.0}})
    found = campaigns(tmp_path, "roofline-v2-interp", truth)
    result = fit(found, start, latency_model="roofline-v2-interp", mfu_table=TABLE, starts=4)
    assert fitted(result) == pytest.approx(truth, rel=1e-4)


def test_an_overhead_by_layer_takes_the_place_of_three(tmp_path):
    start = load_hardware({"X100": {**PEAKS, **START, "perLayerOverhead": 2.0}})
    truth = {"perLayerOverhead": 7.0, "allReduceLatency": 17.0}
    result = fit(
        campaigns(tmp_path, "roofline-v2", truth),
        start,
        latency_model="roofline-v2",
        mfu_table=TABLE,
        starts=4,
    )
    assert fitted(result) == pytest.approx(truth, rel=1e-4)
    replaced = [p for p in result.parameters if "perLayerOverhead takes its place" in p.why]
    assert {p.name for p in replaced} == set(TRUTH) - {"allReduceLatency"}


def test_what_is_off_stays_off_and_says_so(tmp_path):
    start = load_hardware({"X100": {**PEAKS, **START}})
    found = campaigns(tmp_path, "roofline-v2", TRUTH)
    result = fit(
        found,
        start,
        latency_model="roofline-v2",
        mfu_table=TABLE,
        starts=2,
        free=["bwEfficiencyFactor"],
        fix={"perlayeroverhead": 0},
    )
    assert any(
        "--free bwEfficiencyFactor was not followed: 0 switches it off" in text
        for text in result.warnings
    )
    assert result.values["bwEfficiencyFactor"] == result.values["perLayerOverhead"] == 0
    with pytest.raises(CalibrateError, match="roofline-v2 does not read mfuPrefill"):
        fit(found, start, latency_model="roofline-v2", mfu_table=TABLE, fix={"mfuPrefill": 0.5})


@pytest.mark.usefixtures("no_profiles")
def test_only_what_the_model_reads_is_written_beside_what_was_there(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"X100": {**PEAKS, "AllReduceLatency": 5.0, "note": "mine"}}))
    start, notes = starting_hardware(config, "X100", {}, "roofline-v2")
    assert notes == []
    result = fit(
        campaigns(tmp_path, "roofline-v2", TRUTH),
        start,
        latency_model="roofline-v2",
        mfu_table=TABLE,
        starts=2,
    )
    publish(result, start, config, tmp_path / "reports", force=False, dry_run=False)
    block = json.loads(config.read_text())["X100"]
    assert set(block) == {*PEAKS, "AllReduceLatency", "note", *TRUTH} - {"allReduceLatency"}
    assert block["AllReduceLatency"] == pytest.approx(17.0, rel=1e-4)
    assert block["note"] == "mine"


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.slow
def test_a_gpu_new_to_the_file_gets_six_keys(tmp_path):
    config = tmp_path / "v2.json"
    shutil.copy(ROOT / "hardware_configs" / "hardware_config_v2.json", config)
    start, notes = starting_hardware(config, "L40S", {}, "roofline-v2")
    assert "has no block for L40S" in notes[0]
    truth = load_hardware({"L40S": {**start.values, **TRUTH}})
    model = latency_model("roofline-v2", mfu_table=TABLE)
    write_steps(tmp_path, "L40S", synthetic_steps(truth, 80, model=model, tps=(1, 4)))
    result = fit(
        load_campaigns(tmp_path, "L40S"),
        start,
        latency_model="roofline-v2",
        mfu_table=TABLE,
        starts=2,
    )
    publish(result, start, config, tmp_path / "reports", force=False, dry_run=False)
    blocks = json.loads(config.read_text())
    assert {key.lower() for key in blocks["L40S"]} == {key.lower() for key in blocks["H100"]}


@pytest.mark.parametrize(
    "name", ["hardware_config_v2", "hardware_config_minimal", "hardware_config_v2_interp"]
)
def test_every_configuration_knows_the_same_gpus(name):
    blocks = json.loads((ROOT / "hardware_configs" / f"{name}.json").read_text())
    assert set(blocks) >= {"H100", "A100-SXM"}
    assert {len(blocks[gpu]) for gpu in ("H100", "A100-SXM")} == {
        {"hardware_config_v2": 6, "hardware_config_minimal": 2, "hardware_config_v2_interp": 4}[
            name
        ]
    }


@pytest.mark.parametrize("name", ["roofline-v2", "roofline-v2-interp"])
@pytest.mark.parametrize("measured", [False, True])
def test_a_plan_is_made_for_both_models(tmp_path, name, measured):
    values = {
        **TRUTH,
        "bwEfficiencyFactor": 0.7,
        **({"perLayerOverhead": 5.0} if name.endswith("interp") else {}),
    }
    hardware = load_hardware({"X100": {**PEAKS, "MemoryGiB": 80.0, **values}})
    found = campaigns(tmp_path, name, values, rows=60) if measured else []
    made = plan(found, hardware, model=name, mfu_table=TABLE, budget=4, tps=(1, 4))
    assert len(made.points) == 4
    assert made.narrowing > 1
    assert {p.name for p in made.parameters} == set(
        latency_model(name, mfu_table=TABLE).parameter_names
    )


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("no_profiles")
def test_the_command_line_fits_predicts_and_validates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_configs").mkdir()
    config = tmp_path / "hardware_configs" / "hardware_config_v2.json"
    config.write_text(json.dumps({"X100": {**PEAKS, **START}}))
    truth = {
        **TRUTH,
        "TOverheadMicros": 3000.0,
        "prefillOverheadMicros": 9000.0,
        "mixedPrefillOverheadMicros": 9000.0,
    }
    campaigns(tmp_path / "ground_truth", "roofline-v2", truth)
    model = ("--latency-model", "roofline-v2", "--bench-data-path", DATABASE)
    done = run("fit", "--gpu", "X100", *model, "--starts", 2, "--skip-bad-rows", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(config.read_text())["X100"]["TOverheadMicros"] == pytest.approx(
        3000, rel=0.01
    )
    steps = tmp_path / "ground_truth" / "X100" / "synthetic" / "steps.csv"
    done = run("predict", steps, "--gpu", "X100", *model, "-o", "predicted.csv")
    assert done.exit_code == 0, done.output
    predicted = pd.read_csv("predicted.csv")
    assert np.median(predicted["predicted_us"] / predicted["latency_us"]) == pytest.approx(
        1, abs=0.01
    )
    served = (
        "--model",
        "llama-3.1-8b",
        "--concurrency",
        1,
        "--prompt-tokens",
        200,
        "--output-tokens",
        5,
    )
    engine = ("--kv-cache-tokens", 4096, "--num-requests", 3, "--steps", "served.csv")
    done = run("simulate", "--gpu", "X100", *model, *served, *engine)
    assert done.exit_code == 0, done.output
    assert run("predict", "served.csv", "--gpu", "X100", *model, "-o", "again.csv").exit_code == 0
    again = pd.read_csv("again.csv")
    np.testing.assert_allclose(again["predicted_us"], again["latency_us"])
    done = run("validate", "--bench-data-path", DATABASE)
    assert "not measured" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--latency-model", "roofline-v2"), "--bench-data-path"),
        (("--latency-model", "roofline-v2", "--bench-data-path", "none"), "no such folder"),
        (("--bench-data-path", "none"), "roofline-v1 looks nothing up"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "plan", "predict"])
def test_a_missing_or_needless_database_is_said(command, arguments, message):
    steps = ("steps.csv",) if command == "predict" else ()
    done = run(command, *steps, "--gpu", "H100", *arguments)
    assert isinstance(done.exception, CalibrateError | MfuTableError)
    assert message in str(done.exception)


def there_and_back(source, gpu, folder):
    campaign = folder / gpu / "benchmarks"
    write_campaign(read_source("bench-data", str(source), gpu), campaign)
    loaded = load_campaign(campaign, gpu)
    assert [p for p in loaded.problems if p.severity == "error"] == []
    hardware = load_hardware({gpu: PEAKS}, gpu)
    write_exported(export("bench-data", Source(hardware, folder)), folder / "database")
    return load_mfu_table(folder / "database", gpu)


@pytest.mark.parametrize(
    ("source", "gpu"),
    [
        (DATABASE, "X100"),
        pytest.param(
            GOLDEN,
            "H100",
            marks=pytest.mark.skipif(
                not GOLDEN.is_dir(), reason="that database may not be committed"
            ),
        ),
    ],
)
def test_a_database_survives_the_way_through_a_campaign(tmp_path, source, gpu):
    one = load_mfu_table(source, gpu)
    two = there_and_back(source, gpu, tmp_path)
    assert list(one.gemm) == list(two.gemm)
    assert one.last_shape == two.last_shape
    assert list(one.prefill) == list(two.prefill)
    sizes = np.geomspace(1, 2e5, 60).round()
    for interpolate in (False, True):
        for shape in one.gemm:
            assert np.array_equal(
                *(t.gemm_mfu(sizes, shape, interpolate=interpolate) for t in (one, two))
            )
        for heads in one.prefill:
            assert np.array_equal(
                *(t.prefill_mfu(heads, sizes, interpolate=interpolate) for t in (one, two))
            )
            for tp in one.decode[heads]:
                first, second = (
                    t.decode_mfu(heads, sizes[::-1], sizes, tp, interpolate=interpolate)
                    for t in (one, two)
                )
                assert np.array_equal(first, second)


def kernel_campaign(folder, **tables):
    for name, rows in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return load_campaign(folder, "X100")


HEADS = {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
GEMM = [{"m": m, "k": 4096, "n": 4096, "latency_us": 10.0 + m / 20} for m in (8, 1024)]
PREFILL = [{**HEADS, "batch_size": b, "seq_len": 2048, "latency_us": 300.0} for b in (1, 4)]
DECODE = [{**HEADS, "batch_size": 8, "kv_len": 1024, "latency_us": 25.0}]


def test_exported_mfus_give_the_measured_times_back(tmp_path):
    """Per layer, a decode of eight at 1024: seven GEMMs at their measured shape, and the measured attention."""
    kernel_campaign(
        tmp_path / "X100" / "k", gemm=GEMM, attention_prefill=PREFILL, attention_decode=DECODE
    )
    hardware = load_hardware({"X100": {"TFlopsPeak": 400.0, "BwPeakTBs": 100.0}})
    files = write_exported(export("bench-data", Source(hardware, tmp_path)), tmp_path / "db")
    assert sorted(file.name for file in files) == ["32-8-128-tp1.csv", "32-8-128.csv", "data.csv"]
    table = load_mfu_table(tmp_path / "db", "X100")
    attention_us = (
        4e-6
        * 32
        * 8
        * 1024
        * 128
        / 400
        / table.decode_mfu((32, 8, 128), *(np.array([x]) for x in (8.0, 1024.0)), 1)
    )
    assert attention_us == pytest.approx(25.0, rel=1e-3)
    gemm_us = 2e-6 * 8 * 4096 * 4096 / 400 / table.gemm_mfu(np.array([8.0]), Shape(4096, 4096))
    assert gemm_us == pytest.approx(10.4, rel=1e-3)


def test_decodes_that_share_their_heads_are_surfaces_of_their_own(tmp_path):
    shared = [{**DECODE[0], "tp": 4, "latency_us": 11.0}]
    kernel_campaign(
        tmp_path / "X100" / "k",
        gemm=GEMM,
        attention_prefill=PREFILL,
        attention_decode=[{**DECODE[0], "tp": 1}, *shared],
    )
    source = Source(load_hardware({"X100": PEAKS}), tmp_path)
    write_exported(export("bench-data", source), tmp_path / "db")
    decode = load_mfu_table(tmp_path / "db", "X100").decode
    assert {tp: s.mfu[0] for tp, s in decode[32, 8, 128].items()} == pytest.approx(
        {1: 4e-6 * 32 * 128 * 8 * 1024 / 25 / 400, 4: 4e-6 * 8 * 128 * 8 * 1024 / 11 / 400},
        rel=1e-3,
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"gemm": GEMM}, "no 16-bit row of a attention_prefill table"),
        (
            {"gemm": GEMM, "attention_prefill": PREFILL[1:], "attention_decode": DECODE},
            "prefills of one prompt",
        ),
        ({"gemm": [{**row, "dtype": "fp8"} for row in GEMM]}, "no 16-bit row of a gemm table"),
    ],
)
def test_what_an_export_lacks_is_said(tmp_path, tables, message):
    kernel_campaign(tmp_path / "X100" / "k", **tables)
    with pytest.raises(CalibrateError, match=message):
        export("bench-data", Source(load_hardware({"X100": PEAKS}), tmp_path))


def test_export_refuses_to_replace_files_and_an_unknown_format(tmp_path):
    (tmp_path / "gemm").mkdir()
    kernel_campaign(
        tmp_path / "X100" / "k", gemm=GEMM, attention_prefill=PREFILL, attention_decode=DECODE
    )
    exported = export("bench-data", Source(load_hardware({"X100": PEAKS}), tmp_path))
    write_exported(exported, tmp_path / "db")
    with pytest.raises(CalibrateError, match="is there already"):
        write_exported(exported, tmp_path / "db")
    with pytest.raises(CalibrateError, match="did you mean 'bench-data'"):
        export("benchdata", Source(load_hardware({"X100": PEAKS}), tmp_path))


def test_a_database_without_latencies_is_no_measurement(tmp_path):
    shutil.copytree(DATABASE, tmp_path / "db")
    file = tmp_path / "db" / "gemm" / "x100" / "data.csv"
    pd.read_csv(file).drop(columns="latency_us").to_csv(file, index=False)
    with pytest.raises(ImportFormatError, match="latency_us: the required column is missing"):
        read_source("bench-data", str(tmp_path / "db"), "X100")
