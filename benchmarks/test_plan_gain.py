"""How much more do planned points teach than a grid of as many? Intervals to first order, and fits to noisy data."""

import numpy as np
import pytest

from calibrate.fitting.objective import MODEL_FLOOR
from calibrate.planning.plan import plan
from sim import load_architecture, load_hardware
from tests.calibrate.test_fit import random_truth
from tests.conftest import GUIDE_H100
from tests.grids import (
    FREE,
    HAND_MADE,
    MODELS,
    error_ratio,
    fit_errors,
    joint_half_width,
    random_factorial,
)

TRUTHS = 60
GRIDS = 200
NARROWER = 2.0  # the median random factorial; the best grids made by hand come nearer
NARROWER_THAN_ANY = 1.5
SMALLER_ERRORS = 2.0
PLAN_S = 3.0
COVERED = 0.75  # a fit weighs slices alike and cannot know what they share: it does not reach the 90% of the best one

H100 = load_hardware({"H100": GUIDE_H100})
SEEN_TRUTHS = [random_truth(H100, seed) for seed in range(TRUTHS)]


def first_plan(points):
    """The plan of a first campaign, which knows no truth."""
    return plan([], H100, architectures=[load_architecture(name) for name in MODELS], budget=points)


def planned(points):
    return first_plan(points).points.drop(columns=["phase", "predicted_us", "seconds", "teaches"])


def test_a_plan_takes_no_time(benchmark):
    benchmark.pedantic(planned, (24,), rounds=5, warmup_rounds=1)
    print(f"\na plan of 24 points: {benchmark.stats.stats.median:.2f} s (target {PLAN_S:g} s)")
    assert benchmark.stats.stats.median <= PLAN_S


def test_joint_interval_against_random_factorials(benchmark):
    def ratios():
        steps = planned(48)
        pairs = [(random_factorial(seed), SEEN_TRUTHS[seed % TRUTHS]) for seed in range(GRIDS)]
        return np.array(
            [
                joint_half_width(grid, truth) / joint_half_width(steps, truth)
                for grid, truth in pairs
            ]
        )

    ratio = benchmark.pedantic(ratios, rounds=1)
    low, median, high = np.quantile(ratio, [0.05, 0.5, 0.95])
    print(
        f"\n{GRIDS} random factorials of 48 points: joint half-width {median:.2f} times the plan's in the median "
        f"(90%: {low:.2f}–{high:.2f}; at least 2: {(ratio >= 2).mean():.1%}), volume {median**10:,.0f} times"
    )
    assert median >= NARROWER


@pytest.mark.parametrize("name", HAND_MADE)
def test_joint_interval_against_grids_made_by_hand(benchmark, name):
    def ratios():
        steps = planned(24)
        return [
            joint_half_width(HAND_MADE[name], t) / joint_half_width(steps, t) for t in SEEN_TRUTHS
        ]

    ratio = np.array(benchmark.pedantic(ratios, rounds=1))
    median = np.median(ratio)
    print(
        f"\n{name}: joint half-width {median:.2f} times the plan's ({ratio.min():.2f}–{ratio.max():.2f}), "
        f"volume {median**10:,.0f} times"
    )
    assert median >= NARROWER_THAN_ANY


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("name", HAND_MADE)
def test_errors_of_fits_against_grids_made_by_hand(benchmark, name, noise):
    def errors(steps):
        return np.array(
            [fit_errors(steps, H100, truth, noise, seed) for seed, truth in enumerate(SEEN_TRUTHS)]
        )

    worse, better = benchmark.pedantic(
        lambda: (errors(HAND_MADE[name]), errors(planned(24))), rounds=1
    )
    ratio = error_ratio(worse, better)
    print(
        f"\n{name}, {noise:.0%} noise, {TRUTHS} truths: RMS log errors of the fits {ratio:.2f} times the plan's"
    )
    assert ratio >= SMALLER_ERRORS


def test_errors_of_fits_against_the_expected_half_widths(benchmark):
    """Noise as the plan assumes it: 5%, half of the variance shared by a phase, model and tp."""
    made = first_plan(24)
    after = {p.name: p.after for p in made.parameters}
    widths = np.array([after[name] or np.nan for name in FREE])
    each = MODEL_FLOOR * 0.5**0.5

    def errors():
        truths = enumerate(SEEN_TRUTHS)
        return np.array(
            [
                fit_errors(planned(24), H100, truth, each, seed, shared=each)
                for seed, truth in truths
            ]
        )

    size = np.abs(benchmark.pedantic(errors, rounds=1))
    seen = ~np.isnan(widths)
    covered = (size <= widths).mean(axis=0)
    quantile = np.quantile(size, 0.9, axis=0) / widths
    by_parameter = ", ".join(
        f"{name} {covered[i]:.0%} ({quantile[i]:.2f}×)" for i, name in enumerate(FREE) if seen[i]
    )
    print(f"\nexpected 90% half-widths hold in {covered[seen].mean():.1%} of fits; {by_parameter}")
    assert covered[seen].mean() >= COVERED
