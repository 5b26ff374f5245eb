"""``calibrate init``: a campaign folder to fill in, which the loader takes once it has rows."""

import json
import tomllib

import pytest

from calibrate.campaign.info import CampaignInfo, read_info
from calibrate.campaign.template import TEMPLATE_COLUMNS
from calibrate.records.schema import TABLES
from tests.conftest import ROOT

STEP = {
    **{"model": "llama-3.1-8b", "tp": 1, "num_prefill_requests": 1, "sum_prefill_tokens": 2048},
    **{"latency_us": 48211, "run_id": "a"},
}
POINT = {
    **{"model": "llama-3.1-8b", "tp": 1, "engine": "vllm 0.12.0", "load": "closed"},
    **{"concurrency": 8, "num_requests": 80, "input_tokens_mean": 512, "output_tokens_mean": 128},
    **{"ttft_ms_mean": 60.0, "itl_ms_mean": 9.0, "e2e_ms_mean": 1203.0, "run_id": "a"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(file, row):
    header = file.read_text().splitlines()[-1].split(",")
    assert row.keys() <= set(header)
    with file.open("a") as table:
        table.write(",".join(str(row.get(name, "")) for name in header) + "\n")


def errors(calibrate):
    code, out, _ = calibrate("validate", "--json")
    (campaign,) = json.loads(out)["campaigns"]
    return code, [one for one in campaign["problems"] if one["severity"] == "error"]


def test_a_campaign_is_made_for_a_gpu(here, calibrate):
    code, out, err = calibrate("init", "--gpu", "h100")
    assert (code, err) == (0, "")
    folder = here / "ground_truth/H100/first"
    assert {path.name for path in folder.iterdir()} == {"campaign.toml", "steps.csv", "serving.csv"}
    assert "ground_truth/H100/first/steps.csv" in out
    assert "calibrate validate --gpu H100 --campaign first" in out
    assert "--spec" not in out


def test_the_next_command_asks_for_the_peaks_of_an_unknown_gpu(here, calibrate):
    _, out, _ = calibrate("init", "--gpu", "MyGPU", "--campaign", "mine", "--ground-truth", "data")
    assert (
        "calibrate fit --gpu MyGPU --campaign mine --ground-truth data --spec TFlopsPeak=…" in out
    )


def test_a_folder_says_gpu_and_campaign(here, calibrate):
    code, out, _ = calibrate("init", "data/MyGPU/mine", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["folder"] == "data/MyGPU/mine"
    assert said["files"][0] == "data/MyGPU/mine/campaign.toml"
    assert said["next"][0].startswith(
        "calibrate validate --gpu MyGPU --campaign mine --ground-truth data"
    )


def test_validate_says_that_rows_are_wanted_and_nothing_else(here, calibrate):
    calibrate("init", "--gpu", "H100")
    code, found = errors(calibrate)
    assert code == 1
    assert {one["file"].rpartition("/")[2] for one in found} == {"steps.csv", "serving.csv"}
    assert {one["message"] for one in found} == {"has no complete row below its header"}


@pytest.mark.parametrize(
    ("table", "other", "row"), [("steps", "serving", STEP), ("serving", "steps", POINT)]
)
def test_a_table_with_a_row_passes_once_the_other_is_removed(here, calibrate, table, other, row):
    calibrate("init", "--gpu", "H100")
    folder = here / "ground_truth/H100/first"
    fill(folder / f"{table}.csv", row)
    (folder / f"{other}.csv").unlink()
    assert errors(calibrate) == (0, [])


def test_every_key_of_campaign_toml_is_explained_and_read(here, calibrate):
    calibrate("init", "--gpu", "H100")
    file = here / "ground_truth/H100/first/campaign.toml"
    text = file.read_text()
    assert read_info(file) == (CampaignInfo(title="first", hardware="H100"), [])
    for key, field in CampaignInfo.model_fields.items():
        assert f"{key} = " in text
        assert field.description in text


def test_keys_that_are_commented_out_read_as_they_stand(here, calibrate):
    calibrate("init", "--gpu", "H100")
    lines = (here / "ground_truth/H100/first/campaign.toml").read_text().splitlines()
    opened = [line.removeprefix("# ") for line in lines if " = " in line]
    info = CampaignInfo(**tomllib.loads("\n".join(opened)))
    assert info.latency_models == ("roofline-v4",)
    assert info.collected is not None


def test_the_columns_are_the_loaders_with_all_that_are_required():
    for table, columns in TEMPLATE_COLUMNS.items():
        known = {column.name for column in TABLES[table]}
        assert {column.name for column in TABLES[table] if column.required} <= set(columns) <= known


def test_what_is_there_is_not_overwritten(here, calibrate):
    calibrate("init", "--gpu", "H100")
    steps = here / "ground_truth/H100/first/steps.csv"
    fill(steps, STEP)
    text = steps.read_text()
    code, _, err = calibrate("init", "--gpu", "H100")
    assert code == 1
    assert "is there already; give another --campaign" in err
    assert steps.read_text() == text


def test_shipped_campaigns_are_copied_as_they_are_and_said(here, calibrate):
    code, out, err = calibrate("init", "--gpu", "h100", "--shipped")
    assert (code, err) == (0, "")
    copied = here / "ground_truth/H100"
    shipped = ROOT / "ground_truth/H100"
    assert files_of(copied) == files_of(shipped)
    assert out.endswith("  calibrate fit --gpu H100\n")
    code, _, err = calibrate("init", "--gpu", "H100", "--shipped")
    assert code == 1
    assert "is there already" in err


def test_one_shipped_campaign_is_named_with_its_ground_truth(here, calibrate):
    name = "inferencemax-2025-10-29"
    options = ("--campaign", name, "--ground-truth", "data", "--json")
    _, out, _ = calibrate("init", "--gpu", "H100", "--shipped", *options)
    said = json.loads(out)
    assert said["files"] == [f"data/H100/{name}"]
    assert said["next"] == ["calibrate fit --gpu H100 --ground-truth data"]


def files_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--shipped",), 2, "say of which GPU"),
        (("data/X/y", "--gpu", "H100", "--shipped"), 2, "give no FOLDER"),
        (("--gpu", "H1000", "--shipped"), 1, "did you mean 'H100'?"),
        (("--gpu", "../X"), 1, "is not a GPU name"),
        (("--gpu", "X", "--campaign", "../y"), 1, "is not a campaign name"),
        (("data/X/a b",), 1, "is not a campaign name"),
        (("mine",), 1, "of which GPU?"),
        ((), 2, "give --gpu GPU"),
        (("data/X/y", "--gpu", "X"), 2, "give --gpu GPU"),
        (("data/X/y", "--campaign", "z"), 2, "give --gpu GPU"),
    ],
)
def test_names_are_checked_and_nothing_is_made(here, calibrate, arguments, code, said):
    ended, _, err = calibrate("init", *arguments)
    assert ended == code
    assert said in err
    assert list(here.iterdir()) == []
