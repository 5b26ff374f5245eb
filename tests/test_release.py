"""The release's checks say what was done, what was not, and what failed."""

import json
import sys

import pytest

from tests.release.__main__ import _close
from tests.release.audit import judged
from tests.release.checks import Check, tried


def report(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


OWN = {"name": "llm-calibrate", "skip_reason": "not found on PyPI"}
CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "scipy", "skip_reason": "not found on PyPI"}
HOLED = {"name": "jinja2", "version": "3.1.4", "vulns": [{"id": "CVE-2024-56326"}]}


@pytest.mark.parametrize(
    ("packages", "ended", "words"),
    [
        ((OWN, CLEAN), "passed", "no known vulnerability in 1 packages"),
        ((OWN, CLEAN, UNKNOWN), "not done", "does not answer for 1 of 2 packages (scipy …)"),
        ((OWN, UNKNOWN, HOLED), "failed", "jinja2 3.1.4 (CVE-2024-56326)"),
    ],
)
def test_an_audit_passes_only_if_every_package_was_known(packages, ended, words):
    check = judged(report(*packages), "")
    assert check.ended == ended
    assert words in check.words


def test_an_audit_that_reached_no_service_is_not_done():
    check = judged("", "Traceback\nConnectionError: Name or service not known\n")
    assert str(check).startswith("not done  pip-audit: it gave no report: ConnectionError")


def test_a_command_that_fails_is_shown_with_what_it_said(tmp_path):
    bad = (sys.executable, "-c", "raise SystemExit('no such thing')")
    good = (sys.executable, "-c", "")
    check = tried("build", [good, bad, good], tmp_path)
    assert check.ended == "failed"
    assert "ended with 1\n    no such thing" in check.words
    assert tried("build", [good], tmp_path, "2 files") == Check("build", "passed", "2 files")


def test_what_was_not_done_is_named_at_the_end(capsys):
    passed, undone, failed = Check("a", "passed"), Check("b", "not done"), Check("c", "failed")
    assert _close([passed, undone]) == 0
    said = "Not done, so not known: b.\nAll that was done passed.\n"
    assert capsys.readouterr().out == said
    assert _close([passed, undone, failed]) == 1
    assert capsys.readouterr().out.endswith("Not fit for release: c.\n")
