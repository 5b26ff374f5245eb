"""The fit against known truth, its choices, and what it must refuse."""

import dataclasses

import numpy as np
import pytest

from calibrate import fit
from calibrate.campaign.campaign import Campaign, CampaignInfo
from calibrate.fitting.objective import Objective, build_dataset, weighted_loss
from calibrate.records.errors import CalibrateError
from sim import Hardware, StepTable
from sim.models.roofline_v1.model import RooflineV1
from tests.conftest import ROOT

MODEL = RooflineV1()
STRONG = ("BwEffConstant", "mfuPrefill", "tpScalingExponent", "decodeTpScalingExponent")


def truth_campaign(
    hardware, seed=0, noise=0.02, tps=(1, 2, 4, 8), batches=(1, 4, 16, 64, 128, 256), name="truth"
):
    """Steps that roofline-v1 takes with ``hardware``, with Gaussian noise: two models, prefill, decode and mixed."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    prefill = [(n, n * q, 0, 0) for n in (1, 4, 16) for q in (32, 128, 512, 2048, 8192)]
    decode = [(0, 0, n, n * s) for n in batches for s in (128, 1024, 4096)]
    mixed = [(n, n * q, 4 * n, 4 * n * 512) for n in (1, 4, 8) for q in (64, 512)]
    points = [
        (m, tp, *step)
        for m in ("llama-3.1-8b", "llama-2-13b")
        for tp in tps
        for step in prefill + decode + mixed
    ]
    names = (
        "model",
        "tp",
        "num_prefill_requests",
        "sum_prefill_tokens",
        "num_decode_requests",
        "sum_decode_kv_tokens",
    )
    steps = pd.DataFrame(points, columns=names)
    table = StepTable.from_columns(steps)
    latency = MODEL.predict_us(table, hardware) * np.exp(noise * rng.standard_normal(len(table)))
    run = (
        steps["model"]
        + "-"
        + steps["tp"].astype(str)
        + "-"
        + (np.arange(len(steps)) % 9).astype(str)
    )
    steps = steps.assign(latency_us=latency, run_id=run, line=np.arange(2, len(steps) + 2))
    return Campaign(name, "H100", ROOT, CampaignInfo(), steps, table, (), ())


def random_truth(h100, seed) -> Hardware:
    """Parameters drawn from somewhat more than the guide's ranges."""
    rng = np.random.default_rng(1000 + seed)
    ranges = {
        "BwEffConstant": (0.5, 0.9),
        "mfuPrefill": (0.4, 0.85),
        "mfuDecode": (0.06, 0.3),
        "tpScalingExponent": (0.6, 1.0),
        "decodeTpScalingExponent": (0.8, 1.05),
        "vectorPeakFraction": (0.05, 0.3),
        "TOverheadMicros": (20, 300),
        "prefillOverheadMicros": (20, 300),
        "mixedPrefillOverheadMicros": (20, 200),
        "allReduceLatency": (5, 60),
    }
    return h100.with_values({name: float(rng.uniform(*bounds)) for name, bounds in ranges.items()})


@pytest.mark.usefixtures("no_profiles")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.slow
def test_random_truth_comes_back_from_two_percent_noise(h100, seed):
    truth = random_truth(h100, seed)
    result = fit([truth_campaign(truth, seed)], h100, seed=seed, starts=4, cv=["2"])
    for name in STRONG:
        assert result.values[name] == pytest.approx(truth.values[name], rel=0.03), name
    clean = truth_campaign(truth, noise=0.0)
    predicted = MODEL.predict_us(clean.table, h100.with_values(result.values))
    assert np.abs(predicted / clean.steps["latency_us"] - 1).mean() <= 0.025
    assert result.metrics.after["all"].mape <= 0.025
    assert result.metrics.held_out["folds"]["all"].mape <= 0.025
    assert not result.is_worse_than_start


def test_the_same_seed_gives_the_same_result(h100):
    campaign = truth_campaign(random_truth(h100, 1))
    first, second = (fit([campaign], h100, seed=3, starts=3, cv=["2"]) for _ in range(2))
    assert first.parameters == second.parameters
    assert first.metrics == second.metrics
    assert first.fit == second.fit


@pytest.mark.usefixtures("no_profiles")
def test_processes_change_nothing(h100):
    campaign = truth_campaign(random_truth(h100, 1))
    assert (
        fit([campaign], h100, starts=1, jobs=2).metrics == fit([campaign], h100, starts=1).metrics
    )


@pytest.mark.usefixtures("no_profiles")
def test_the_guides_configuration_is_found_again_from_its_own_steps(h100):
    result = fit([truth_campaign(h100, noise=0.0)], h100, starts=2)
    assert result.metrics.after["all"].mape < 1e-6
    assert not result.is_worse_than_start


@pytest.mark.usefixtures("no_profiles")
def test_what_no_row_sees_is_held_and_named(h100):
    """TP 1 and decode batch up to 32: no exponents, no all-reduce, no decode MFU."""
    result = fit([truth_campaign(h100, tps=(1,), batches=(1, 4, 16, 32))], h100, starts=2)
    held = {p.name: p for p in result.parameters if p.status == "inert"}
    unseen = {
        "mfuDecode",
        "mfuDecodeMultiplier",
        "tpScalingExponent",
        "decodeTpScalingExponent",
        "allReduceLatency",
    }
    assert held.keys() == unseen | {"perLayerOverhead"}
    assert all(p.value == p.start and p.ci90 is None for p in held.values())
    assert held["mfuDecode"].why == (
        "no row of this data is compute-bound in decode (largest batch: 32); it stays at 0.12. "
        "Measure decode at batch 64 or more to see it"
    )
    assert held["allReduceLatency"].why.endswith("Measure decode at tp 2 to see it")
    assert any("only tp 1" in warning for warning in result.warnings)


@pytest.mark.usefixtures("no_profiles")
def test_of_inseparable_products_one_is_fitted_and_the_multipliers_stay(h100):
    by_name = {p.name: p for p in fit([truth_campaign(h100)], h100, starts=1).parameters}
    for name in (
        "mfuPrefillMultiplier",
        "mfuDecodeMultiplier",
        "prefillBwFactor",
        "decodeBwFactor",
    ):
        assert by_name[name].status == "tied"
        assert by_name[name].value == 1.0
        assert "product" in by_name[name].why


@pytest.mark.usefixtures("no_profiles")
def test_fix_and_free_overrule(h100):
    truth = h100.with_values({"decodeBwFactor": 0.8})
    result = fit(
        [truth_campaign(truth)],
        h100,
        fix={"mfuPrefill": 0.6, "allReduceLatency": None},
        free=["decodeBwFactor"],
        starts=2,
    )
    by_name = {p.name: p for p in result.parameters}
    assert (by_name["mfuPrefill"].value, by_name["mfuPrefill"].status) == (0.6, "held")
    assert (by_name["allReduceLatency"].value, by_name["allReduceLatency"].status) == (20.0, "held")
    assert by_name["decodeBwFactor"].status == "fitted"
    assert by_name["decodeBwFactor"].value == pytest.approx(0.8, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fix": {"mfuPrefil": None}}, "did you mean 'mfuPrefill'"),
        ({"fix": {"mfuPrefill": 7.0}}, "outside its bounds"),
        ({"fix": {"mfuPrefill": None}, "free": ["mfuprefill"]}, "both fixed and free"),
        ({"loss": "soft_l2"}, "did you mean 'soft_l1'"),
        ({"starts": 0}, "starts must be 1 or more"),
        ({"fix": dict.fromkeys(MODEL.parameter_names)}, "nothing can be fitted"),
    ],
)
def test_what_cannot_be_asked_for_is_an_error(h100, options, message):
    with pytest.raises(CalibrateError, match=message):
        fit([truth_campaign(h100)], h100, **options)


@pytest.mark.usefixtures("no_profiles")
def test_a_few_wild_rows_do_not_move_the_fit(h100):
    truth = random_truth(h100, 5)
    campaign = truth_campaign(truth)
    rng = np.random.default_rng(0)
    wild = campaign.steps["latency_us"].mask(
        rng.random(len(campaign.steps)) < 0.1, campaign.steps["latency_us"] * 3
    )
    spoilt = dataclasses.replace(campaign, steps=campaign.steps.assign(latency_us=wild))
    clean_values, values = (fit([c], h100, starts=2, cv=["2"]).values for c in (campaign, spoilt))
    for name in STRONG:
        assert values[name] == pytest.approx(clean_values[name], rel=0.02), name


def test_many_rows_of_one_slice_do_not_drown_the_others(h100):
    """A thousand decode rows of another truth hardly move what forty prefill rows say."""
    campaign = truth_campaign(h100, noise=0.01, tps=(1,))
    data = build_dataset([campaign])
    weights = (
        data.frame.assign(weight=data.weight).groupby(["phase", "model", "tp"])["weight"].sum()
    )
    np.testing.assert_allclose(weights, weights.mean())
    assert data.weight.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["soft_l1", "linear", "huber", "cauchy"])
def test_losses_come_with_their_own_derivatives_and_weight_outside(name):
    z = np.array([0.01, 0.5, 2.0, 40.0])
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    loss = weighted_loss(name, weight)
    value, first, second = loss(z)
    np.testing.assert_allclose(value, weight * weighted_loss(name, np.ones(4))(z)[0])
    step = 1e-6 * z
    np.testing.assert_allclose(
        first, (loss(z + step)[0] - loss(z - step)[0]) / (2 * step), rtol=1e-5
    )
    np.testing.assert_allclose(
        second, (loss(z + step)[1] - loss(z - step)[1]) / (2 * step), rtol=1e-5, atol=1e-9
    )


def test_the_jacobian_of_the_residuals_is_their_derivative(h100):
    objective = Objective(MODEL, h100, build_dataset([truth_campaign(random_truth(h100, 2))]))
    values = {name: h100.values[name] for name in STRONG}
    jacobian = objective.jacobian(values)
    for column, name in zip(jacobian.T, values, strict=True):
        step = 1e-6 * values[name]
        up, down = (
            objective.residuals({**values, name: values[name] + sign * step}) for sign in (1, -1)
        )
        np.testing.assert_allclose(column, (up - down) / (2 * step), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("no_profiles")
def test_two_campaigns_are_also_left_out_one_at_a_time(h100):
    parts = [truth_campaign(h100, seed=s, name=f"part{s}") for s in (0, 1)]
    held_out = fit(parts, h100, starts=1).metrics.held_out
    assert held_out.keys() == {"folds", "model", "tp", "campaign"}
    assert held_out["campaign"]["campaign:part1"].n == len(parts[1].steps)


def test_replicates_of_a_point_share_a_fold(h100):
    from calibrate.trust.crossval import splits

    campaign = truth_campaign(h100)
    twice = dataclasses.replace(
        campaign,
        name="truth",
        steps=campaign.steps.assign(run_id=campaign.steps["run_id"] + "-again"),
    )
    data = build_dataset([campaign, twice])
    labels = next(s for s in splits(data, seed=0) if s.name == "folds").labels
    half = len(campaign.steps)
    np.testing.assert_array_equal(labels[:half], labels[half:])
    assert len(set(labels.tolist())) == 5


@pytest.mark.usefixtures("no_profiles")
def test_what_cannot_be_held_out_is_not_called_good(h100):
    campaign = truth_campaign(h100, noise=0.0)
    one_run = dataclasses.replace(campaign, steps=campaign.steps.assign(run_id="only"))
    verdict = fit([one_run], h100, starts=1).verdict
    assert verdict.level == "fair"
    assert "rows the fit has not seen" not in verdict.sentence
    assert "was made of" in verdict.sentence
    first = dataclasses.replace(
        campaign, steps=campaign.steps.iloc[:1], table=campaign.table.take([0])
    )
    assert fit([first], h100, starts=1).verdict.level == "poor"


@pytest.mark.usefixtures("no_profiles")
def test_an_option_that_was_not_followed_is_said(h100):
    result = fit([truth_campaign(h100)], h100, free=["perLayerOverhead"], starts=1)
    assert any("--free perLayerOverhead was not followed" in warning for warning in result.warnings)


@pytest.mark.usefixtures("no_profiles")
def test_a_model_that_cannot_be_computed_is_left_out_and_named(h100):
    campaign = truth_campaign(h100)
    steps = campaign.steps.assign(
        model=campaign.steps["model"].where(campaign.steps.index % 2 == 0, "mixtral-8x7b")
    )
    mixed = dataclasses.replace(campaign, steps=steps, table=StepTable.from_columns(steps))
    result = fit([mixed], h100, starts=1)
    assert result.fit.n_rows == (len(steps) + 1) // 2
    assert any(
        "mixture of experts" in warning and "rows left out" in warning
        for warning in result.warnings
    )
    only = dataclasses.replace(
        campaign, steps=(s := steps.assign(model="mixtral-8x7b")), table=StepTable.from_columns(s)
    )
    with pytest.raises(CalibrateError, match="no step row to fit"):
        fit([only], h100)
