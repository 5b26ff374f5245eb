"""One parameter over several GPUs: known truths come back, and 90% intervals hold nine in ten."""

import numpy as np
import pytest

from calibrate.transfer.hierarchy import between_variance, kinship, predict

HOPPER, BLACKWELL = ("NVLink", "Hopper"), ("NVLink", "Blackwell")
ADA = ("PCIe", "Ada")


def test_gpus_of_a_link_share_half_and_of_a_generation_half_of_the_rest():
    related = kinship([HOPPER, HOPPER, BLACKWELL, ADA])
    assert related.tolist() == [
        [1.0, 0.75, 0.5, 0.0],
        [0.75, 1.0, 0.5, 0.0],
        [0.5, 0.5, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]


@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_the_spread_between_many_gpus_is_found(spread):
    groups = [(f"generation {number % 40}",) for number in range(200)]
    rng = np.random.default_rng(1)
    effects = rng.multivariate_normal(np.zeros(200), spread**2 * kinship(groups))
    variances = np.full(200, 0.02**2)
    points = effects + 0.02 * rng.standard_normal(200)
    found = between_variance(points, variances, kinship(groups), prior_sd=0.1)
    assert np.sqrt(found) == pytest.approx(spread, rel=0.12)


def test_ninety_percent_intervals_hold_nine_new_gpus_in_ten():
    groups = [HOPPER, HOPPER, BLACKWELL, BLACKWELL, BLACKWELL, ("NVLink", "Ampere"), ADA, BLACKWELL]
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(400):
        errors = rng.uniform(0.005, 0.03, 8)
        effects = rng.multivariate_normal(np.full(8, -0.2), 0.1**2 * kinship(groups))
        points = effects + errors * rng.standard_normal(8)
        made = predict(points[:7], errors[:7] ** 2, groups[:7], groups[7], prior_sd=0.1)
        inside.append(abs(effects[7] - made.mean) <= made.half_width)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.035)


def test_a_relative_says_more_than_a_stranger():
    points, variances = np.array([0.0, 0.0, 1.0]), np.full(3, 1e-4)
    groups = [BLACKWELL, ADA, HOPPER]
    of_hopper = predict(points, variances, groups, HOPPER, prior_sd=0.5)
    of_new = predict(points, variances, groups, ("NVLink", "Rubin"), prior_sd=0.5)
    of_stranger = predict(points, variances, groups, ("ICI", "TPU v6"), prior_sd=0.5)
    assert of_hopper.mean > of_new.mean > of_stranger.mean
    assert of_hopper.half_width < of_new.half_width < of_stranger.half_width


def test_a_gpu_that_stands_apart_moves_the_mean_less_and_the_interval_more():
    groups = [("a",), ("b",), ("c",), ("d",), ("e",)]
    alike, apart = np.array([0.0, 0.02, -0.02, 0.01, 0.0]), np.array([0.0, 0.02, -0.02, 0.01, 2.0])
    variances = np.full(5, 1e-4)
    close = predict(alike, variances, groups, ("f",), prior_sd=0.1)
    wide = predict(apart, variances, groups, ("f",), prior_sd=0.1)
    assert wide.mean < 0.5 * apart.mean()
    assert wide.half_width > 3 * close.half_width


def test_what_a_fit_could_hardly_tell_counts_little():
    points, groups = np.array([0.0, 0.0, 1.0]), [("a",), ("b",), ("c",)]
    sure = predict(points, np.array([1e-4, 1e-4, 1e-4]), groups, ("d",), prior_sd=0.2)
    unsure = predict(points, np.array([1e-4, 1e-4, 4.0]), groups, ("d",), prior_sd=0.2)
    assert unsure.mean < 0.2 * sure.mean


def test_few_gpus_give_wide_intervals_that_the_guide_bounds():
    made = predict(np.array([0.0]), np.array([1e-6]), [("a",)], ("b",), prior_sd=0.1)
    assert made.freedom == 1.0
    assert made.sd == pytest.approx(0.1 * np.sqrt(2), rel=0.05)
