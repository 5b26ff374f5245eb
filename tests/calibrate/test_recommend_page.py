"""The worked example of docs/recommend.md, run as it stands on small synthetic campaigns of the same names."""

import json
import re
import shlex

import pandas as pd
import pytest

from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Normal
from sim.serving.workload import Stage
from tests.conftest import ROOT
from tests.synthetic import serving_row, synthetic_steps, write_campaign

pytestmark = pytest.mark.usefixtures("one_plot")

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
V3 = latency_model("roofline-v3")
MODELS = ("llama-3.1-8b", "llama-2-13b")
PAGE = (ROOT / "docs/recommend.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


def campaigns(place):
    """A campaign of kernels and one of two servers, of known truth."""
    guided = {"BwEffConstant": 1.0, "mfuPrefill": 1.0, "mfuDecode": 1.0, "layerMicros": 25.0}
    steps = synthetic_steps(
        H100.with_values(guided), 48, models=MODELS[:1], tps=(1, 2), model=V3, noise=0.002
    )
    kernels = {"kind": "kernel-composed"}
    write_campaign(place, "H100", steps, "aiconfigurator-vllm-0.24.0", kernels)
    truth = H100.with_values({"layerMicros": 38.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0})
    load = Workload(1000, Stage(16.0), Normal(300, 60, 1), Normal(40, 10, 2))
    rows = [serving_row(truth, V3, name, 1, load, 50, run_id=name) for name in MODELS]
    served = pd.DataFrame(rows).filter(regex="^(?!.*_ms_p)")
    write_campaign(place, "H100", served, "inferencemax-style-vllm-0.12.0", table="serving")


@pytest.mark.slow
def test_the_worked_example_runs_from_campaign_to_decision(tmp_path, monkeypatch, calibrate):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_configs").mkdir()
    blocks = {"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}
    (tmp_path / "hardware_configs/hardware_config.json").write_text(json.dumps(blocks))
    campaigns(tmp_path / "ground_truth")
    said = {}
    for command in COMMANDS:
        program, name, *options = shlex.split(command)
        assert program == "calibrate"
        code, out, err = calibrate(name, *options)
        assert code == 0, err
        said[name] = " ".join((out + err).split())
    assert "run reports/H100/" in said["recommend"]
    assert "best: H100 TP " in said["recommend"]
    assert "no server tuned" not in said["recommend"]
    assert "stores no covariance" not in said["recommend"]
    candidates = pd.read_csv("candidates.csv")
    assert (candidates["rate_low_per_s"] < candidates["rate_high_per_s"]).all()
    assert (tmp_path / "plots/pareto.svg").is_file()
    assert "objective " in said["simulate"]


def test_the_page_names_every_key_of_the_document(calibrate):
    from calibrate.capacity import as_plain
    from calibrate.capacity.recommendation import Fleet

    keys = [as_plain._FLEET_NAMES.get(name, name) for name in Fleet.__dataclass_fields__]
    source = (ROOT / "calibrate/capacity/as_plain.py").read_text(encoding="utf-8")
    keys += re.findall(r'^ {8}"(\w+)":', source, re.MULTILINE)
    assert len(keys) > 25
    assert [key for key in keys if f"`{key}`" not in PAGE] == []
