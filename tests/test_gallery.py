"""The examples of the gallery and the notebooks run as they stand.

Each script runs in this process in what a clone has, without profiles where it shows none, and with one plot to a
report where it saves runs: a minute of processor time for all.
"""

import contextlib
import os
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from sim.models import registry
from tests.conftest import ROOT, no_profiles, one_plot
from tests.test_pages import make_clone

SCRIPTS = sorted((ROOT / "docs/gallery").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
EASED = {"profile_or_bootstrap": (), "compare_versions": (no_profiles, one_plot)}


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """What a clone has, with our command on the path; models that a script registers are forgotten after it."""
    monkeypatch.chdir(make_clone(tmp_path))
    here = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", here + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(registry, "LATENCY_MODELS", dict(registry.LATENCY_MODELS))
    yield tmp_path
    plt.close("all")


def test_there_are_fifteen_examples_and_two_notebooks():
    assert len(SCRIPTS) >= 15
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.slow
def test_an_example_runs(script, clone, capsys):
    with contextlib.ExitStack() as eased:
        for easing in EASED.get(script.stem, (no_profiles,)):
            eased.enter_context(easing())
        runpy.run_path(str(script))
    assert capsys.readouterr().out or plt.get_fignums()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
@pytest.mark.slow
def test_a_notebook_runs(notebook, monkeypatch):
    reason = "a notebook needs nbclient and ipykernel: pip install 'llm-calibrate[test]'"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "commit it without its outputs"
    client = nbclient.NotebookClient(
        content, timeout=300, resources={"metadata": {"path": str(notebook.parent)}}
    )
    client.execute()
