"""Leverage: which rows a fit follows more than all others together."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate import fit
from calibrate.fitting.leverage import block_leverage, leverage_warning
from tests.calibrate.test_fit import truth_campaign


def blocks(*rows):
    return [np.array(row) for row in rows]


def test_leverage_by_hand():
    """A line through x = 0, 1, 2, 7: 1/4 + (x − 2.5)²/29, Σ(x − 2.5)² = 29."""
    x = np.array([0.0, 1, 2, 7])
    jacobian = np.column_stack([np.ones(4), x])
    found = block_leverage(np.zeros(4), jacobian, np.ones(4), "linear", blocks([0], [1], [2], [3]))
    assert found == pytest.approx(
        [0.25 + 6.25 / 29, 0.25 + 2.25 / 29, 0.25 + 0.25 / 29, 0.25 + 20.25 / 29]
    )
    assert found.sum() == pytest.approx(2)


def test_weight_and_loss_count():
    """One parameter: shares of weight × curvature. Soft L1 bends by (1 + r²)^-3/2, 1/8 at r = √3."""
    jacobian = np.ones((3, 1))
    residual = np.array([0.0, 0.0, 3**0.5])
    found = block_leverage(
        residual, jacobian, np.array([1.0, 2.0, 8.0]), "soft_l1", blocks([0], [1], [2], [0, 2], [])
    )
    assert found == pytest.approx([1 / 4, 2 / 4, 1 / 4, 2 / 4, 0])


def test_a_block_counts_along_what_it_knows_best():
    """Two rows that see one parameter each, alone: their block knows all there is, along either."""
    found = block_leverage(np.zeros(2), np.eye(2), np.ones(2), "linear", blocks([0], [1], [0, 1]))
    assert found == pytest.approx([1, 1, 1])


def test_rows_above_a_half_are_named_the_worst_first():
    names = pd.Series(["a:2", "a:3", "a:4"])
    assert leverage_warning(np.array([0.5, 0.1, 0.4]), names) == []
    (text,) = leverage_warning(np.array([0.6, 0.1, 0.9]), names)
    assert text.startswith("2 rows have a leverage above 1/2")
    assert "(a:4 (0.90); a:3" not in text
    assert "(a:4 (0.90); a:2 (0.60))" in text


@pytest.mark.usefixtures("no_profiles")
def test_a_fit_names_the_one_row_that_shows_a_parameter(h100):
    """Of the rows at TP 2 one alone is left: nothing else shows the time of an all-reduce."""
    campaign = truth_campaign(h100, tps=(1, 2), noise=0.01)
    keep = np.array(campaign.steps["tp"] == 1)
    keep[np.flatnonzero(~keep)[20]] = True
    steps = campaign.steps[keep].reset_index(drop=True)
    one = dataclasses.replace(
        campaign, steps=steps, table=campaign.table.take(np.flatnonzero(keep))
    )
    result = fit([one], h100, starts=2, cv=["2"])
    named = [text for text in result.warnings if "leverage" in text]
    line = steps.loc[steps["tp"] == 2, "line"].item()
    assert len(named) == 1
    assert f"truth:{line}, decode of llama-3.1-8b at tp 2 (1.00)" in named[0]
