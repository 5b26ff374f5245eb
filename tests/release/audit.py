"""What pip-audit knows of the packages that an installation brings."""

import json
import sys
from pathlib import Path
from typing import Any

from calibrate.records.distribution import DISTRIBUTION
from tests.release.checks import Check, run

WHAT = "pip-audit"


def audit(site_packages: Path, folder: Path) -> Check:
    """Ask the advisory service about every package that is installed there."""
    audited = (sys.executable, "-m", "pip_audit", "--format", "json", "--path", site_packages)
    done = run(audited, folder)
    return judged(done.stdout, done.stderr)


def judged(report: str, said: str) -> Check:
    """What pip-audit's report comes to. It ends well where it knows nothing: packages it could not ask about are
    counted here, and an audit of which some are missing is not done.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        return Check(WHAT, "not done", f"it gave no report: {last[0][:200]}")
    others = [package for package in packages if package["name"] != DISTRIBUTION]
    found = [
        f"{package['name']} {package['version']} ({finding['id']})"
        for package in others
        for finding in package.get("vulns", ())
    ]
    unknown = [package["name"] for package in others if "skip_reason" in package]
    if found:
        return Check(WHAT, "failed", f"known vulnerabilities: {', '.join(found)}")
    if unknown:
        return Check(
            WHAT,
            "not done",
            f"the advisory service does not answer for {len(unknown)} of {len(others)} packages "
            f"({', '.join(unknown[:3])} …): nothing is known of them, run it where it is reached",
        )
    return Check(WHAT, "passed", f"no known vulnerability in {len(others)} packages")
