"""Several engines in one fit to serving results: parameters of the device shared, each engine's terms its own."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate import fit, load_campaigns
from calibrate.job.engines import engine_entries
from calibrate.job.publish import engines_to_write, values_to_write
from calibrate.serving.fit import solve_serving
from calibrate.serving.points import FIGURES, METRICS, serving_points
from calibrate.serving.problem import ServingProblem
from sim import Hardware, Workload, latency_model
from sim.hardware import gpu_specs
from sim.serving.lengths import Normal
from sim.serving.workload import Closed, Stage
from tests.synthetic import serving_row, synthetic_steps, write_campaign

H100 = Hardware("H100", dict(gpu_specs()["H100"].values))
V3 = latency_model("roofline-v3")
SHARED = {"gemmMfu": 0.6}
OWN = {
    "sglang": {"layerMicros": 60.0, "prefillLayerMicros": 90.0, "apiMicros": 20000.0},
    "vllm 0.12.0": {"layerMicros": 25.0, "prefillLayerMicros": 40.0, "apiMicros": 4000.0},
}
TOLERANCE = {  # of a TTFT of 150 ms and more, beside a share of peaks, little is these times
    "layerMicros": {"rel": 0.08},
    "prefillLayerMicros": {"abs": 25.0},
    "apiMicros": {"abs": 3000.0},
}
SERVED = {  # by model and TP: prompt and output tokens, and two loads
    ("llama-3.1-8b", 1): (1500, 60, (Stage(4.0), Closed(4))),
    ("llama-3.1-70b", 4): (600, 80, (Stage(2.0), Closed(8))),
}
MEANS = [FIGURES.index((metric, "mean")) for metric in METRICS]
TAILS = [f"{metric}_ms_{p}" for metric in METRICS for p in ("p50", "p90", "p99")]


def rows_of(engine, models=tuple(SERVED)):
    """Load points of an engine on one device, each drawn with a seed that no fit uses."""
    hardware = H100.with_values({**SHARED, **OWN[engine]})
    rows = []
    for name, tp in models:
        prompt, output, loads = SERVED[name, tp]
        for load in loads:
            lengths = (Normal(prompt, prompt / 4, 1), Normal(output, output / 4, 2))
            workload = Workload(600, load, *lengths)
            run = f"{name}-{type(load).__name__}"
            seed = 1000 + len(rows)
            rows.append(
                serving_row(hardware, V3, name, tp, workload, seed, engine=engine, run_id=run)
            )
    return pd.DataFrame(rows).drop(columns=TAILS)


def campaigns_of(folder, *tables):
    for number, table in enumerate(tables):
        write_campaign(folder, "H100", table, f"served-{number}", table="serving")
    return load_campaigns(folder, "H100")


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    return campaigns_of(tmp_path_factory.mktemp("served"), *map(rows_of, OWN))


@pytest.fixture(scope="module")
def found(campaigns):
    """A fit to the servers of two engines from the vendor's figures, the share of peaks freed."""
    return fit(campaigns, H100, latency_model="roofline-v3", free=["gemmMfu"])


@pytest.mark.slow
def test_one_device_and_each_engines_terms_come_back(found):
    gemm = next(one for one in found.parameters if one.name == "gemmMfu")
    assert gemm.value == pytest.approx(SHARED["gemmMfu"], rel=0.05)
    assert gemm.why == "tuned to serving results"
    entries = engine_entries(found)
    assert set(entries) == set(OWN)
    for engine, terms in OWN.items():
        for name, truth in terms.items():
            assert entries[engine][name] == pytest.approx(truth, **TOLERANCE[name])


def test_terms_of_engines_stay_out_of_the_values_of_the_gpu(found):
    assert found.values["layerMicros"] == V3.parameters(H100)["layerMicros"]
    written = values_to_write(found, H100)
    assert written["gemmMfu"] == found.values["gemmMfu"]
    assert not any(" of " in name for name in written)
    models = ["llama-3.1-70b", "llama-3.1-8b"]
    own = {name: {**terms, "models": models} for name, terms in engine_entries(found).items()}
    assert engines_to_write(found) == own
    assert all("gemmMfu" not in terms for terms in engine_entries(found).values())


def test_the_result_says_what_is_whose(found):
    tuned = {one.name: one.value for one in found.serving.tuned}
    assert tuned["layerMicros of sglang"] == engine_entries(found)["sglang"]["layerMicros"]
    assert tuned["gemmMfu"] == found.values["gemmMfu"]
    assert [one.engine for one in found.engines] == sorted(OWN)
    assert {one.points for one in found.engines} == {4}
    assert {"engine:sglang", "engine:vllm 0.12.0"} <= set(found.serving.after["ttft"])
    (servers,) = [one for one in found.verdicts if one.name == "servers"]
    assert "sglang" in servers.text
    assert "vllm 0.12.0" in servers.text
    assert not any("fitted as one" in text for text in found.warnings)


def test_a_model_left_out_is_left_out_of_every_engine(found):
    assert next(iter(found.serving.held_out)) == "model"
    for one in found.engines:
        assert one.unseen["itl"]["all"].mape < 0.1


@pytest.mark.slow
def test_of_an_engine_that_no_part_shows_nothing_is_held_out(tmp_path):
    """One engine served one model only: without that model nothing says what it adds."""
    tables = (rows_of("sglang", [("llama-3.1-8b", 1)]), rows_of("vllm 0.12.0"))
    campaigns = campaigns_of(tmp_path, *tables)
    points = serving_points(campaigns, H100, V3)
    problem = ServingProblem(points, V3, H100, "soft_l1", 0.05, freed=["gemmMfu"], apart=True)
    solution = solve_serving(problem)
    of_sglang = (points.frame["engine"] == "sglang").to_numpy()
    left_out = solution.held_out_ms["model"]
    assert np.isnan(left_out[of_sglang]).all()
    assert not np.isnan(left_out[~of_sglang][:, MEANS]).any()


@pytest.mark.slow
def test_without_anything_shared_each_engine_is_as_by_itself(campaigns):
    together = engine_entries(fit(campaigns, H100, latency_model="roofline-v3"))
    alone = fit(campaigns, H100, latency_model="roofline-v3", engine="sglang")
    tuned = {one.name: one.value for one in alone.serving.tuned}
    assert together["sglang"] == pytest.approx(tuned, rel=0.1)  # the cost is rough


def test_rows_without_an_engine_are_left_out_beside_those_of_several(tmp_path, campaigns):
    unnamed = rows_of("sglang").head(1).assign(engine="")
    more = campaigns_of(tmp_path, *map(rows_of, OWN), unnamed)
    points = serving_points(more, H100, V3)
    assert len(points) == 8
    assert points.left_out == ("1 serving rows left out: they name no engine, and others do.",)


@pytest.mark.slow
def test_steps_hold_what_engines_share(tmp_path):
    """The steps say 0.8 and both servers 0.6: the one lies between, and is everyone's."""
    device = H100.with_values({"gemmMfu": 0.8})
    full = device.with_values({"BwEffConstant": 1.0, "mfuPrefill": 1.0, "mfuDecode": 1.0})
    steps = synthetic_steps(full, 60, models=("llama-3.1-8b",), tps=(1,), model=V3)
    write_campaign(tmp_path, "H100", steps, "steps", {"kind": "kernel-composed"})
    campaigns = campaigns_of(tmp_path, *map(rows_of, OWN))
    result = fit(
        campaigns,
        device,
        latency_model="roofline-v3",
        serving=True,
        starts=1,
        free=["gemmMfu"],
    )
    assert 0.62 < result.values["gemmMfu"] < 0.8
    assert {one.engine for one in result.engines} == set(OWN)
    assert dataclasses.asdict(result.engines[0])["rows"] == 4
