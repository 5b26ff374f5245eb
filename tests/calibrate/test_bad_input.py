"""Whatever is wrong with the input, the command line says where, what and the fix, and writes nothing."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.cli import main
from sim import load_hardware
from sim.configuration import read_config
from tests.conftest import GUIDE_H100, one_plot
from tests.faults.children import command, end_after, seconds
from tests.synthetic import COUNTS, synthetic_steps, write_campaign

LOCK = ".hardware_config.json.lock"  # empty, and stays on purpose: removing it would break the lock
TRUE_VALUES = {"mfuPrefill": 0.5, "BwEffConstant": 0.8, "TOverheadMicros": 80.0}


@pytest.fixture
def place(tmp_path):
    return make_place(tmp_path / "place")


def make_place(root):
    """A folder with a good campaign, a configuration of two GPUs, and nothing else."""
    hardware = load_hardware({"H100": GUIDE_H100}, gpu="H100").with_values(TRUE_VALUES)
    steps = synthetic_steps(hardware, 40)
    write_campaign(root / "ground_truth", "H100", steps.assign(**OPTIONAL))
    other = {"L40S": {"TFlopsPeak": 362.05, "note": "keep me"}}
    (root / "hardware_config.json").write_text(
        json.dumps({"H100": GUIDE_H100, **other}, indent=4) + "\n"
    )
    return root


OPTIONAL = {
    "var_prefill_length": 0,
    "var_decode_kv_tokens": 0,
    "latency_std_us": 0,
    "replicates": 1,
}
NUMBERS = ("tp", *COUNTS, *OPTIONAL, "latency_us")


def options(root, *more, gpu="H100", starts=1):
    return [
        "fit",
        *(
            "--gpu",
            gpu,
            "--ground-truth",
            root / "ground_truth",
            "--hardware-config",
            root / "hardware_config.json",
        ),
        *("--out", root / "out", "--starts", str(starts), *more),
    ]


def state(root):
    """Every path under ``root`` with its bytes; empty folders and links too."""
    paths = (path for path in root.rglob("*") if path.name != LOCK)
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def refused(monkeypatch, capsys, place):
    """Run a command that must fail without touching ``place``; return what it said."""

    def run(*arguments, code=1, on="stderr"):
        before = state(place)
        monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert end.value.code == code
        assert "Traceback" not in out + err
        assert state(place) == before
        assert len(err) < 20_000
        return " ".join((err if code == 2 or on == "stderr" else out).split())

    return run


def table_of(place):
    return place / "ground_truth" / "H100" / "synthetic" / "steps.csv"


# -- files that hold no table ----------------------------------------------------------------------------------------

CONTENTS = {
    "empty": (b"", "is empty. Add a header and rows"),
    "blank": (b"\n \n\t\n", "steps.csv"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "only a header": (b"model,tp,latency_us\n", "has no complete row below its header"),
    "binary": (bytes(range(256)) * 20, "is not UTF-8 text"),
    "zero bytes": (b"model,tp\0,latency_us\n1,2,3\n", "holds zero bytes: a binary file"),
    "Latin-1": (
        "model,tp\nllàma,1\n".encode("latin-1"),
        "steps.csv:2: is not UTF-8 text (byte 11, 0xe0, is no part of it). Save it as UTF-8",
    ),
    "a cut-off quote": (b'model,tp\n"llama-3.1-8b,1\nx,2\n', "steps.csv:2: is not CSV"),
    "a column twice": (b"model,tp,tp\nllama-3.1-8b,1,1\n", "has the column 'tp' twice"),
    "another table": (b"when,what\n1,2\n", "the required column is missing (present: when, what)"),
    "JSON": (b'{"model": "llama-3.1-8b",\n "tp": 1}\n', "steps.csv"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.slow
def test_a_file_that_is_no_table_is_named_with_the_fix(place, refused, name):
    content, words = CONTENTS[name]
    table_of(place).write_bytes(content)
    said = refused(*options(place))
    assert str(table_of(place)) in said
    assert words in said


def test_a_missing_table_is_named_by_its_folder(place, refused):
    table_of(place).unlink()
    said = refused(*options(place))
    assert f"{table_of(place).parent}: holds no table. Add one of: steps.csv" in said


def test_a_ragged_row_is_named_by_its_line(place, refused):
    lines = table_of(place).read_text().splitlines()
    lines[6] += ",surplus"
    table_of(place).write_text("\n".join(lines))
    assert f"{table_of(place)}:7: has 16 fields, the header 15" in refused(*options(place))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
def test_a_truncated_file_is_named_by_its_last_line(place, refused, kept):
    text = table_of(place).read_text()
    cut = text.rindex(",", 0, int(kept * len(text)))
    table_of(place).write_text(text[:cut])
    line = text[:cut].count("\n") + 1
    assert f"{table_of(place)}:{line}: has " in (said := refused(*options(place)))
    assert "Complete the row (was the file cut off?)" in said


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + b"\0" * 200 + b"PAR1", b"model,tp\nx,1\n"]
)
def test_a_corrupt_parquet_file_is_named(place, refused, content):
    table_of(place).unlink()
    path = table_of(place).with_suffix(".parquet")
    path.write_bytes(content)
    assert f"{path}: not a Parquet file" in refused(*options(place))


def test_a_parquet_file_that_was_cut_off_is_named(place, refused):
    path = table_of(place).with_suffix(".parquet")
    pd.read_csv(table_of(place)).to_parquet(path)
    table_of(place).unlink()
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: not a Parquet file" in refused(*options(place))


def test_the_same_table_as_csv_and_as_parquet_is_refused(place, refused):
    pd.read_csv(table_of(place)).to_parquet(table_of(place).with_suffix(".parquet"))
    assert f"{table_of(place)}: stands beside steps.parquet. Keep one of the two" in refused(
        *options(place)
    )


def test_a_folder_in_the_place_of_a_table_is_named(place, refused):
    table_of(place).unlink()
    table_of(place).mkdir()
    assert f"{table_of(place)}: cannot be read" in refused(*options(place))


# -- cells -----------------------------------------------------------------------------------------------------------

BAD_NUMBERS = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "-1",
    "-1e300",
    "text",
    "0x10",
    "1,5",
    "١",
    "1" * 30,
    "1e30",
    "1e999",
)
ZERO_IS_LEGAL = {"sum_prefill_kv_tokens", *OPTIONAL}


def with_cell(place, column, value, line=5):
    """The good table with one cell replaced, as CSV."""
    frame = pd.read_csv(table_of(place), dtype=str)
    frame.loc[line - 2, column] = value
    frame.to_csv(table_of(place), index=False)


def check_named(said, place, column, value):
    assert f"{table_of(place)}:5: {column} = {value}: " in said
    assert re.search(
        r"must be a (positive|whole)? ?number|is larger than .*, beyond anything measurable", said
    )
    assert re.search(r"(Correct the|Check the unit)", said)


@pytest.mark.parametrize(
    ("column", "value"), list(zip(itertools.cycle(NUMBERS), BAD_NUMBERS, strict=False))
)
def test_a_bad_number_is_named_with_file_line_column_and_value(place, refused, column, value):
    with_cell(place, column, value)
    check_named(refused(*options(place, "--dry-run")), place, column, value)


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.slow
def test_a_bad_number_in_any_column_is_a_problem_with_the_same_words(place, column):
    """As the commands print them: see the test above."""
    for value in BAD_NUMBERS:
        with_cell(place, column, value)
        (campaign,) = load_campaigns(place / "ground_truth", "H100")
        errors = [str(problem) for problem in campaign.problems if problem.severity == "error"]
        check_named(" ".join(errors), place, column, value)


@pytest.mark.parametrize("column", [name for name in NUMBERS if name not in ZERO_IS_LEGAL])
def test_a_zero_that_makes_no_sense_is_named(place, refused, column):
    line = 4  # a mixed step: prefill and decode requests
    if column.startswith("num_"):  # without this phase's requests its tokens are left over
        named = {
            "num_prefill_requests": "sum_prefill_tokens",
            "num_decode_requests": "sum_decode_kv_tokens",
        }[column]
    else:
        named = column
    with_cell(place, column, "0", line)
    assert f"{table_of(place)}:{line}: {named} = " in refused(*options(place, "--dry-run"))


@pytest.mark.parametrize("column", sorted(ZERO_IS_LEGAL))
def test_a_zero_that_makes_sense_is_fitted(place, monkeypatch, capsys, column):
    with_cell(place, column, "0")
    monkeypatch.setattr(
        sys,
        "argv",
        ["calibrate", "validate", "--ground-truth", str(place / "ground_truth"), "--json"],
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["errors"] == 0


@pytest.mark.parametrize("value", ["", "0"])
def test_a_row_without_any_request_is_named(place, refused, value):
    frame = pd.read_csv(table_of(place), dtype=str)
    frame.loc[3, list(COUNTS)] = value
    frame.to_csv(table_of(place), index=False)
    assert f"{table_of(place)}:5: num_prefill_requests = " in (said := refused(*options(place)))
    assert "a step without any request. Fill in the batch columns" in said


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("model", "", "is empty. Fill it in"),
        ("model", "lama-3.1-8b", "did you mean 'llama-3.1-8b'?"),
        ("model", "Llama-3.1-8B-Instuct", "did you mean 'meta-llama/llama-3.1-8b-instruct'?"),
        ("model", "../../../../etc", "neither in the registry nor a folder with a config.json"),
        ("model", "/etc/passwd", "/etc/passwd:1: not readable JSON"),
        ("dtype", "fp7", "is not a weight type (known: fp32, bf16"),
        (
            "sum_prefill_tokens",
            "1",
            "fewer tokens than prefill requests. Give new tokens summed over all requests",
        ),
        (
            "sum_decode_kv_tokens",
            "1",
            "fewer context tokens than decode requests. Give the context summed",
        ),
        ("latency_us", "", "is empty. Fill it in"),
    ],
)
def test_a_cell_that_makes_no_sense_is_named_with_the_fix(place, refused, column, value, words):
    frame = pd.read_csv(table_of(place))
    line = 2 + int(
        ((frame["num_prefill_requests"] > 1) & (frame["num_decode_requests"] > 1))
        .to_numpy()
        .argmax()
    )
    with_cell(place, column, value, line)
    said = refused(*options(place))
    assert f"{table_of(place)}:{line}: {column} = " in said
    assert words in said


@pytest.mark.parametrize(
    ("divisor", "cause"),
    [
        (
            1000,
            "Probably milliseconds given as microseconds, or seconds as milliseconds: multiply by 1000",
        ),
        (1e6, "Probably seconds given as microseconds: multiply by 1000000"),
        (8, "Check the unit, the model, tp and the GPU"),
        (3.2, "Probably fp8 or int4 weights"),
    ],
)
def test_steps_faster_than_physics_come_with_the_likely_cause(place, refused, divisor, cause):
    frame = pd.read_csv(table_of(place))
    frame.assign(latency_us=frame["latency_us"] / divisor).to_csv(table_of(place), index=False)
    said = refused(*options(place))
    assert (
        "faster than physics: H100's peaks (989.5 dense TFLOP/s, 3.35 TB/s) allow no less than"
        in said
    )
    assert cause in said


# -- names -----------------------------------------------------------------------------------------------------------

PATHS = ("../../etc", "H100/../x", "a\\b", "/etc", "..", "")


@pytest.mark.parametrize("gpu", PATHS)
@pytest.mark.parametrize("command", ["fit", "validate", "import"])
def test_a_gpu_name_with_a_path_in_it_is_refused(place, refused, command, gpu):
    truth = ("--ground-truth", place / "ground_truth")
    arguments = {
        "fit": options(place, gpu=gpu),
        "validate": ["validate", "--gpu", gpu, *truth],
        "import": [
            "import",
            "splitwise",
            place / "none.csv",
            "--gpu",
            gpu,
            "--campaign",
            "new",
            *truth,
        ],
    }[command]
    assert f"{gpu!r} is not a GPU name: use letters, digits" in refused(*arguments)


@pytest.mark.parametrize("campaign", PATHS)
@pytest.mark.parametrize("command", ["fit", "validate", "import"])
def test_a_campaign_name_with_a_path_in_it_is_refused(place, refused, command, campaign):
    (place / "etc").mkdir()
    truth = ("--ground-truth", place / "ground_truth")
    arguments = {
        "fit": options(place, "--campaign", campaign),
        "validate": ["validate", "--gpu", "H100", "--campaign", campaign, *truth],
        "import": [
            "import",
            "splitwise",
            place / "none.csv",
            "--gpu",
            "H100",
            "--campaign",
            campaign,
            *truth,
        ],
    }[command]
    assert re.search(r"no campaign '|is not a campaign name", refused(*arguments))


@pytest.mark.parametrize(
    ("gpu", "words"),
    [("H10", "did you mean 'H100'?"), ("Z9", "(it has H100)"), ("L40S", "(it has H100)")],
)
def test_a_gpu_without_campaigns_is_named_with_those_that_have_some(place, refused, gpu, words):
    arguments = options(
        place,
        *(
            ["--spec", "TFlopsPeak=100", "--spec", "BwPeakTBs=2"]
            if gpu != "L40S"
            else ["--spec", "BwPeakTBs=1"]
        ),
        gpu=gpu,
    )
    said = refused(*arguments)
    assert f"no campaigns for GPU {gpu!r}" in said
    assert words in said


def test_a_gpu_that_nobody_knows_comes_with_the_nearest_and_the_way_to_add_it(place, refused):
    said = refused(*options(place, gpu="H1000"))
    assert "GPU 'H1000' is neither in" in said
    assert "did you mean 'H100'?" in said
    assert "--spec TFlopsPeak=… --spec BwPeakTBs=…" in said


def test_a_missing_ground_truth_folder_is_named(place, refused):
    shutil.rmtree(place / "ground_truth")
    assert "ground_truth: no such ground-truth folder. Give it with --ground-truth" in refused(
        *options(place)
    )
    refused("validate", "--ground-truth", place / "ground_truth")


@pytest.mark.parametrize("command", [("fit", "--gpu", "H100"), ("init", "--gpu", "H100")])
def test_campaigns_at_a_url_are_refused_with_what_works(refused, command):
    said = refused(*command, "--ground-truth", "s3://bucket/ground_truth", code=2)
    assert "campaigns lie in a folder of this machine" in said
    assert 'dataset = "s3://bucket/steps"' in said


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--fix", "mfuPrefil"], 1, "mfuPrefill"),
        (["--fix", "mfuPrefill=9"], 1, "mfuPrefill = 9 is outside its bounds"),
        (["--fix", "mfuPrefill=x"], 2, "'mfuPrefill=x': give NAME=NUMBER"),
        (["--fix", "mfuPrefill=nan"], 2, "'mfuPrefill=nan': give NAME=NUMBER"),
        (["--spec", "TFlopsPeak"], 2, "'TFlopsPeak': give NAME=NUMBER"),
        (["--spec", "TFlopPeak=100"], 1, "did you mean 'TFlopsPeak'?"),
        (["--spec", "TFlopsPeak=-1"], 1, "TFlopsPeak must not be negative"),
        (["--spec", "TFlopsPeak=0"], 1, "TFlopsPeak must be a valid positive number, got 0"),
        (["--loss", "soft"], 1, "did you mean 'soft_l1'"),
        (["--floor", "0"], 1, "floor must be between 0 and 1"),
        (["--floor", "nan"], 1, "floor must be between 0 and 1"),
        (["--starts", "0"], 2, "--starts"),
        (["--seed", "-1"], 2, "--seed"),
        (["--latency-model", "roofline"], 1, "did you mean 'roofline-v"),
        (["--colour"], 2, "--colour"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(place, refused, more, code, words):
    assert words in refused(*options(place, *more), code=code)


# -- configurations --------------------------------------------------------------------------------------------------


def config_with(**changed):
    return json.dumps({"H100": {**GUIDE_H100, **changed}})


CONFIGS = {
    "empty": ("", "not readable JSON"),
    "cut off": (config_with()[:-20], "not readable JSON"),
    "a list": ("[1, 2]", "must hold a JSON object with one block per GPU"),
    "binary": (b"\xff\x00\xfe", "is not UTF-8 text (byte 0, 0xff, "),
    "a key twice": (
        '{"H100": {"TFlopsPeak": 1, "TFlopsPeak": 2}}',
        "the key 'TFlopsPeak' stands there twice. Keep one",
    ),
    "a key twice in another case": (
        config_with(MFUPREFILL=0.5),
        "GPU H100 has mfuPrefill twice (in different case)",
    ),
    "a GPU twice in another case": (
        '{"H100": {}, "h100": {}}',
        "has GPU h100 twice (in different case); keep one",
    ),
    "a block that is no object": ('{"H100": [1]}', "the block of GPU H100 must be a JSON object"),
    "a zero": (
        config_with(BwEffConstant=0),
        "BwEffConstant must be a valid positive number, got 0",
    ),
    "a zero peak": (config_with(TFlopsPeak=0), "TFlopsPeak must be a valid positive number, got 0"),
    "a zero bandwidth": (
        config_with(BwPeakTBs=0),
        "BwPeakTBs must be a valid positive number, got 0",
    ),
    "a zero mfu": (config_with(mfuPrefill=0), "mfuPrefill must be a valid positive number, got 0"),
    "text": (config_with(mfuDecode="0.12"), "mfuDecode must be a valid number, got '0.12'"),
    "null": (config_with(mfuDecode=None), "mfuDecode must be a valid number, got None"),
    "true": (config_with(mfuDecode=True), "mfuDecode must be a valid number, got True"),
    "negative": (config_with(TOverheadMicros=-5), "TOverheadMicros must not be negative, got -5"),
    "NaN": (
        config_with(mfuDecode=float("nan")),
        "NaN is not a number that a configuration may hold",
    ),
    "infinity": (
        config_with(mfuDecode=float("inf")),
        "Infinity is not a number that a configuration may hold",
    ),
    "too large": (
        '{"H100": {"unknown": 1e999}}',
        "1e999 is not a number that a configuration may hold",
    ),
    "too many digits": (
        '{"H100": {"unknown": ' + "9" * 5000 + "}}",
        "a number is too large: it has more than 300 digits",
    ),
    "too deep": ('{"a":' * 100_000, "is nested more than 64 levels deep"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_malformed_configuration_is_named_with_what_is_wrong(place, refused, name):
    content, words = CONFIGS[name]
    path = place / "hardware_config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused(*options(place))
    assert str(path) in said
    assert words in said


@pytest.mark.parametrize("name", ["cut off", "a key twice", "text", "NaN", "a zero peak"])
def test_validate_too_names_a_malformed_configuration(place, refused, name):
    path = place / "hardware_config.json"
    path.write_text(CONFIGS[name][0])
    said = refused("validate", "--ground-truth", place / "ground_truth", "--hardware-config", path)
    assert str(path) in said
    assert CONFIGS[name][1] in said


@pytest.mark.parametrize("command", ["plan", "evaluate"])
def test_a_missing_configuration_that_was_asked_for_is_named(place, refused, command):
    config = place / "none.json"
    said = refused(command, "--gpu", "H100", "--hardware-config", config)
    assert "none.json: no such hardware configuration file" in said


@pytest.mark.parametrize("content", ["title = ", 'kind = "guessed"', "title = 3", b"\xff\xfe\x00"])
def test_a_malformed_campaign_file_is_named(place, refused, content):
    path = table_of(place).with_name("campaign.toml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused(*options(place))
    assert f"{path}:" in said
    assert "Correct it" in said or "Save it as UTF-8" in said


def test_validate_names_the_same_problem_on_its_output(place, refused):
    with_cell(place, "latency_us", "-1")
    said = refused("validate", "--ground-truth", place / "ground_truth", "--json", on="stdout")
    (error,) = (p for p in json.loads(said)["campaigns"][0]["problems"] if p["severity"] == "error")
    assert (error["file"], error["lines"], error["column"], error["value"]) == (
        str(table_of(place)),
        [5],
        "latency_us",
        "-1",
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b'"cut off'])
def test_a_source_that_no_importer_can_read_is_named(place, refused, content):
    source = place / "perf_model.csv"
    source.write_bytes(content)
    truth = ("--ground-truth", place / "ground_truth")
    assert str(source) in refused(
        "import", "splitwise", source, "--gpu", "H100", "--campaign", "new", *truth
    )
    said = refused("import", "splitwize", source, "--gpu", "H100", "--campaign", "new", *truth)
    assert "did you mean 'splitwise'?" in said


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_folder_that_is_no_run_is_named(place, refused, command):
    assert "result.json" in refused(command, *[place] * (2 if command == "compare" else 1))


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_read_only_configuration_is_left_alone(place, refused):
    (place / "hardware_config.json").chmod(0o444)
    said = refused(*options(place))
    assert (
        "hardware_config.json: is read-only; make it writable or give another --hardware-config"
        in said
    )


@pytest.mark.usefixtures("one_plot")
def test_an_output_folder_that_is_a_file_is_named(place, refused):
    (place / "out").write_text("I am a file")
    assert f"{place / 'out' / 'H100'}: the report cannot be written" in refused(*options(place))


@pytest.fixture
def full_disk(tmp_path):
    """A file system with a few free kilobytes."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder, leave=0):
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 1024)
        except OSError:
            file.truncate(max(file.tell() - leave, 0))


@pytest.mark.usefixtures("one_plot")
def test_a_full_disk_under_the_configuration_leaves_it_whole(place, refused, full_disk):
    path = full_disk / "hardware_config.json"
    shutil.copy(place / "hardware_config.json", path)
    fill(full_disk)
    before = state(full_disk)
    arguments = [
        path if argument == place / "hardware_config.json" else argument
        for argument in options(place)
    ]
    said = refused(*arguments)
    assert f"{path}: cannot be written: No space left on device; the file is as it was" in said
    assert state(full_disk) == before


@pytest.mark.usefixtures("one_plot")
def test_a_full_disk_under_the_reports_leaves_nothing_there(place, refused, full_disk):
    fill(full_disk)
    before = state(full_disk)
    arguments = [
        full_disk if argument == place / "out" else argument for argument in options(place)
    ]
    said = refused(*arguments)
    assert "the report cannot be written: No space left on device; nothing was written" in said
    assert state(full_disk) == before


# -- the process itself ----------------------------------------------------------------------------------------------


def start(*arguments):
    """The command in a process of its own that says when it is about to begin."""
    code = "from calibrate.cli import main; print('ready', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("option", [["--gpu", "../x"], ["--gpu", "H100", "--colour"], []])
@pytest.mark.slow
def test_a_real_process_fails_without_a_traceback(place, option):
    command = [
        shutil.which("calibrate", path=str(Path(sys.executable).parent)) or "calibrate",
        "fit",
        *option,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=place)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert sorted(path.name for path in place.iterdir()) == ["ground_truth", "hardware_config.json"]


def test_a_closed_pipe_is_no_traceback(place):
    process = start("show", "models")
    process.stdout.close()
    assert process.wait(30) in (0, 1)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


MOMENTS = 6


@pytest.fixture(scope="module")
def whole(made_once):
    """How long an undisturbed fit of ``place`` takes in a child of this process, and what it writes."""

    def fit_whole(folder):
        root = make_place(folder / "place")
        took_s = seconds(interruptible(root), folder / "said")
        return took_s, (root / "hardware_config.json").read_bytes()

    with one_plot():
        return made_once("interrupted", fit_whole)


def interruptible(root):
    """A fit that Ctrl-C interrupts, also where this process ignores it; once done it dies of it, as Python does."""

    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            command(*options(root))()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    return work


def check_interrupted(place, code, said, end, old, new):
    """What an interrupted fit leaves is what was, or all that it makes."""
    config = place / "hardware_config.json"
    written = config.read_bytes() != old
    interrupted = 128 + end if end == signal.SIGTERM else 1
    # A finished Python dies of it
    assert code in (0, interrupted, *([-end] if written else [])), said
    assert "Traceback" not in said
    assert code != interrupted or "Interrupted" in said
    assert config.read_bytes() in (old, new)
    assert set(read_config(config)) == {"H100", "L40S"}
    beside = {path.name for path in place.iterdir()} - {"ground_truth", "out", LOCK}
    assert beside - {"hardware_config.json.bak"} == {"hardware_config.json"}
    runs = (
        [path for path in (place / "out").rglob("*") if path.is_file()]
        if (place / "out").exists()
        else []
    )
    assert bool(runs) == written
    assert not any(path.name.startswith(".") for path in (place / "out").rglob("*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
@pytest.mark.usefixtures("one_plot")
@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.slow
def test_an_interrupt_at_any_moment_leaves_the_configuration_old_or_new(
    place, whole, tmp_path, moment
):
    whole_s, new = whole
    end = signal.SIGTERM if moment % 2 else signal.SIGINT
    old = (place / "hardware_config.json").read_bytes()
    said = tmp_path / "said"
    code = end_after(interruptible(place), 0.02 + whole_s * moment / MOMENTS, said, end)
    check_interrupted(place, code, said.read_text(), end, old, new)


@pytest.mark.parametrize(("end", "moment_s"), [(signal.SIGINT, 0.1), (signal.SIGTERM, 0.4)])
def test_an_interrupt_of_a_process_that_still_imports_is_no_traceback(place, whole, end, moment_s):
    old = (place / "hardware_config.json").read_bytes()
    process = start(*options(place))
    time.sleep(moment_s)
    process.send_signal(end)
    out, err = process.communicate(timeout=120)
    check_interrupted(place, process.returncode, out + err, end, old, whole[1])


WRITER = """
import itertools, sys
from pathlib import Path
from calibrate.records.config_writer import write_config
print("ready", flush=True)
for i in itertools.count():
    write_config(Path(sys.argv[1]), "H100", {"mfuPrefill": 0.1 + i % 7 / 10, "new key": float(i)})
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file_with_every_other_gpu(place):
    config = place / "hardware_config.json"
    filler = {f"GPU{i}": {**GUIDE_H100, "note": "x" * 200} for i in range(60)}
    config.write_text(json.dumps({**read_config(config), **filler}, indent=4))
    others = {gpu: block for gpu, block in read_config(config).items() if gpu != "H100"}
    for moment in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(config)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.005 * 2**moment)
        process.kill()
        process.wait(10)
        process.stdout.close()
        now = read_config(config)
        assert {gpu: block for gpu, block in now.items() if gpu != "H100"} == others
        assert set(now["H100"]) - {"new key"} == set(GUIDE_H100)
    assert "new key" in read_config(config)["H100"]
    assert set(read_config(config.with_name(config.name + ".bak"))) == set(now)
