"""The first steps in an empty folder: what comes with the package, and what is said of it."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import zipfile

import pytest

from calibrate.parameters.guide import guide_config
from calibrate.parameters.start import guide_hardware
from tests.conftest import GUIDE_H100, ROOT

pytestmark = pytest.mark.usefixtures("one_plot")

STEPS = (
    "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us\n"
    "llama-3.1-8b,1,1,2048,0,0,48211\n"
    "llama-3.1-8b,1,1,512,0,0,13100\n"
    "llama-3.1-8b,1,0,0,8,8192,7900\n"
    "llama-3.1-8b,1,0,0,64,65536,9130\n"
)
CONFIG = "hardware_configs/hardware_config.json"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
MISSING = f"{CONFIG} is not there: the guide's configuration that comes with calibrate is used"
DATA = (
    "calibrate/parameters/guide/hardware_config.json",
    "calibrate/parameters/guide/hardware_config_v2.json",
    "calibrate/parameters/guide/hardware_config_v2_interp.json",
    "calibrate/report/templates/report.html.j2",
    "sim/architectures/llama-3.1-8b.json",
    "sim/gpu_specs.json",
)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder with nothing but one campaign."""
    monkeypatch.chdir(tmp_path)
    campaign = tmp_path / "truth/H100/own"
    campaign.mkdir(parents=True)
    (campaign / "steps.csv").write_text(STEPS)
    return tmp_path


def test_the_guide_that_comes_with_the_package_is_the_guide():
    assert guide_config("roofline-v1")["H100"] == GUIDE_H100
    assert guide_config("auto") == guide_config("roofline-v1")
    assert "TOverheadMicros" in guide_config("roofline-v2")["H100"]
    assert "perLayerOverhead" not in guide_config("roofline-v2")["H100"]


def test_a_gpu_that_the_guide_lacks_starts_from_the_registry_and_says_so():
    hardware, notes = guide_hardware("NVIDIA L4")
    assert (hardware.gpu, hardware.values["TFlopsPeak"]) == ("L4", 121)
    assert hardware.values["BwEffConstant"] == GUIDE_H100["BwEffConstant"]
    assert "has no block for L4: started from the registry's peaks" in notes[0]


def test_predicting_without_a_file_uses_the_guide_and_says_so(empty, calibrate):
    code, out, err = calibrate("predict", "truth/H100/own/steps.csv", "--gpu", "H100")
    assert code == 0
    assert out.count("\n") == 5
    assert MISSING in err


def test_planning_without_a_file_uses_the_guide_and_says_so(empty, calibrate):
    code, out, _ = calibrate(
        *("plan", "--gpu", "H100", "--budget", 1, "--ground-truth", "truth"),
        *("--models", "llama-3.1-8b", "--tp", 1, "--json"),
    )
    assert code == 0
    assert any(MISSING in note for note in json.loads(out)["notes"])


@pytest.mark.parametrize("given", [(), ("--hardware-config", CONFIG)])
def test_a_fit_makes_the_missing_file_and_says_what_it_started_from(empty, calibrate, given):
    arguments = ("--ground-truth", "truth", "--starts", 1, "--cv", 2, "--force", "--json", *given)
    code, out, _ = calibrate("fit", "--gpu", "H100", *arguments)
    assert code == 0
    assert any(MISSING in warning for warning in json.loads(out)["warnings"])
    written = json.loads((empty / CONFIG).read_text())
    assert set(written) == {"H100"}
    assert set(written["H100"]) == set(GUIDE_H100)
    assert not (empty / f"{CONFIG}.bak").exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The files of a built wheel, unpacked."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("building the wheel needs hatchling: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_what_the_commands_read(wheel):
    assert [name for name in DATA if not (wheel / name).is_file()] == []


@pytest.mark.parametrize("name", DATA)
def test_what_the_commands_read_lies_in_a_package_of_the_wheel(name):
    assert (ROOT / name).is_file()
    assert name.partition("/")[0] in WHEEL["only-include"]


def test_the_wheel_brings_the_shipped_campaigns(wheel):
    tables = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ground_truth").rglob("*.csv")}
    brought = {path.relative_to(wheel / "calibrate").as_posix() for path in wheel.rglob("*.csv")}
    assert brought == tables


def test_the_wheel_alone_predicts_in_an_empty_folder(wheel, empty):
    run = (
        "import calibrate.cli as c; assert c.__file__.startswith("
        + repr(str(wheel))
        + "); c.main()"
    )
    command = [sys.executable, "-c", run, "predict", "truth/H100/own/steps.csv", "--gpu", "L4"]
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(command, env=environment, cwd=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "predicted_us" in done.stdout
    assert MISSING in done.stderr
