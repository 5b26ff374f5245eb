"""What is said of a finished fit: the knee of its loss, and three statements with a light each."""

import numpy as np
import pytest

from calibrate.outcome.review import check_loss


def test_a_knee_inside_the_misfit_is_said_with_its_share():
    """Of ten rows with σ = 5%, five are off by 10%; the median size is (0.02 + 0.1)/2, 1.4826 of it 0.089."""
    residual = np.array([0.1, -0.1] * 2 + [0.1] + [0.02] * 5)
    (text,) = check_loss("soft_l1", residual, np.full(10, 0.05))
    assert text.startswith(
        "The loss soft_l1 plays down rows that are off by more than 5.0%, and 50% "
    )
    assert "--floor 0.09 " in text


@pytest.mark.parametrize(
    ("loss", "beyond"), [("linear", 9), ("soft_l1", 4), ("huber", 0), ("cauchy", 4)]
)
def test_a_third_beyond_the_knee_is_noise_and_a_linear_loss_has_none(loss, beyond):
    residual = np.where(np.arange(10) < beyond, 0.1, 0.02)
    assert check_loss(loss, residual, np.full(10, 0.05)) == []
