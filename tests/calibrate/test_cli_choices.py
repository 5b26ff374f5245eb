"""Names that options take: in help, and as the shell completes them."""

import pytest

from calibrate.cli import choices
from calibrate.exporters import EXPORTERS
from calibrate.importers import IMPORTERS
from sim.hardware import gpu_specs
from sim.models.registry import LATENCY_MODELS


def test_the_names_are_those_of_the_registries():
    assert list(choices.LATENCY_MODELS) == list(LATENCY_MODELS)
    assert list(choices.IMPORT_FORMATS) == list(IMPORTERS)
    assert list(choices.EXPORT_FORMATS) == list(EXPORTERS)
    assert set(choices.KNOWN_GPUS) <= gpu_specs().keys()


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("fit", (*LATENCY_MODELS, "auto", *choices.KNOWN_GPUS)),
        ("simulate", LATENCY_MODELS),
        ("import", IMPORTERS),
        ("export", EXPORTERS),
    ],
)
def test_help_lists_the_names(calibrate, monkeypatch, command, names):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = calibrate(command, "-h")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    said = "".join(out.split())
    assert all(name in said for name in names)


def test_names_are_listed_in_words():
    assert choices.listed(["a"]) == "a"
    assert choices.listed(["a", "b", "c"]) == "a, b or c"


@pytest.fixture
def complete(calibrate, monkeypatch, workplace):
    """What bash is told when the last word of a command line is completed."""

    def completed(*words):
        monkeypatch.setenv("_CALIBRATE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["calibrate", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        code, out, _ = calibrate()
        assert code == 0
        return out.split()

    return completed


def test_latency_models_are_completed(complete):
    assert complete("fit", "--latency-model", "roofline-v2") == [
        "roofline-v2",
        "roofline-v2-interp",
    ]
    assert complete("fit", "--latency-model", "a") == ["auto"]
    assert complete("simulate", "--latency-model", "a") == []
    assert complete("show", "parameters", "--latency-model", "roofline-v4") == ["roofline-v4"]


def test_gpus_are_completed_those_measured_here_first(complete, workplace):
    (workplace / "ground_truth/L9").mkdir()
    assert complete("fit", "--gpu", "L")[:2] == ["L9", "L40S"]
    assert complete("recommend", "--gpu", "H20") == ["H200", "H200-NVL", "H20"]
    assert complete("validate", "--gpu", "MI35") == ["MI350X", "MI355X"]


def test_formats_and_commands_are_completed(complete):
    assert complete("import", "vllm") == ["vllm-bench", "vllm-latency"]
    assert complete("export", "blis-v") == ["blis-v1", "blis-v2"]
    assert complete("rec") == ["recommend"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_script(calibrate, monkeypatch, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = calibrate("--show-completion", shell)
    assert code == 0
    assert "_CALIBRATE_COMPLETE" in out
