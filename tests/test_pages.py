"""Every command that a page shows is run, and prints what the page shows; every piece of Python runs."""

import shlex
import shutil
import subprocess

import pytest
from typer.main import get_command

from calibrate.cli import app
from tests.conftest import ROOT
from tests.documents import blocks, commands, difference, same

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = "92"  # columns of the terminal that the pages show

pytestmark = pytest.mark.usefixtures("one_plot")


def make_clone(folder):
    """What a clone has, to be written into: campaigns, configurations, the samples of the tests."""
    for gpu in sorted((ROOT / "ground_truth").iterdir()):
        (folder / "ground_truth" / gpu.name).mkdir(parents=True)
        for campaign in gpu.iterdir():
            (folder / "ground_truth" / gpu.name / campaign.name).symlink_to(campaign)
    shutil.copytree(ROOT / "hardware_configs", folder / "hardware_configs")
    for name in ("docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone, and in it a terminal as wide as the pages'."""
    monkeypatch.chdir(make_clone(tmp_path))
    monkeypatch.setenv("COLUMNS", WIDTH)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name
)
@pytest.mark.slow
def test_commands_print_what_the_page_shows(page, clone, calibrate):
    for block in blocks(page, "console"):
        for shown in commands(block):
            printed = run(shown.command, calibrate)
            missing = difference(shown.output, printed)
            assert missing is None, f"$ {shown.command}\n{missing}\n\nprinted was\n{printed}"


def run(command, calibrate):
    """What a terminal would show: our own command in this process, others in a shell."""
    first, *rest = shlex.split(command)
    if first == "calibrate":
        _, out, err = calibrate(*rest)
        return out + err
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
@pytest.mark.slow
def test_python_runs(page, clone):
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)  # our own pages
    assert names.keys() > {"__builtins__"}


def told_commands():
    """Every command that stands in a page without its output: in indented blocks and those of a shell."""
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        for line in lines:
            words = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if words.startswith("calibrate ") and line.startswith(("    ", "calibrate ", "$ ")):
                yield pytest.param(words, id=f"{page.name}: {' '.join(words.split())[:60]}")


@pytest.mark.parametrize("command", list(told_commands()))
def test_a_command_of_a_page_is_one_that_there_is(command):
    _, name, *arguments = shlex.split(command, comments=True)
    known = get_command(app).commands[name]
    options = {option for parameter in known.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    assert given - options - {"--help"} == set()


# How output is compared


PRINTED = """
GPU      rows  error
────────────────────
H100      883   7.4%
H200    1,951   6.8%

report  reports/20261121/report.html
"""


@pytest.mark.parametrize(
    "shown",
    [
        PRINTED.splitlines(),
        ["…"],
        ["GPU rows error", "…"],
        ["…", "H200 1,950 6.9%", "report  reports/…/report.html"],
        ["GPU rows error", "…", "H100 883 7.4%", "…"],
    ],
)
def test_what_was_printed_agrees(shown):
    assert difference([line for line in shown if line], PRINTED) is None


@pytest.mark.parametrize(
    "shown",
    [
        ["GPU rows error"],  # more was printed, and no elision says so
        ["H100 883 7.4%", "…"],  # not at the start
        ["…", "H100 883 7.9%", "…"],  # another number
        ["…", "H100 883 7.4%", "report  reports/…"],  # a line between
        ["…", "H20 1,951 6.8%", "…"],
        ["…", "H300", "…"],
    ],
)
def test_what_was_not_printed_is_found(shown):
    assert difference(shown, PRINTED) is not None


def test_numbers_agree_to_two_percent_or_one_in_the_last_digit():
    assert same("error 7.4%", "error 7.5%")
    assert same("12,345 µs", "12,400 µs")
    assert not same("error 7.4%", "error 7.6%")
    assert not same("12,345 µs", "12,700 µs")
