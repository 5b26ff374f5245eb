"""``calibrate transfer``: a GPU without data gets values and intervals from GPUs that were measured."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from calibrate.job.sources import measure, places
from calibrate.job.transfer import transfer_to
from calibrate.records.config_writer import merged, write_config
from calibrate.records.errors import CalibrateError
from calibrate.transfer.held_out import hold_out
from calibrate.transfer.kind import Kind, kind_of
from calibrate.transfer.transferred import transfer
from sim.configuration import load_hardware
from sim.hardware import Hardware, gpu_specs
from sim.models.registry import PARAMETERS, latency_model
from tests.conftest import CAMPAIGN, ROOT

MODEL = latency_model("roofline-v3")
CONFIG = Path("hardware_configs/hardware_config.json")
FROM = ("--from", "H100,H200,B200")
RUBIN = ("--spec", "TFlopsPeak=4000", "--spec", "BwPeakTBs=20", "--spec", "IntraNodeBwGBps=1800")


@pytest.fixture(scope="module")
def measured():
    known = {place.gpu: place for place in places(ROOT / "ground_truth", MODEL)}
    return [measure(known[gpu], MODEL) for gpu in ("H100", "H200", "B200")]


@pytest.fixture
def nothing_fitted(monkeypatch, measured):
    """Sources as they were fitted once: each test asks for some of these three."""
    by_gpu = {one.gpu: one for one in measured}
    monkeypatch.setattr("calibrate.job.transfer.measure", lambda place, *_: by_gpu[place.gpu])


def of_registry(gpu):
    return Hardware(gpu, dict(gpu_specs()[gpu].values))


def test_every_gpu_of_the_registry_is_of_a_kind():
    for name, spec in gpu_specs().items():
        kind, notes = kind_of(Hardware(name, {}))
        assert (kind.link, kind.generation) == (spec.link, spec.generation)
        assert notes == []
        is_slow = spec.values["IntraNodeBwGBps"] <= 64
        assert is_slow == (spec.link == "PCIe") or name == "A40", name  # a bridge of an old NVLink


def test_an_unknown_gpu_is_taken_by_its_bandwidth_which_is_said():
    kind, notes = kind_of(Hardware("Own", {"IntraNodeBwGBps": 32.0}))
    assert kind == Kind("PCIe", "Own")
    assert "32 GB/s" in notes[0]
    assert kind_of(Hardware("Own", {"IntraNodeBwGBps": 900.0}), "pcie", "ada") == (
        Kind("PCIe", "Ada"),
        [],
    )


def test_a_source_has_the_values_of_its_fit_with_standard_errors(measured):
    h100 = measured[0]
    assert h100.hardware.values["gemmMfu"] == pytest.approx(0.859, abs=0.005)
    assert h100.error == pytest.approx(0.027, abs=0.002)
    assert 0.002 < h100.stderr["gemmMfu"] < 0.05
    assert h100.start.values.get("gemmMfu") != h100.hardware.values["gemmMfu"]


def test_rates_of_the_link_are_shares_of_its_peak(measured):
    slow, fast = (
        transfer(measured, Hardware("Own", values), Kind("NVLink", "Own"), MODEL)
        for values in (
            {"TFlopsPeak": 1000.0, "BwPeakTBs": 4.0, "IntraNodeBwGBps": rate} for rate in (300, 600)
        )
    )
    name = "allReduceBwGBps"
    assert fast.known[name].value == pytest.approx(2 * slow.known[name].value)
    assert fast.known["gemmMfu"].value == slow.known["gemmMfu"].value


def test_a_relative_of_hopper_gets_hoppers_values(measured):
    found = transfer(measured, of_registry("GH200"), Kind("NVLink", "Hopper"), MODEL)
    hopper = [one.hardware.values["gemmMfu"] for one in measured[:2]]
    assert min(hopper) - 0.02 < found.known["gemmMfu"].value < max(hopper)
    for name, one in found.known.items():
        low, high = one.ci90
        assert PARAMETERS[name].lower <= low < one.value < high <= PARAMETERS[name].upper, name
    assert found.hardware.values["TFlopsPeak"] == 989.5


def test_what_no_source_tells_stays_as_it_starts(measured):
    found = transfer(measured, of_registry("GH200"), Kind("NVLink", "Hopper"), MODEL)
    untold = {one.name: one for one in found.parameters if one.prediction is None}
    assert "hostLayerMicros" in untold
    assert untold["hostLayerMicros"].value == 0.0
    assert untold["hostLayerMicros"].ci90 is None


def test_a_source_held_out_is_predicted_from_the_others_alone(measured):
    held_out = hold_out(measured, MODEL)
    h100 = held_out[0]
    assert h100.gpu == "H100"
    assert h100.own < h100.error < 0.15
    others = transfer(measured[1:], measured[0].start, measured[0].kind, MODEL)
    predicted = MODEL.predict_us(measured[0].data.table, others.hardware)
    error = np.abs(predicted / measured[0].data.measured_us - 1).mean()
    assert h100.error == pytest.approx(error)
    assert 0.8 < h100.steps_inside <= 1.0


def test_one_source_alone_is_held_against_nobody(measured):
    assert hold_out(measured[:1], MODEL) == []


@pytest.mark.usefixtures("nothing_fitted")
def test_a_gpu_among_the_sources_is_left_out_of_them_and_said(workplace):
    answer = transfer_to(
        of_registry("B200"), MODEL, workplace / "ground_truth", ["H100", "H200", "B200"]
    )
    assert answer.transferred.sources == ("H100", "H200")
    assert any("B200 has campaigns of its own, which are left" in note for note in answer.notes)


@pytest.mark.usefixtures("nothing_fitted")
def test_values_intervals_and_provenance_are_written(workplace, calibrate):
    code, out, _ = calibrate("transfer", "--to", "GH200", *FROM)
    assert code == 0
    assert "Transferred from H100, H200, B200; nothing was measured on GH200." in out.replace(
        "\n", " "
    )
    block = json.loads(CONFIG.read_text())["GH200"]
    said = block["transferred"]
    assert said["what"] == "transferred from H100, H200, B200; nothing was measured on GH200"
    low, high = said["intervals"]["gemmMfu"]
    assert low < block["gemmMfu"] < high
    hardware = load_hardware(CONFIG, "GH200")
    assert MODEL.parameters(hardware)["kvBwFraction"] == block["kvBwFraction"]
    assert json.loads(CONFIG.read_text())["Other"] == {"TFlopsPeak": 1.0, "vendorNote": "keep"}


@pytest.mark.usefixtures("nothing_fitted")
def test_json_is_the_one_document(workplace, calibrate):
    code, out, _ = calibrate("transfer", "--to", "Rubin", *RUBIN, *FROM, "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["link"], found["generation"]) == ("NVLink", "Rubin")
    assert [one["gpu"] for one in found["sources"]] == ["H100", "H200", "B200"]
    assert {one["gpu"] for one in found["held_out"]} == {"H100", "H200", "B200"}
    by_name = {one["name"]: one for one in found["parameters"]}
    assert by_name["allReduceBwGBps"]["ci90"][0] < by_name["allReduceBwGBps"]["value"]
    assert found["values"]["BwPeakTBs"] == 20.0
    assert found["paths"] == {"config": None, "backup": None}
    assert any("No source is of its generation, Rubin" in note for note in found["notes"])
    assert "Rubin" not in json.loads(CONFIG.read_text())


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (("--to", "Foo"), 1, "give --spec TFlopsPeak=… --spec BwPeakTBs=…"),
        (
            ("--to", "Foo", *RUBIN[:4]),
            1,
            "IntraNodeBwGBps is neither in its block nor in the registry",
        ),
        (("--to", "Foo", "--spec", "TFlopsPeek=1"), 1, "did you mean 'TFlopsPeak'"),
        (("--to", "Foo", "--spec", "TFlopsPeak"), 2, "give NAME=NUMBER"),
        (("--to", "GH200", "--link", "NVLing"), 1, "did you mean 'NVLink'"),
        (("--to", "GH200", "--from", "H100"), 1, "takes 2 GPUs or more"),
        (("--to", "H100", "--from", "H100,H200"), 1, "there is H200 alone"),
        (("--to", "GH200", "--from", "H1000,H200"), 1, "--from H1000: no campaign"),
        (("--to", "GH200", "--latency-model", "roofline-v2"), 1, "looks up what was measured"),
        (("--to", "H100", "--latency-model", "roofline-v1"), 1, "may be measured"),
    ],
)
@pytest.mark.usefixtures("nothing_fitted")
def test_bad_questions_are_refused_in_words(workplace, calibrate, asked, code, said):
    before = CONFIG.read_bytes()
    got, _, err = calibrate("transfer", *asked)
    assert got == code
    assert said in " ".join(err.split())
    assert CONFIG.read_bytes() == before


@pytest.mark.usefixtures("nothing_fitted")
def test_a_transfer_replaces_a_transfer(workplace, calibrate):
    assert calibrate("transfer", "--to", "GH200", *FROM)[0] == 0
    assert calibrate("transfer", "--to", "GH200", "--from", "H100,H200")[0] == 0
    assert json.loads(CONFIG.read_text())["GH200"]["transferred"]["from"] == ["H100", "H200"]


def test_an_interval_goes_once_its_value_is_written_anew(tmp_path):
    path = tmp_path / "config.json"
    what = "transferred from H100; nothing was measured on GH200"
    said = {"what": what, "intervals": {"gemmMfu": [0.7, 0.9], "layerMicros": [20, 40]}}
    write_config(path, "GH200", {"gemmMfu": 0.8, "layerMicros": 30.0}, transferred=said)
    write_config(path, "GH200", {"gemmMfu": 0.82, "layerMicros": 30.0})
    kept = json.loads(path.read_text())["GH200"]["transferred"]
    assert kept["intervals"] == {"layerMicros": [20, 40]}
    assert kept["what"] == "transferred from H100; the others were fitted since"
    write_config(path, "GH200", {"layerMicros": 31.0})
    assert "transferred" not in json.loads(path.read_text())["GH200"]


@pytest.mark.usefixtures("nothing_fitted")
def test_who_uses_transferred_values_is_told(workplace, calibrate):
    assert calibrate("transfer", "--to", "GH200", *FROM)[0] == 0
    steps = CAMPAIGN / "steps.csv"
    code, _, err = calibrate(
        "predict", steps, "--gpu", "GH200", "--latency-model", "roofline-v3", "-o", "out.csv"
    )
    assert code == 0
    said = "GH200: 10 values transferred from H100, H200, B200; nothing was measured on GH200"
    assert said in " ".join(err.split())


@pytest.mark.parametrize("strange", [7, {"intervals": 3}, None])
def test_a_strange_note_of_a_transfer_is_no_traceback(strange):
    block = merged({"GH200": {"gemmMfu": 0.8, "transferred": strange}}, "GH200", {"gemmMfu": 0.7})
    assert block["GH200"] == {"gemmMfu": 0.7}


def test_a_peak_in_another_unit_is_said(measured, nothing_fitted, workplace):
    start = dataclasses.replace(
        of_registry("GH200"), values={**of_registry("GH200").values, "BwPeakTBs": 4000.0}
    )
    answer = transfer_to(start, MODEL, workplace / "ground_truth", ["H100", "H200"])
    assert any("no GPU's memory moves 4000 TB/s" in note for note in answer.notes)


def test_the_page_states_what_was_measured():
    page = (ROOT / "docs/transfer.md").read_text(encoding="utf-8")
    gpus = json.loads((ROOT / "docs/transfer.json").read_text(encoding="utf-8"))["gpus"]
    assert {one["gpu"] for one in gpus} == {
        place.gpu for place in places(ROOT / "ground_truth", MODEL)
    }
    for one in gpus:
        row = next(line for line in page.splitlines() if line.startswith(f"| {one['gpu']} "))
        for key in ("own_fit", "transferred", "error_few", "error_many", "planned", "random"):
            assert f"| {one[key]:.1%} |" in row, (one["gpu"], key)
        assert f"| {one['steps_inside']:.0%} | {one['values_inside']:.0%} |" in row
        assert ("†" in row) == one["chose"]


def own_gpu(workplace, rows):
    """A GPU that the registry does not know, with as many rows of H100's."""
    folder = workplace / "ground_truth/MyGPU/first"
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text('kind = "kernel-composed"\n')
    lines = (CAMPAIGN / "steps.csv").read_text().splitlines()
    (folder / "steps.csv").write_text("\n".join(lines[: rows + 1]) + "\n")
    return workplace / "ground_truth"


def two_and_own(monkeypatch, measured, workplace):
    """H100 and H200 as they were fitted, MyGPU as it is."""
    fitted = {one.gpu: one for one in measured[:2]}

    def known(place, model, config=None):
        return fitted[place.gpu] if place.gpu in fitted else measure(place, model, config)

    kept = [
        place
        for place in places(workplace / "ground_truth", MODEL)
        if place.gpu in (*fitted, "MyGPU")
    ]
    monkeypatch.setattr("calibrate.job.sources.places", lambda *_: kept)
    monkeypatch.setattr("calibrate.job.transfer.measure", known)


def test_a_source_without_peaks_is_left_out_and_said(monkeypatch, measured, workplace):
    ground_truth = own_gpu(workplace, 883)
    two_and_own(monkeypatch, measured, workplace)
    answer = transfer_to(of_registry("GH200"), MODEL, ground_truth, config=CONFIG)
    assert answer.transferred.sources == ("H100", "H200")
    assert any("Left out: MyGPU: its peaks are neither in" in note for note in answer.notes)


def test_a_source_has_the_peaks_of_the_configuration(monkeypatch, measured, workplace):
    ground_truth = own_gpu(workplace, 883)
    two_and_own(monkeypatch, measured, workplace)
    peaks = {name: gpu_specs()["H100"].values[name] for name in ("TFlopsPeak", "BwPeakTBs")}
    write_config(CONFIG, "MyGPU", {**peaks, "IntraNodeBwGBps": 450.0})
    answer = transfer_to(of_registry("GH200"), MODEL, ground_truth, config=CONFIG)
    assert sorted(answer.transferred.sources) == ["H100", "H200", "MyGPU"]


def test_a_source_of_few_rows_is_left_out_unless_it_was_named(monkeypatch, measured, workplace):
    ground_truth = own_gpu(workplace, 6)
    two_and_own(monkeypatch, measured, workplace)
    peaks = {name: gpu_specs()["H100"].values[name] for name in ("TFlopsPeak", "BwPeakTBs")}
    write_config(CONFIG, "MyGPU", {**peaks, "IntraNodeBwGBps": 450.0})
    answer = transfer_to(of_registry("GH200"), MODEL, ground_truth, config=CONFIG)
    assert any("Left out: MyGPU: its rows do not tell" in note for note in answer.notes)
    with pytest.raises(CalibrateError, match="MyGPU: its rows do not tell"):
        transfer_to(
            of_registry("GH200"), MODEL, ground_truth, ["H100", "H200", "MyGPU"], config=CONFIG
        )
