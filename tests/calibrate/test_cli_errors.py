"""What a command says when it fails: words on standard error, and one JSON document where JSON was asked for."""

import json
import os
import subprocess
import sys

import pytest

from calibrate.cli import app
from calibrate.cli.failure import wants_json

KEYS = {"message", "file", "line", "column", "value", "fix", "exit_code", "problems"}


def error_of(out):
    (key, error), *others = json.loads(out).items()
    assert (key, others) == ("error", [])
    assert error.keys() == KEYS
    return error


@pytest.fixture
def bad_campaign(tmp_path, monkeypatch):
    """A campaign whose third line has a negative latency, and whose fifth has no number."""
    folder = tmp_path / "ground_truth/H100/mine"
    folder.mkdir(parents=True)
    header = "model,tp,num_prefill_requests,sum_prefill_tokens,latency_us"
    rows = [f"llama-3.1-8b,1,1,2048,{time}" for time in ("48211", "-5", "48211", "soon")]
    (folder / "steps.csv").write_text("\n".join([header, *rows]) + "\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("bad_campaign")
def test_an_error_as_json_names_file_line_column_value_and_fix(calibrate):
    code, out, err = calibrate("fit", "--gpu", "H100", "--dry-run", "--json")
    error = error_of(out)
    assert (code, error["exit_code"]) == (1, 1)
    assert error["file"] == "ground_truth/H100/mine/steps.csv"
    assert (error["line"], error["column"], error["value"]) == (3, "latency_us", "-5")
    assert error["fix"]
    lines = [one["lines"] for one in error["problems"] if one["severity"] == "error"]
    assert lines == [[3, 5]]
    assert f"calibrate: {error['message']}" in err


@pytest.mark.usefixtures("bad_campaign")
def test_an_error_without_json_is_words_only(calibrate):
    code, out, err = calibrate("fit", "--gpu", "H100", "--dry-run")
    assert code == 1
    assert "{" not in out
    assert err.startswith("calibrate: ground_truth/H100/mine/steps.csv:3: latency_us = -5: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "--json"), "--gpu"),
        (("fit", "--gpu", "H100", "--starts", "none", "--json"), "--starts"),
        (("show", "cars", "--json"), "cars"),
        (("nonsense", "--json"), "nonsense"),
    ],
)
def test_wrong_usage_as_json_exits_with_2_and_says_what(workplace, calibrate, arguments, said):
    code, out, err = calibrate(*arguments)
    error = error_of(out)
    assert (code, error["exit_code"]) == (2, 2)
    assert said in error["message"]
    assert error["message"] in err


def test_a_missing_file_is_named_in_json(workplace, calibrate):
    code, out, _ = calibrate(
        "evaluate", "--gpu", "H100", "--hardware-config", "absent.json", "--json"
    )
    assert (code, error_of(out)["file"]) == (1, "absent.json")


def test_what_the_system_refuses_is_named_in_json(workplace, calibrate):
    code, out, _ = calibrate("predict", "-o", "ground_truth", *predicted(workplace), "--json")
    assert (code, error_of(out)["file"]) == (1, "ground_truth")


def predicted(workplace):
    (steps,) = workplace.glob("ground_truth/H100/*/steps.csv")
    return steps, "--gpu", "H100"


def test_a_terminal_that_lacks_a_sign_is_named_with_the_fix():
    code = (
        "import sys; from calibrate.cli import main; sys.argv[1:] = ['show', 'parameters']; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("calibrate: standard output is ascii, which lacks ")
    assert "set PYTHONUTF8=1" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_every_command_takes_json_and_the_short_form_of_help(calibrate):
    for command in app.registered_commands:
        code, out, _ = calibrate(command.name, "-h")
        assert code == 0
        assert "-h, --help" in out, command.name
        assert "--json" in out, command.name


def test_the_short_form_of_help_lists_the_commands(calibrate):
    assert calibrate("-h")[:2] == calibrate("--help")[:2]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [(["show", "--json"], True), (["show"], False), (["report", "--", "--json"], False)],
)
def test_json_is_asked_for_by_an_option_only(arguments, wanted):
    assert wants_json(arguments) is wanted
