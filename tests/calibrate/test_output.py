"""Where -o, --steps and --html may write: files, links, devices, FIFOs, standard output."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from calibrate.records.files import is_stream, replace_text

STEPS = (
    "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens\n"
    "llama-3.1-8b,1,1,2048,0,0\n"
)
SERVED = ("--model", "llama-3.1-8b", "--gpu", "H100", "--num-requests", 2, "--rate", 1)
LENGTHS = ("--prompt-tokens", 9, "--output-tokens", 2)


@pytest.fixture
def steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.csv").write_text(STEPS)
    return tmp_path / "steps.csv"


def read_in_background(fifo):
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    return reader, read


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o640)
    before = path.stat()
    replace_text(path, "new")
    after = path.stat()
    assert path.read_text() == "new"
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    os.chown(path, 1234, 4321)
    replace_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("present", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, present):
    target = tmp_path / "folder" / "target.csv"
    target.parent.mkdir()
    if present:
        target.write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to("folder/target.csv")
    replace_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_fifo_is_written_into_and_stays(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader, read = read_in_background(fifo)
    replace_text(fifo, "through")
    reader.join(10)
    assert read == ["through"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_swallows_and_stays():
    replace_text(Path(os.devnull), "gone")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(
    ("path", "passes"),
    [("-", True), ("/dev/stdout", True), ("/dev/fd/1", True), ("/dev/null", True), (".", False)],
)
def test_what_merely_passes_through_is_told(path, passes):
    assert is_stream(Path(path)) == passes


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output(steps, calibrate, output):
    code, out, _ = calibrate("predict", steps, "--gpu", "H100", "-o", output)
    assert code == 0
    assert out == calibrate("predict", steps, "--gpu", "H100")[1]
    assert out.startswith("model,tp,")
    assert sorted(path.name for path in steps.parent.iterdir()) == ["steps.csv"]


def test_the_words_beside_a_table_on_standard_output_go_to_standard_error(steps, calibrate):
    code, out, err = calibrate("simulate", *SERVED, *LENGTHS, "-o", "-")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "TTFT" not in out
    assert "TTFT" in err


def test_standard_output_takes_no_table_beside_json(steps, calibrate):
    code, out, err = calibrate("simulate", *SERVED, *LENGTHS, "-o", "-", "--json")
    assert (code, list(json.loads(out))) == (1, ["error"])
    assert "--json takes standard output" in err


def test_a_plan_and_an_export_need_no_force_for_a_device(steps, calibrate):
    common = ("--gpu", "H100", "--budget", 1, "--ground-truth", "none", "--models", "llama-3.1-8b")
    code, out, _ = calibrate("plan", *common, "--tp", 1, "-o", os.devnull)
    assert (code, "plan" in out) == (0, True)
    (steps.parent / "hw.json").write_text('{"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}')
    given = ("--gpu", "H100", "--hardware-config", "hw.json")
    code, _, err = calibrate("export", "json", *given, "-o", os.devnull)
    assert code == 0, err
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_page_on_standard_output_is_alone_there(steps, calibrate):
    config = steps.parent / "hw.json"
    config.write_text('{"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}')
    code, out, err = calibrate("compare", config, config, "--html", "-")
    assert code == 0, err
    assert out.lstrip().lower().startswith("<!doctype html>")
    assert "Parameters" in err


def test_a_folder_that_is_missing_is_named_before_anything_is_done(steps, calibrate):
    code, _, err = calibrate("compare", "a", "b", "--html", "none/page.html")
    assert code == 1
    assert "none: no such folder to write page.html into" in err
