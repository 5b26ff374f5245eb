"""The report is drawn whatever MPLBACKEND says, and a notebook keeps its own backend."""

import importlib.util
import os
import subprocess
import sys

import pytest

DRAW = """
import lmfit
import calibrate.report
from calibrate.report.style import new_figure, save
from pathlib import Path
import sys
save(lambda: (new_figure(3, 2)[0], "caption"), "plot", "Title", Path(sys.argv[1]))
import matplotlib
print(matplotlib.get_backend(auto_select=False))
"""


def drawn(folder, backend):
    """The backend in force after a plot was drawn in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(folder)],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "plot.png").stat().st_size > 0
    return done.stdout.strip().lower()


def test_a_notebooks_backend_that_is_not_installed_gives_way_to_files(tmp_path):
    if importlib.util.find_spec("matplotlib_inline"):
        pytest.skip("matplotlib_inline is installed: the backend can be imported")
    assert drawn(tmp_path, "module://matplotlib_inline.backend_inline") == "agg"


def test_a_backend_that_matplotlib_does_not_know_gives_way_to_files(tmp_path):
    assert drawn(tmp_path, "nonsense") == "agg"


@pytest.mark.parametrize("backend", ["svg", "TkAgg"])
def test_a_backend_that_is_known_is_left_alone(tmp_path, backend):
    assert drawn(tmp_path, backend) == backend.lower()
