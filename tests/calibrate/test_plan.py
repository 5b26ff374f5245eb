"""Plans: the design against brute force, what may be measured, and that planned points teach more than a grid."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaigns
from calibrate.planning.candidates import candidate_steps
from calibrate.planning.design import Candidates, Information, Noise, choose_points
from calibrate.planning.plan import plan
from calibrate.records.errors import CalibrateError
from sim import StepTable, load_architecture, load_hardware
from sim.errors import ArchitectureError, HardwareError
from sim.hardware import Hardware, gpu_specs, memory_bytes
from sim.models.roofline_v1.model import RooflineV1
from sim.steps.work import minimum_work
from tests.calibrate.test_fit import random_truth, truth_campaign
from tests.conftest import GUIDE_H100, ROOT
from tests.grids import (
    HAND_MADE,
    MODELS,
    error_ratio,
    fit_errors,
    joint_half_width,
    random_factorial,
)

NOISE = Noise(0.04, 0.03)
COLUMNS = [
    "model",
    "tp",
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
]
ARCHITECTURES = [load_architecture(name) for name in MODELS]


def some_candidates(seed=0, rows=12, parameters=3, sets=2, load_s=0.0):
    rng = np.random.default_rng(seed)
    number = np.arange(rows)
    slopes = rng.standard_normal((sets, rows, parameters))
    return Candidates(slopes, number % 4, np.ones(rows), number % 3, np.full(3, load_s))


def ln_det(candidates, rows, sd=1.0):
    """Of ln θ's precision, averaged over the sets, with the covariance of the rows' errors written out."""
    same = candidates.slice_of[rows][:, None] == candidates.slice_of[rows]
    covariance = NOISE.own**2 * np.eye(len(rows)) + NOISE.shared**2 * same
    slopes = candidates.slopes[:, rows]
    precision = (
        np.swapaxes(slopes, 1, 2) @ np.linalg.inv(covariance) @ slopes
        + np.eye(slopes.shape[2]) / sd**2
    )
    return np.linalg.slogdet(precision)[1].mean()


def start_of(candidates):
    sets, _, parameters = candidates.slopes.shape
    return Information.prior(np.ones(parameters), 4, sets, NOISE)


def chosen(candidates, budget, price=0.0, most_s=np.inf):
    return choose_points(candidates, start_of(candidates), NOISE, budget, price, most_s)


def test_errors_that_a_slice_shares_are_integrated_out():
    candidates = some_candidates()
    rows = np.array([0, 1, 4, 5, 8, 11])
    known = start_of(candidates).add(
        candidates.slopes[:, rows], candidates.slice_of[rows], NOISE.own
    )
    assert -np.linalg.slogdet(known.covariance())[1].mean() == pytest.approx(
        ln_det(candidates, rows)
    )


@pytest.mark.parametrize("seed", range(10))
def test_greedy_and_exchange_come_to_the_best_of_all_choices(seed):
    candidates = some_candidates(seed)
    best = max(ln_det(candidates, np.array(rows)) for rows in itertools.combinations(range(12), 5))
    rows = chosen(candidates, 5)
    assert len(set(rows.tolist())) == 5
    assert ln_det(candidates, rows) >= best - 0.15


@pytest.mark.parametrize("seed", range(5))
def test_no_exchange_is_left_that_teaches_more_for_its_price(seed):
    candidates, price = some_candidates(seed, load_s=5.0), 0.02
    rows = chosen(candidates, 5, price)

    def worth(some):
        return ln_det(candidates, some) - price * candidates.seconds(some)

    others = np.setdiff1d(np.arange(12), rows)
    exchanged = [np.append(np.delete(rows, i), other) for i in range(5) for other in others]
    assert max(map(worth, exchanged)) <= worth(rows) + 1e-6


def test_time_costs():
    candidates = some_candidates(load_s=10.0)
    assert candidates.seconds(np.array([0, 3])) == 12.0
    assert len(set((chosen(candidates, 3, price=10.0) % 3).tolist())) == 1
    assert len(set((chosen(candidates, 3) % 3).tolist())) > 1
    assert candidates.seconds(chosen(candidates, 12, most_s=13.0)) <= 13.0
    assert len(chosen(candidates, 12, most_s=5.0)) == 0


def test_a_slice_repeated_does_not_look_infinitely_informative():
    slopes = np.ones((1, 1000, 1))
    slice_of = np.zeros(1000, dtype=np.intp)
    known = Information.prior(np.ones(1), 1, 1, NOISE).add(slopes, slice_of, NOISE.own)
    assert known.standard_errors()[0] >= 0.99 * NOISE.shared


def test_candidates_fit_and_obey_the_limits(h100):
    architectures = [load_architecture(name) for name in ("llama-3.1-8b", "llama-3.1-70b")]
    steps = candidate_steps(architectures, (1, 2, 4, 8), h100, max_batch=100, max_tokens=5000)
    assert set(steps.loc[steps["model"] == "llama-3.1-70b", "tp"]) == {2, 4, 8}
    assert set(steps.loc[steps["model"] == "llama-3.1-8b", "tp"]) == {1, 2, 4, 8}
    assert steps["sum_prefill_tokens"].max() <= 5000
    assert (steps["num_prefill_requests"] + steps["num_decode_requests"]).max() == 100
    assert not steps.duplicated().any()
    assert set(StepTable.from_columns(steps).phases) == {"prefill", "decode", "mixed"}
    assert memory_bytes(h100) == 80 * 2**30


def test_a_first_plan_is_what_it_says(h100):
    made = plan([], h100)
    assert len(made.points) == len(made.steps) == 24
    assert not made.points.duplicated(COLUMNS).any()
    assert set(made.points["model"]) == {"llama-3.1-8b", "llama-3.1-70b"}
    table = StepTable.from_columns(made.steps)
    floor_us = minimum_work(table).floor_us(table, 989.5, 3.35)
    assert (made.points["predicted_us"].to_numpy() >= floor_us).all()
    loads = made.points["model"] + made.points["tp"].astype(str)
    assert (loads != loads.shift()).sum() == loads.nunique() == made.loads
    by_name = {p.name: p for p in made.parameters}
    assert all(p.now is None for p in made.parameters)
    assert by_name["perLayerOverhead"].status == "inert"
    assert by_name["decodeBwFactor"].status == "tied"
    assert by_name["BwEffConstant"].after < 0.1
    assert (
        made.points["teaches"].isin([p.name for p in made.parameters if p.status == "free"]).all()
    )
    assert made.narrowing > 5
    assert "No measured step yet" in made.notes[0]


def test_the_same_seed_gives_the_same_plan_and_another_one_hardly_worse(h100):
    first = plan([], h100, seed=1)
    second = plan([], h100, seed=1)
    other = plan([], h100, seed=2)
    pd.testing.assert_frame_equal(first.points, second.points)
    assert first.parameters == second.parameters
    assert not first.points.equals(other.points)
    truth = random_truth(h100, 0)
    assert joint_half_width(other.steps, truth) == pytest.approx(
        joint_half_width(first.steps, truth), rel=0.15
    )


def test_a_plan_adds_to_what_is_measured(h100):
    campaign = truth_campaign(h100)
    unmixed = campaign.table.phases != "mixed"
    steps = campaign.steps[unmixed].reset_index(drop=True)
    campaign = dataclasses.replace(campaign, steps=steps, table=campaign.table.take(unmixed))
    made = plan([campaign], h100, budget=12)
    by_name = {p.name: p for p in made.parameters}
    assert made.prior_rows == len(steps)
    assert by_name["mixedPrefillOverheadMicros"].now is None
    assert by_name["mixedPrefillOverheadMicros"].after < 0.5
    assert (made.points["phase"] == "mixed").sum() >= 6
    assert set(made.points["model"]) <= set(MODELS)
    together = pd.concat([steps[COLUMNS], made.points[COLUMNS]], ignore_index=True)
    assert not together[COLUMNS].astype(dict.fromkeys(COLUMNS[1:], float)).duplicated().any()
    for p in made.parameters:
        assert p.now is None or p.after <= p.now


def test_replicates_of_measured_points_add_nothing(h100):
    campaign = truth_campaign(h100)
    steps = pd.concat([campaign.steps] * 3, ignore_index=True)
    thrice = dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))
    once = plan([campaign], h100, budget=2)
    many = plan([thrice], h100, budget=2)
    assert many.prior_rows == once.prior_rows
    for one, other in zip(once.parameters, many.parameters, strict=True):
        assert (one.now is None) == (other.now is None)
        assert one.now is None or other.now == pytest.approx(one.now, rel=0.1)


def test_replicates_are_rows_and_time_but_no_points(h100):
    once = plan([], h100, budget=6)
    thrice = plan([], h100, budget=6, replicates=3)
    assert (len(once.steps), len(thrice.steps), len(thrice.points)) == (6, 18, 6)
    assert thrice.seconds > once.seconds


def test_seconds_limit_a_plan(h100):
    made = plan([], h100, seconds=100)
    assert 1 <= len(made.points) < 24
    assert made.seconds <= 100
    assert plan([], h100, seconds=1000).narrowing > made.narrowing


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0}, CalibrateError, "budget must be 1 or more"),
        ({"seconds": -1.0}, CalibrateError, "seconds must be positive"),
        ({"seconds": 10.0}, CalibrateError, "hold no point: the quickest takes 70 s"),
        ({"tps": (3,)}, CalibrateError, "must also divide the attention heads"),
        (
            {"architectures": ("llama-3.1-405b",), "tps": (1,)},
            CalibrateError,
            "llama-3.1-405b 756 GiB",
        ),
        ({"architectures": ("mixtral-8x7b",)}, ArchitectureError, "mixture of experts"),
        ({"model": "roofline-v9"}, Exception, "did you mean 'roofline-v"),
    ],
)
def test_what_cannot_be_planned_is_an_error(h100, options, error, message):
    models = [load_architecture(name) for name in options.pop("architectures", ())]
    with pytest.raises(error, match=message):
        plan([], h100, architectures=models, **options)


def test_a_gpu_of_unknown_memory_is_an_error(h100):
    with pytest.raises(HardwareError, match="--spec MemoryGiB"):
        plan([], dataclasses.replace(h100, gpu="V100"))


def test_planned_points_beat_random_factorials(h100):
    steps = plan([], h100, architectures=ARCHITECTURES, budget=48).steps
    truths = [random_truth(h100, seed) for seed in range(40)]
    ratio = [
        joint_half_width(random_factorial(i), t) / joint_half_width(steps, t)
        for i, t in enumerate(truths)
    ]
    assert np.median(ratio) >= 2
    assert min(ratio) > 1.3


@pytest.fixture(scope="module")
def planned():
    """What to measure of the guide's H100, as a plan says without options."""
    return plan([], load_hardware({"H100": GUIDE_H100}), architectures=ARCHITECTURES)


@pytest.mark.parametrize("name", HAND_MADE)
def test_planned_points_beat_grids_made_by_hand(h100, planned, name):
    steps = planned.steps
    truths = [random_truth(h100, seed) for seed in range(20)]
    ratio = [
        joint_half_width(HAND_MADE[name], truth) / joint_half_width(steps, truth)
        for truth in truths
    ]
    assert np.median(ratio) >= 1.5


@pytest.mark.slow
def test_fits_to_planned_points_err_half_as_much_as_to_the_best_grid(h100, planned):
    steps = planned.points[COLUMNS]
    truths = [random_truth(h100, seed) for seed in range(20)]
    worse, better = (
        np.array([fit_errors(some, h100, truth, 0.02, seed) for seed, truth in enumerate(truths)])
        for some in (HAND_MADE["1 model × 2 tp × 3 phases × 2 batches × 2 lengths"], steps)
    )
    assert error_ratio(worse, better) >= 2


@pytest.mark.usefixtures("no_profiles")
def test_the_command_writes_a_table_that_can_be_filled_in_and_fitted(workplace, calibrate, h100):
    shutil.rmtree(workplace / "ground_truth")
    code, out, err = calibrate(
        "plan", "--gpu", "h100", "--models", "llama-3.1-8b,llama-2-13b", "--tp", "1,2,8"
    )
    assert (code, err) == (0, "")
    assert "24 points" in out
    assert "llama-3.1-8b, tp 1" in out
    assert "TOverheadMicros is not seen" in out
    folder = workplace / "ground_truth/H100/planned"
    folder.mkdir(parents=True)
    shutil.copy(workplace / "plan.csv", folder / "steps.csv")
    (folder / "campaign.toml").write_text('kind = "synthetic"\n')
    code, out, _ = calibrate("validate", "--gpu", "H100")
    assert code == 1
    assert "latency_us = (empty): is empty" in " ".join(out.split())
    assert calibrate("fit", "--gpu", "H100")[0] == 1
    steps = pd.read_csv(workplace / "plan.csv")
    truth = random_truth(h100, 3)
    latency = RooflineV1().predict_us(StepTable.from_columns(steps), truth)
    steps.assign(latency_us=latency).to_csv(folder / "steps.csv", index=False)
    code, out, _ = calibrate("validate", "--gpu", "H100")
    assert (code, "0 errors" in out) == (0, True)
    code, out, _ = calibrate("fit", "--gpu", "H100", "--starts", 4, "--dry-run", "--json")
    assert code == 0
    values = {p["name"]: p["value"] for p in json.loads(out)["parameters"]}
    for name in (
        "BwEffConstant",
        "mfuPrefill",
        "mfuDecode",
        "tpScalingExponent",
        "prefillOverheadMicros",
    ):
        assert values[name] == pytest.approx(truth.values[name], rel=0.01), name


def test_the_command_beside_a_campaign_and_as_json(workplace, calibrate):
    code, out, err = calibrate("plan", "--gpu", "H100", "--budget", 5, "--json", "-o", "next.csv")
    made = json.loads(out)
    assert (code, err) == (0, "")
    assert (made["prior_rows"], made["output"], len(made["points"])) == (883, "next.csv", 5)
    assert {"name", "value", "unit", "now", "after", "status", "why", "seen_in"} == made[
        "parameters"
    ][0].keys()
    assert {*COLUMNS, "dtype", "phase", "predicted_us", "seconds", "teaches"} == made["points"][
        0
    ].keys()
    assert len((workplace / "next.csv").read_text().splitlines()) == 6
    code, _, err = calibrate("plan", "--gpu", "H100", "-o", "next.csv")
    assert code == 1
    assert "--force" in err
    assert calibrate("plan", "--gpu", "H100", "-o", "next.csv", "--force", "--budget", 3)[0] == 0
    assert len((workplace / "next.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--gpu", "H10"), 1, "did you mean 'H100'"),
        (("--gpu", "H100", "--models", "llama-3.1-8c"), 1, "did you mean 'llama-3.1-8b'"),
        (("--gpu", "H100", "--tp", "0"), 2, "whole numbers of 1 or more"),
        (("--gpu", "H100", "--budget", "0"), 2, "Invalid value for '--budget'"),
        (("--gpu", "H100", "--campaign", "none"), 1, "no campaign 'none'"),
        (("--gpu", "H100", "-o", "nowhere/plan.csv"), 1, "no such folder"),
        (
            ("--gpu", "V100", "--spec", "TFlopsPeak=125", "--spec", "BwPeakTBs=0.9"),
            1,
            "--spec MemoryGiB=",
        ),
    ],
)
def test_what_a_person_gets_wrong(workplace, calibrate, arguments, code, message):
    found, _, err = calibrate("plan", *arguments)
    assert found == code
    assert message in " ".join(err.split())
    assert not (workplace / "plan.csv").exists()


def test_a_plan_shares_experts_where_the_latency_model_counts_that(h100):
    mixture = load_architecture("qwen3-30b-a3b")
    windowed = load_architecture("gpt-oss-20b")
    limits = {"max_batch": 16, "max_tokens": 4096}
    split = candidate_steps([mixture], (1, 2), h100, **limits)
    assert "ep" not in split
    both = candidate_steps([mixture], (1, 2), h100, **limits, shares_experts=True)
    assert set(zip(both["tp"], both["ep"], strict=True)) == {(1, 1), (2, 1), (2, 2)}
    within, beyond = (
        candidate_steps([windowed], (1,), h100, **limits, counts_windows=counts)
        for counts in (False, True)
    )
    assert within["sum_prefill_tokens"].max() < beyond["sum_prefill_tokens"].max() == 4096


def test_beside_dense_steps_a_plan_tells_experts_from_their_padding_and_says_how_they_are_shared():
    hardware = Hardware("H100", dict(gpu_specs()["H100"].values))
    names, models = ["aiconfigurator-vllm-0.24.0"], ["roofline-v4"]
    dense = load_campaigns(ROOT / "ground_truth", "H100", names, hardware, models)
    mixture = load_architecture("qwen3-30b-a3b")
    made = plan(
        dense, hardware, model="roofline-v4", architectures=[mixture], tps=(1, 2), budget=30
    )
    parameters = {parameter.name: parameter for parameter in made.parameters}
    for name in ("moeMfu", "padTokens"):
        assert parameters[name].now is None
        assert parameters[name].after is not None
    assert {"moeMfu", "padTokens"} <= set(made.points["teaches"])
    assert set(made.steps["ep"]) == {1, 2}
    shared = made.steps[made.steps["ep"] == 2]
    assert shared["run_id"].str.contains("-tp2-ep2-").all()
    table = StepTable.from_columns(made.steps.drop(columns=["latency_us", "run_id"]))
    assert {arch.ep for arch in table.architectures} == {1, 2}
    assert made.loads == len(made.steps[["tp", "ep"]].drop_duplicates())
