"""The report is drawn whatever MPLBACKEND says, and a notebook keeps its own backend."""

import importlib.util
import os
import subprocess
import sys

import pytest

from calibrate.records.backend import drawing_to_files, leave_missing_backend

INLINE = "module://matplotlib_inline.backend_inline"
DRAW = """
import sys
from pathlib import Path
import calibrate
import lmfit
from calibrate.report.style import new_figure, save
save(lambda: (new_figure(3, 2)[0], "caption"), "plot", "Title", Path(sys.argv[1]))
"""
COMMAND = "import sys; from calibrate.cli import main; sys.argv[0] = 'calibrate'; main()"
SERVED = ("simulate", "--model", "llama-3.1-8b", "--gpu", "H100", "--num-requests", "2")
LENGTHS = ("--prompt-tokens", "9", "--output-tokens", "2", "--rate", "1", "--plots", "plots")


def run(folder, backend, *command):
    environment = {**os.environ, "MPLBACKEND": backend}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_python_draws_where_the_notebooks_backend_is_not_installed(tmp_path):
    done = run(tmp_path, "module://no_such_notebook.inline", sys.executable, "-c", DRAW, ".")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plot.png").stat().st_size > 0


@pytest.mark.parametrize("backend", [INLINE, "nonsense"])
@pytest.mark.slow
def test_a_command_draws_whatever_is_set(tmp_path, backend):
    done = run(tmp_path, backend, sys.executable, "-c", COMMAND, *SERVED, *LENGTHS)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots/latencies.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("found", "backend"), [(None, "Agg"), (object(), INLINE)], ids=["missing", "installed"]
)
def test_only_a_backend_that_is_not_installed_is_left(monkeypatch, found, backend):
    monkeypatch.setenv("MPLBACKEND", INLINE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    leave_missing_backend()
    assert os.environ["MPLBACKEND"] == backend


@pytest.mark.parametrize("before", [None, INLINE])
def test_the_environment_is_as_it_was_after_a_command(monkeypatch, before):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if before:
        monkeypatch.setenv("MPLBACKEND", before)
    with drawing_to_files():
        assert os.environ["MPLBACKEND"] == "Agg"
    assert os.environ.get("MPLBACKEND") == before
