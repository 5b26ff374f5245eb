"""Do 90% intervals cover the truth nine times in ten? A small run of what ``make bench`` measures at large."""

import itertools

import numpy as np
import pytest

from calibrate.campaign.campaign import Campaign, CampaignInfo
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from sim import Hardware, StepTable, latency_model, load_mfu_table
from sim.hardware import gpu_specs
from tests.conftest import DATA, GUIDE_H100, ROOT
from tests.coverage import binomial_limits, correlated_runs, coverages, covered, intervals, solved
from tests.synthetic import synthetic_steps

TRUTHS, ROWS, NOISE = 40, 72, 0.02
LOSSES = ("soft_l1", "linear", "huber", "cauchy")
GUIDE = Hardware("H100", GUIDE_H100)
VENDOR = Hardware("H100", dict(gpu_specs()["H100"].values))
X100 = Hardware("X100", {"TFlopsPeak": 400.0, "BwPeakTBs": 2.0, "bwEfficiencyFactor": 1.0})
TABLE = load_mfu_table(DATA / "mfu_database", "X100")
TRUTH_OF_MODEL = {
    "roofline-v1": (
        GUIDE,
        {"BwEffConstant": (0.5, 0.9), "mfuPrefill": (0.4, 0.85), "tpScalingExponent": (0.6, 1.0)},
    ),
    "roofline-v3": (
        VENDOR,
        {"gemmMfu": (0.5, 0.8), "weightBwFraction": (0.6, 0.9), "layerMicros": (20.0, 80.0)},
    ),
    "roofline-v2": (
        X100,
        {
            "TOverheadMicros": (300.0, 900.0),
            "prefillOverheadMicros": (2000.0, 6000.0),
            "bwEfficiencyFactor": (0.5, 0.9),
        },
    ),
    "roofline-v2-interp": (
        X100,
        {"bwEfficiencyFactor": (0.5, 0.9), "perLayerOverhead": (5.0, 20.0)},
    ),
}
"""Where a fit starts, and between which values the truth of what it moves is drawn: fewer parameters than runs."""


def small_truth(seed):
    """A fit to six to eight runs, each off as a whole, and what their steps were made from."""
    rng = np.random.default_rng(7000 + seed)
    name = list(TRUTH_OF_MODEL)[seed % 4]
    start, ranges = TRUTH_OF_MODEL[name]
    truth = {key: float(rng.uniform(*ends)) for key, ends in ranges.items()}
    model = latency_model(name, mfu_table=TABLE)
    steps = synthetic_steps(
        start.with_values(truth), ROWS, tps=(1, 4), noise=NOISE, seed=seed, model=model
    )
    steps = steps.assign(
        run_id=(rng.permutation(ROWS) % (6 + seed % 3)).astype(str), line=np.arange(2, ROWS + 2)
    )
    steps["latency_us"] *= correlated_runs(steps, rng)
    table = StepTable.from_columns(steps)
    campaign = Campaign("truth", start.gpu, ROOT, CampaignInfo(), steps, table, (), ())
    loss = LOSSES[seed // 4 % 4]
    return Problem(model, start, build_dataset([campaign]), tuple(truth), loss), truth


def one_truth(seed):
    problem, truth = small_truth(seed)
    return covered(intervals(*solved(problem)), truth)


@pytest.mark.slow
def test_ninety_percent_intervals_cover_nine_in_ten():
    """Of every latency model under every loss. Right intervals would be outside the limits once in a thousand times.

    So few truths show gross errors only, such as rows taken for runs (79% cover).
    """
    found = coverages(itertools.chain.from_iterable(one_truth(seed) for seed in range(TRUTHS)))
    assert [one.method for one in found] == ["sandwich by run", "profile likelihood"]
    for one in found:
        low, high = binomial_limits(one.count, 0.9, 0.001)
        assert low <= one.hits <= high, str(one)
