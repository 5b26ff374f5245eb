"""What commands print with ``--json``: one document that holds what the words say."""

import json

import pandas as pd
import pytest

from calibrate.exporters import EXPORTERS
from calibrate.importers import IMPORTERS
from sim.hardware import gpu_specs
from sim.models.registry import LATENCY_MODELS, PARAMETERS
from sim.models.request_times import REQUEST_TIMES
from tests.calibrate.test_importers import SPLITWISE


@pytest.fixture
def steps(workplace):
    """A table of two steps of decodes."""
    rows = {
        "model": "llama-3.1-8b",
        "tp": [1, 2],
        "num_decode_requests": [8, 4],
        "sum_decode_kv_tokens": [8192, 4096],
        "run_id": ["a", None],
    }
    path = workplace / "two.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_predict_prints_its_rows_as_json(steps, calibrate):
    _, table, _ = calibrate("predict", steps, "--gpu", "H100")
    predicted = [float(line.rpartition(",")[2]) for line in table.splitlines()[1:]]
    code, out, _ = calibrate("predict", steps, "--gpu", "H100", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["gpu"], said["latency_model"]) == ("H100", "roofline-v1")
    assert (said["rows"], said["output"]) == (2, None)
    assert [row["predicted_us"] for row in said["steps"]] == predicted
    assert [row["run_id"] for row in said["steps"]] == ["a", ""]


def test_predict_with_a_file_prints_where_it_is(steps, calibrate):
    code, out, _ = calibrate("predict", steps, "--gpu", "H100", "-o", "there.csv", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["rows"], said["output"], said["steps"]) == (2, "there.csv", None)
    assert len(pd.read_csv(steps.with_name("there.csv"))) == 2


def test_standard_output_takes_one_document(steps, calibrate):
    code, out, _ = calibrate("predict", steps, "--gpu", "H100", "-o", "-", "--json")
    assert code == 1
    assert "--json takes standard output" in json.loads(out)["error"]["message"]
    code, out, _ = calibrate("export", "genz", "--gpu", "H100", "-o", "-", "--json")
    assert code == 1
    assert "--json takes standard output" in json.loads(out)["error"]["message"]


def test_export_says_what_it_wrote(workplace, calibrate):
    code, out, _ = calibrate("export", "genz", "--gpu", "H100", "-o", "genz.json", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["gpu"], said["left_out"], said["not_written"]) == ("H100", {}, {})
    (written,) = said["written"]
    assert (written["format"], written["files"]) == ("genz", ["genz.json"])
    assert (workplace / "genz.json").is_file()


def test_export_of_every_format_says_what_is_left_out_and_why(workplace, calibrate):
    (workplace / "out").mkdir()
    (workplace / "out/genz.json").touch()
    arguments = ("--gpu", "H100", "--ground-truth", "nowhere", "--json")
    code, out, _ = calibrate("export", "--all", "out", *arguments)
    said = json.loads(out)
    assert code == 1
    assert "is there already" in said["not_written"]["genz"]
    assert "--models" in said["left_out"]["aisimulate"]
    written = {one["format"] for one in said["written"]}
    assert written | said["left_out"].keys() | said["not_written"].keys() == EXPORTERS.keys()


def test_import_says_its_tables_and_what_comes_next(workplace, calibrate):
    path = workplace / "perf_model.csv"
    path.write_text(SPLITWISE)
    arguments = ("--gpu", "H100", "--campaign", "mine", "--json")
    code, out, _ = calibrate("import", "splitwise", path, *arguments)
    said = json.loads(out)
    assert code == 0
    assert (said["folder"], said["rows"]["steps"]) == ("ground_truth/H100/mine", 6)
    assert said["next"] == "calibrate validate --gpu H100 --campaign mine"
    assert isinstance(said["warnings"], list)
    assert isinstance(said["left_out"], list)


def shown(calibrate, *arguments):
    code, out, _ = calibrate("show", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_lists_are_whole_as_json(calibrate):
    gpus = {one["name"]: one["values"] for one in shown(calibrate, "gpus")["gpus"]}
    assert gpus == {name: dict(spec.values) for name, spec in gpu_specs().items()}
    models = {one["name"]: one for one in shown(calibrate, "models")["models"]}
    assert models["llama-3.1-8b"]["num_layers"] == 32
    formats = shown(calibrate, "formats")
    assert [one["name"] for one in formats["import"]] == list(IMPORTERS)
    assert [one["name"] for one in formats["export"]] == list(EXPORTERS)


def test_parameters_are_whole_as_json(calibrate):
    listed = {one["name"]: one for one in shown(calibrate, "parameters")["parameters"]}
    assert listed.keys() == PARAMETERS.keys()
    peak = listed["BwEffConstant"]
    assert (peak["lower"], peak["upper"], peak["unit"]) == (0.001, 1.0, "–")
    assert (peak["meaning"], peak["latency_models"]) == (
        "share of the peak memory bandwidth that is reached",
        ["roofline-v1"],
    )


@pytest.mark.parametrize(("name", "model"), LATENCY_MODELS.items())
def test_parameters_of_one_latency_model_are_its_own_and_the_times_around(calibrate, name, model):
    listed = shown(calibrate, "parameters", "--latency-model", name)["parameters"]
    wanted = [*model.parameter_set, *REQUEST_TIMES]
    assert [one["name"] for one in listed] == [parameter.name for parameter in wanted]
    assert [one["guide"] for one in listed] == [list(parameter.guide) for parameter in wanted]


@pytest.mark.parametrize("width", [80, 120])
def test_parameters_fit_a_terminal_with_nothing_cut(calibrate, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = calibrate("show", "parameters")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) < 4 * len(PARAMETERS)
    assert max(map(len, lines)) <= width
    said = " ".join(out.split())
    for parameter in PARAMETERS.values():
        assert f"{parameter.meaning}; seen in: {parameter.seen_in}" in said


def test_a_latency_model_narrows_parameters_only(calibrate):
    code, _, err = calibrate("show", "gpus", "--latency-model", "roofline-v1")
    assert code == 1
    assert "show gpus takes no --latency-model" in err
