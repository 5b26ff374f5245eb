"""How the software says that it is cited."""

import json
import tomllib

import pytest
import yaml

from calibrate.records.citation import citation_file
from calibrate.records.distribution import DISTRIBUTION, VERSION
from tests.conftest import ROOT


def test_the_citation_file_is_what_the_command_prints(calibrate):
    code, out, _ = calibrate("cite", "--format", "cff")
    assert code == 0
    assert out == citation_file() == (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_citation_file_has_what_the_format_requires():
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= stated.keys()
    assert stated["version"] == VERSION
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert stated["license"] == project["license"]


@pytest.mark.parametrize("form", ["bibtex", "apa"])
def test_a_reference_names_title_year_and_version(calibrate, form):
    code, out, _ = calibrate("cite", "--format", form)
    assert code == 0
    stated = yaml.safe_load(citation_file())
    assert all(fact in out for fact in (stated["title"], stated["authors"][0]["name"], VERSION))
    assert "2026" in out


def test_bibtex_is_one_whole_entry(calibrate):
    _, out, _ = calibrate("cite")
    assert out.startswith("@software{calibrate,\n")
    assert out.count("{") == out.count("}")
    assert DISTRIBUTION in out


def test_every_form_is_in_the_json(calibrate):
    said = json.loads(calibrate("cite", "--json")[1])
    assert said.keys() == {"bibtex", "apa", "cff"}
    assert all(calibrate("cite", "--format", form)[1] == text for form, text in said.items())
