"""``calibrate fit`` and servers by default: of each engine a draw of its runs, and an entry of its own."""

import json
import shutil

import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.serving.engine_rows import balanced, rows_of_engines
from calibrate.serving.points import calm_rows
from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Normal
from sim.serving.workload import Closed, Stage
from tests.synthetic import serving_row, synthetic_steps, write_campaign

pytestmark = pytest.mark.usefixtures("one_plot", "no_profiles")

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
V3 = latency_model("roofline-v3")
TRUTHS = {
    "vllm 0.12.0": {"layerMicros": 38.0, "prefillLayerMicros": 60.0, "apiMicros": 5000.0},
    "vllm 0.18.0": {"layerMicros": 20.0, "prefillLayerMicros": 90.0, "apiMicros": 9000.0},
}
LOADS = (Stage(4.0), Stage(10.0), Closed(2), Closed(8), Closed(24))


def rows_of(engine, models=("llama-3.1-8b", "llama-2-13b"), loads=LOADS):
    prompt, output = Normal(300, 60, 1), Normal(40, 10, 2)
    hardware = H100.with_values(TRUTHS[engine])
    return [
        serving_row(
            hardware, V3, model, 1, Workload(400, load, prompt, output), 50 + place, engine=engine
        )
        for model in models
        for place, load in enumerate(loads)
    ]


@pytest.fixture(scope="module")
def tables():
    guided = H100.with_values({"layerMicros": 25.0})
    steps = synthetic_steps(guided, 48, models=("llama-3.1-8b",), tps=(1, 2), model=V3, noise=0.002)
    rows = [row for engine in TRUTHS for row in rows_of(engine)]
    served = pd.DataFrame(rows).filter(regex="^(?!.*_ms_p)")
    served.loc[served["engine"] == "vllm 0.18.0", "e2e_ms_mean"] = None
    return steps, served


@pytest.fixture
def fit(calibrate, tables, tmp_path, monkeypatch):
    """Run ``calibrate fit`` with roofline-v3 on composed steps and two engines' servers."""
    monkeypatch.chdir(tmp_path)
    peaks = {"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}
    (tmp_path / "config.json").write_text(json.dumps(peaks))
    steps, rows = tables
    write_campaign(tmp_path / "ground_truth", "H100", steps, "kernels", {"kind": "kernel-composed"})
    write_campaign(tmp_path / "ground_truth", "H100", rows, "servers", table="serving")

    def run(*options):
        common = ("--latency-model", "roofline-v3", "--hardware-config", "config.json")
        return calibrate("fit", "--gpu", "H100", *common, "--starts", "1", *options)

    return run


def test_a_wait_behind_the_burst_of_closed_loads_goes_into_no_step(fit, tables, tmp_path):
    """60 ms more of TTFT, whatever the prompt: left alone they were put on every step with a prompt."""
    _, rows = tables
    closed = rows[(rows["load"] == "closed") & (rows["engine"] == "vllm 0.12.0")]
    late = {name: closed[name] + 60.0 for name in ("ttft_ms_mean", "e2e_ms_mean")}
    shutil.rmtree(tmp_path / "ground_truth/H100/servers")
    write_campaign(
        tmp_path / "ground_truth", "H100", closed.assign(**late), "servers", table="serving"
    )
    code, said, error = fit("--json")
    assert (code, error) == (0, "")
    (engine,) = json.loads(said)["engines"]
    tuned = {one["name"]: one["value"] for one in engine["tuned"]}
    truth = TRUTHS["vllm 0.12.0"]
    assert tuned["layerMicros"] == pytest.approx(truth["layerMicros"], rel=0.15)
    assert tuned["prefillLayerMicros"] == pytest.approx(truth["prefillLayerMicros"], abs=60.0)
    assert tuned["apiMicros"] == pytest.approx(truth["apiMicros"] + 60_000.0, rel=0.1)
    said = next(one["text"] for one in json.loads(said)["verdicts"] if "servers" in one["name"])
    assert "All loads were closed" in said
    assert "TTFT of open loads (--rate) come out too slow" in said


@pytest.mark.slow
def test_servers_give_each_engine_an_entry_and_leave_the_values_of_steps(fit, tmp_path):
    code, said, error = fit("--json")
    assert (code, error) == (0, "")
    found = json.loads(said)
    block = json.loads((tmp_path / "config.json").read_text())["H100"]
    assert block["layerMicros"] == pytest.approx(25.0, rel=0.1)
    assert set(block["engines"]) == set(TRUTHS)
    for engine, truth in TRUTHS.items():
        terms = block["engines"][engine]
        assert terms["layerMicros"] == pytest.approx(truth["layerMicros"], rel=0.1)
        assert terms["apiMicros"] == pytest.approx(truth["apiMicros"], rel=0.25)
        assert terms["models"] == ["llama-2-13b", "llama-3.1-8b"]
    assert [(one["engine"], one["points"], one["rows"]) for one in found["engines"]] == [
        (engine, 10, 10) for engine in TRUTHS
    ]
    assert found["serving"] is None
    for one in found["engines"]:
        assert one["held_out"]["model"]["itl"]["all"]["mape"] < 0.03
        assert one["before"]["itl"]["all"]["mape"] > one["after"]["itl"]["all"]["mape"]
    statement = found["verdicts"][2]
    assert statement["light"] == "good"
    assert "vllm 0.12.0" in statement["text"]
    assert "10 of 10 runs" in statement["text"]
    (page,) = tmp_path.glob("reports/H100/*/report.html")
    row = page.read_text(encoding="utf-8").partition("<bdi>vllm 0.18.0</bdi>")[2]
    assert "10 of 10" in row
    assert '<td class="num quiet">–</td>' in row  # it has no end-to-end times


def test_no_serving_leaves_servers_out(fit, tmp_path):
    code, said, _ = fit("--no-serving")
    assert code == 0
    assert "20 serving runs were not used" in said
    assert "engines" not in json.loads((tmp_path / "config.json").read_text())["H100"]


@pytest.mark.slow
def test_steps_are_fitted_the_same_with_and_without_servers(fit):
    values = []
    for options in ((), ("--no-serving",), ("--engine", "vllm 0.18.0")):
        code, said, _ = fit("--dry-run", "--json", *options)
        assert code == 0
        values.append({one["name"]: one["value"] for one in json.loads(said)["parameters"]})
    assert values[0] == values[1] == values[2]


def test_an_engine_chooses_among_servers(fit):
    code, said, _ = fit("--dry-run", "--json", "--engine", "vllm 0.18.0")
    assert code == 0
    assert [one["engine"] for one in json.loads(said)["engines"]] == ["vllm 0.18.0"]
    code, _, error = fit("--dry-run", "--engine", "sglang")
    assert code == 1
    assert "no serving rows of engine 'sglang' to fit to: they are of vllm 0.12.0, vllm" in error


def test_a_fixed_time_stays_in_every_engine(fit):
    code, said, _ = fit("--dry-run", "--json", "--fix", "layerMicros=30")
    assert code == 0
    for one in json.loads(said)["engines"]:
        assert "layerMicros" not in {term["name"] for term in one["tuned"]}


def test_a_draw_has_of_every_model_alike_and_of_all_loads(tmp_path):
    rows = pd.DataFrame(rows_of("vllm 0.12.0", loads=LOADS[2:3]))
    many = pd.concat([rows.assign(concurrency=load) for load in (1, 2, 4, 8, 16, 32, 64, 128)])
    few = many[(many["model"] != "llama-2-13b") | (many["concurrency"] <= 2)]
    write_campaign(tmp_path, "H100", few, "servers", table="serving")
    campaigns = load_campaigns(tmp_path, "H100")
    drawn = [one.row for one in balanced(calm_rows(campaigns, {}))]
    assert len(drawn) == 10
    first = pd.DataFrame(drawn[:4])
    assert first["model"].value_counts().to_dict() == {"llama-3.1-8b": 2, "llama-2-13b": 2}
    of_many = [row["concurrency"] for row in drawn if row["model"] == "llama-3.1-8b"]
    assert of_many[:4] == [1, 16, 4, 64]
    (one,) = rows_of_engines(campaigns, H100, V3)
    assert (one.engine, len(one.points), one.rows) == ("vllm 0.12.0", 10, 10)


@pytest.mark.slow
def test_a_gpu_without_servers_takes_the_terms_that_another_lends(fit, tmp_path):
    config = json.loads((tmp_path / "config.json").read_text())
    config["H200"] = {
        "TFlopsPeak": 989.5,
        "BwPeakTBs": 4.8,
        "engines": {
            "sglang": {"layerMicros": 41.0, "gemmMfu": 0.5},  # a share of the other GPU's peak
            "vllm 0.18.0": {"layerMicros": 99.0},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, said, error = fit("--json", "--engine-from", "H200")
    assert (code, error) == (0, "")
    engines = json.loads((tmp_path / "config.json").read_text())["H100"]["engines"]
    assert engines["sglang"] == {"layerMicros": 41.0}
    assert engines["vllm 0.18.0"]["layerMicros"] == pytest.approx(20.0, rel=0.1)
    assert "sglang are those of another GPU's servers" in json.loads(said)["warnings"][-1]
    code, _, error = fit("--dry-run", "--engine-from", "H100", "--no-serving")
    assert code == 0, error  # by now it holds some itself


def test_a_lender_without_engines_is_refused(fit):
    code, _, error = fit("--dry-run", "--engine-from", "H100")
    assert code == 1
    assert "--engine-from H100: the block of H100 in config.json holds no engines" in error


@pytest.mark.slow
def test_evaluate_takes_an_engines_terms_and_its_rows(fit, calibrate):
    assert fit()[0] == 0
    common = ("--gpu", "H100", "--latency-model", "roofline-v3", "--hardware-config", "config.json")
    without = json.loads(calibrate("evaluate", *common, "--campaign", "servers", "--json")[1])
    code, said, error = calibrate(
        *("evaluate", *common, "--campaign", "servers", "--engine", "vllm 0.12.0", "--json")
    )
    assert (code, error) == (0, "")
    errors = json.loads(said)["serving"]
    assert errors["itl"]["n"] == 10
    assert errors["itl"]["mape"] < 0.05 < without["serving"]["itl"]["mape"]


def test_predict_takes_an_engines_terms(fit, calibrate, tmp_path):
    """A step of a model of 32 layers takes 32 times as much more as a layer of this engine does."""
    (tmp_path / "steps.csv").write_text(
        "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens\n"
        "llama-3.1-8b,1,0,0,1,100\n"
    )
    block = {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "layerMicros": 20.0}
    block["engines"] = {"vllm 1": {"layerMicros": 30.0}}
    (tmp_path / "config.json").write_text(json.dumps({"H100": block}))
    common = ("--gpu", "H100", "--latency-model", "roofline-v3", "--hardware-config", "config.json")
    times = [
        float(calibrate("predict", "steps.csv", *common, *more)[1].split(",")[-1])
        for more in ((), ("--engine", "vllm"))
    ]
    assert times[1] - times[0] == pytest.approx(320.0)


PROMPT = (
    "model,tp,num_prefill_requests,sum_prefill_tokens,sum_prefill_sq,num_decode_requests\n"
    "{model},1,1,4000,16000000,0\n"
)


@pytest.mark.parametrize(("model", "share"), [("llama-3.1-8b", 0.4), ("llama-2-13b", 0.8)])
def test_shares_of_peaks_hold_for_the_models_that_showed_them(
    calibrate, tmp_path, monkeypatch, model, share
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.csv").write_text(PROMPT.format(model=model))
    block = {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "gemmMfu": 0.8, "layerMicros": 20.0}
    terms = {"gemmMfu": 0.4, "layerMicros": 30.0, "models": ["llama-3.1-8b"]}
    as_served = {**block, "layerMicros": 30.0, "gemmMfu": share}
    for name, content in (
        ("config.json", {**block, "engines": {"vllm 1": terms}}),
        ("served.json", as_served),
    ):
        (tmp_path / name).write_text(json.dumps({"H100": content}))
    common = ("predict", "steps.csv", "--gpu", "H100", "--latency-model", "roofline-v3")
    _, found, said = calibrate(*common, "--hardware-config", "config.json", "--engine", "vllm")
    _, expected, _ = calibrate(*common, "--hardware-config", "served.json")
    assert float(found.split(",")[-1]) == pytest.approx(float(expected.split(",")[-1]))
    left_out = (
        "was seen to serve llama-3.1-8b: what it showed of their kernels (gemmMfu) is left out"
    )
    assert (left_out in " ".join(said.split())) == (model == "llama-2-13b")
