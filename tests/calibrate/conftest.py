"""Runs and reports that several tests look at; each is made once."""

import pytest

from calibrate.report import draw_report
from tests.report_sample import enrich, plain_run


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A run with nothing beyond what every fit says: (result, predictions)."""
    return plain_run(tmp_path_factory.mktemp("ground-truth"))


@pytest.fixture(scope="session")
def full(plain):
    """The same run with everything that a fit may say."""
    return enrich(*plain)


@pytest.fixture(scope="session")
def folders(plain, full, tmp_path_factory):
    """The folders of both runs' reports, by name."""
    made = {}
    for name, (result, rows) in {"plain": plain, "full": full}.items():
        made[name] = tmp_path_factory.mktemp(name)
        draw_report(result, rows, made[name])
    return made
