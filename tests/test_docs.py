"""The documents keep up with the code."""

import re

import pytest
import yaml

from calibrate.cli import app
from calibrate.exporters import EXPORTERS, export
from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import Serving
from calibrate.importers import IMPORTERS
from calibrate.records.meanings import MEANINGS, documented_rows
from calibrate.records.schema import TABLES
from sim.models.registry import PARAMETERS
from tests.conftest import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_is_short_and_shows_a_report():
    assert len(text("README.md").splitlines()) < 120
    assert "docs/report.png" in text("README.md")


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_documented_with_its_bounds(name):
    line = next(
        line for line in text("docs/parameters.md").splitlines() if line.startswith(f"| `{name}`")
    )
    parameter = PARAMETERS[name]
    assert f"{parameter.lower:g} – {parameter.upper:g}" in line
    assert f"{parameter.guide[0]:g} – {parameter.guide[1]:g}" in line
    assert parameter.meaning in line


@pytest.mark.parametrize(
    "column", [c.name for c in TABLES["steps"] if not c.name.startswith("var_")]
)
def test_every_column_of_steps_is_documented(column):
    assert f"`{column}`" in text("docs/campaigns.md")


@pytest.mark.parametrize("table", MEANINGS)
def test_columns_are_documented_as_the_loader_takes_them(table):
    told = [name for meaning in MEANINGS[table] for name in meaning.names]
    assert sorted(told) == sorted(column.name for column in TABLES[table])
    rows = text("docs/campaigns.md").splitlines()
    assert [row for row in documented_rows(table) if row not in rows] == []


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_has_its_paragraph(name):
    assert f"**{name}**" in text("docs/campaigns.md")


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_has_its_paragraph(name):
    assert f"**{name}**" in text("docs/exports.md")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("llm-d-inference-sim", 0),
        ("blis-v2", 1),
        ("aiconfigurator", 2),
        ("genz", 3),
        ("llm-optimizer", 4),
    ],
)
def test_the_samples_of_exports_are_what_is_written(name, number, h100):
    sample = re.findall(r"```(?:json|yaml)\n(.*?)```", text("docs/exports.md"), re.DOTALL)[number]
    source = Source(h100, serving=Serving(("llama-3.1-8b",)))
    assert numbers_of(yaml.safe_load(sample)) == pytest.approx(
        numbers_of(yaml.safe_load(export(name, source).text))
    )


@pytest.mark.parametrize(("name", "exporter"), EXPORTERS.items())
def test_every_exporter_stands_in_the_table_as_the_list_shows_it(name, exporter):
    about = (exporter.tool, exporter.version, exporter.checked, exporter.status)
    assert f"| `{name}` | {' | '.join(about)} | " in text("docs/exports.md")


@pytest.mark.parametrize(
    "name",
    [
        *("dynamo-planner", "sglang-simulator", "llm-d-inference-sim", "autoscaler"),
        *("vidur", "llmservingsim"),
    ],
)
def test_the_table_of_exports_states_the_errors_that_the_files_state(name, h100):
    notes = export(name, Source(h100, serving=Serving(("llama-3.1-8b",)))).notes
    row = next(line for line in text("docs/exports.md").splitlines() if f"| `{name}` |" in line)
    means = [float(number) for number in re.findall(r"mean ([\d.]+)%", " ".join(notes))]
    assert [f"{mean:.1f}" for mean in means] == re.findall(r"([\d.]+)%", row)


def numbers_of(content, path=""):
    if isinstance(content, dict):
        return {
            k: v
            for key, part in content.items()
            for k, v in numbers_of(part, f"{path}.{key}").items()
        }
    return {path: content}


def test_every_command_is_in_the_readme():
    for command in app.registered_commands:
        assert re.search(rf"calibrate {command.name}", text("README.md")), command.name


def test_every_make_target_is_in_the_readme():
    for target in re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE):
        assert target == "help" or f"make {target}" in text("README.md"), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
        assert not target.startswith(("generated/", "auto_gallery/")), (
            "there once the site is built"
        )
