"""What ``calibrate doctor`` finds, and when it fails."""

import json

import pytest

from calibrate.cli import doctor, doctor_checks
from calibrate.cli.doctor_checks import Check
from calibrate.records.distribution import VERSION
from sim import load_hardware
from sim.errors import SimError
from sim.serving.trial import Trial, try_compiled_loop
from tests.conftest import GUIDE_H100

KEPT = Trial(seconds=0.5, folder="cache", was_kept=True, is_compiled=True)


@pytest.fixture
def trial(monkeypatch):
    """Sets what the trial of the simulator comes to: kept on the disk, unless told."""

    def give(outcome):
        def tried(hardware):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr("sim.serving.trial.try_compiled_loop", tried)

    give(KEPT)
    return give


def examined(calibrate):
    code, out, _ = calibrate("doctor", "--json")
    said = json.loads(out)
    return code, said["broken"], {one["name"]: one for one in said["checks"]}


@pytest.mark.usefixtures("trial")
def test_the_doctor_names_versions_folders_and_encoding(workplace, calibrate):
    code, broken, checks = examined(calibrate)
    assert (code, broken) == (0, 0)
    assert checks["calibrate"]["found"].startswith(VERSION)
    needed = {"numpy", "numba", "scipy", "pandas", "lmfit", "typer", "pyyaml"}
    assert {checks[name]["status"] for name in needed} == {"ok"}
    assert checks["campaigns"]["found"] == "1 in ground_truth, of H100"
    assert checks["hardware_config.json"]["found"] == "GPUs: H100, Other"
    assert checks["reports"]["status"] == "absent"
    assert checks["encoding"]["status"] == "ok"


@pytest.mark.usefixtures("trial")
def test_the_doctor_in_words_fits_80_columns(workplace, calibrate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = calibrate("doctor")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "found on the disk, 0.5 s, in cache" in out
    assert out.splitlines()[-1].startswith("All that is needed works")


@pytest.mark.usefixtures("trial")
def test_on_a_terminal_the_encoding_is_the_terminals(workplace, calibrate, monkeypatch):
    monkeypatch.setenv(
        "FORCE_COLOR", "1"
    )  # what shows progress takes standard output over meanwhile
    assert examined(calibrate)[2]["encoding"]["found"].lower() == "utf-8"


@pytest.mark.usefixtures("trial")
def test_an_empty_folder_is_no_illness(tmp_path, monkeypatch, calibrate):
    monkeypatch.chdir(tmp_path)
    code, broken, checks = examined(calibrate)
    assert (code, broken) == (0, 0)
    assert {checks[name]["status"] for name in ("campaigns", "configurations")} == {"absent"}
    assert "calibrate init" in checks["campaigns"]["fix"]


@pytest.mark.usefixtures("trial")
def test_a_configuration_that_cannot_be_read_fails(workplace, calibrate):
    (workplace / "hardware_configs/hardware_config.json").write_text("{")
    code, broken, checks = examined(calibrate)
    assert (code, broken) == (1, 1)
    assert checks["hardware_config.json"]["status"] == "broken"


@pytest.mark.parametrize(
    ("outcome", "code", "status", "said"),
    [
        (KEPT, 0, "ok", "found on the disk"),
        (Trial(36.0, "cache", False, True), 0, "ok", "compiled in 36.0 s and kept in cache"),
        (Trial(36.0, None, False, True), 0, "attention", "compiled anew by each process"),
        (Trial(9.0, None, False, False), 0, "attention", "numba is switched off"),
        (SimError("no"), 1, "broken", "does not run: no"),
    ],
)
def test_the_state_of_the_simulator_is_told(
    workplace, calibrate, trial, outcome, code, status, said
):
    trial(outcome)
    exit_code, _, checks = examined(calibrate)
    loop = checks["compiled loop"]
    assert (exit_code, loop["status"]) == (code, status)
    assert said in loop["found"]
    assert bool(loop["fix"]) is (status != "ok")


@pytest.mark.usefixtures("trial")
def test_a_package_that_cannot_be_imported_fails(workplace, calibrate, monkeypatch):
    monkeypatch.setattr(doctor_checks, "_MODULES", {"lmfit": "no_such_module"})
    code, broken, checks = examined(calibrate)
    assert (code, broken >= 1) == (1, True)
    assert checks["lmfit"]["status"] == "broken"
    assert "no_such_module" in checks["lmfit"]["found"]


@pytest.mark.usefixtures("trial")
def test_a_folder_that_cannot_be_written_wants_attention(workplace, calibrate, monkeypatch):
    monkeypatch.setattr(doctor_checks.os, "access", lambda path, mode: False)
    code, _, checks = examined(calibrate)
    assert code == 0
    assert checks["configurations"]["status"] == "attention"


def test_what_wants_attention_is_counted():
    checks = [Check("a", "b", "broken", ""), Check("a", "c", "attention", "")]
    assert doctor._verdict(checks) == "1 broken, 1 want attention."


def test_the_trial_serves_requests_and_says_where_the_loop_is_kept():
    trial = try_compiled_loop(load_hardware({"H100": GUIDE_H100}))
    assert trial.is_compiled
    assert trial.folder
    assert trial.seconds > 0
