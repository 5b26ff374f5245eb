"""Runs and reports that several tests look at; each is made once."""

import pytest

from calibrate.report import draw_report
from calibrate.report.contents import complete_rows
from calibrate.report.html import write_report
from tests.report_sample import bare, enrich, plain_run


@pytest.fixture(scope="session")
def plain(made_once):
    """A run with nothing beyond what every fit says."""
    return made_once("plain", lambda folder: bare(plain_run(folder / "ground-truth")))


@pytest.fixture(scope="session")
def full(plain):
    """The same run with everything that a fit may say."""
    return enrich(plain)


@pytest.fixture(scope="session")
def report(full, made_once):
    """The folder with the report of the full run."""
    return made_once("full", lambda folder: draw_report(full, folder / "report").parent)


@pytest.fixture(scope="session")
def plain_report(plain, tmp_path_factory):
    """The folder with the page of the plain run, without its pictures."""
    folder = tmp_path_factory.mktemp("plain")
    write_report(plain, complete_rows(plain.predictions), [], folder)
    return folder
