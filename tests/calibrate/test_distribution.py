"""The name under which pip knows the package, and where it is said."""

import re
import subprocess
import tomllib

import pytest

import calibrate
from calibrate.records.distribution import DISTRIBUTION, VERSION, install_extra
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_distribution_is_llm_calibrate_and_the_command_either_name():
    assert PROJECT["name"] == DISTRIBUTION == "llm-calibrate"
    assert PROJECT["scripts"] == dict.fromkeys(("calibrate", DISTRIBUTION), "calibrate.cli:main")


def test_the_version_has_one_home():
    assert "version" in PROJECT["dynamic"]
    assert calibrate.__version__ == VERSION


def test_an_extra_is_installed_by_the_name_of_the_distribution():
    assert install_extra("bench") == "pip install 'llm-calibrate[bench]'"
    assert {"bench", "mcmc", "silicon"} <= set(PROJECT["optional-dependencies"])


def test_every_extra_is_documented():
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    table = page[page.index("| extra |") :].partition("\n\n")[0]
    assert [name for name in PROJECT["optional-dependencies"] if f"`{name}`" not in table] == []


def test_no_page_and_no_message_names_the_strangers_package():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = [
        name for name in listed.stdout.split() if name.endswith((".py", ".md", ".toml", ".j2"))
    ]
    stranger = re.compile(
        r"(?<!llm-)calibrate\[(bench|mcmc|silicon|test|check)\]|\binstall calibrate\b"
    )
    found = [
        name
        for name in texts
        if stranger.search((ROOT / name).read_text(encoding="utf-8"))
        and name != "tests/calibrate/test_distribution.py"
    ]
    assert found == []
