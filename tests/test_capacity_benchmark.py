"""How the benchmark of recommendations judges a choice among measured loads."""

import pandas as pd
import pytest

from benchmarks.decisions import (
    AS_PREDICTED,
    WITH_ITL,
    WITH_LEVEL_OF_TP,
    WITH_TTFT,
    decision,
    outcomes,
)


def loads(predicted_itl, predicted_rate):
    """Three loads of 1, 2 and 3 ms a token that carry 1, 2 and 3 requests a second, predicted so."""
    return pd.DataFrame(
        {
            "measured_itl": [1.0, 2.0, 3.0],
            "measured_ttft": 1.0,
            "measured_rate": [1.0, 2.0, 3.0],
            "predicted_itl": predicted_itl,
            "predicted_ttft": 1.0,
            "predicted_rate": predicted_rate,
        },
        index=[7, 3, 5],
    )


@pytest.mark.parametrize(
    ("predicted_itl", "predicted_rate", "most_itl", "said"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 2.0, "right"),
        ([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], 2.0, "slower"),
        ([1.0, 2.0, 2.0], [1.0, 2.0, 3.0], 2.0, "missed"),
        ([4.0, 4.0, 4.0], [1.0, 2.0, 3.0], 2.0, "none"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.5, None),
    ],
)
def test_a_choice_is_judged_by_what_was_measured(predicted_itl, predicted_rate, most_itl, said):
    assert decision(loads(predicted_itl, predicted_rate), (most_itl, 1.0)) == said


def test_what_made_a_decision_wrong_is_told_by_measuring_it():
    """Predicted ITL is twice too long at TP 2: no part of TTFT helps, a factor for each TP does."""
    tp = pd.Series([1, 2] * 4)
    itl = pd.Series([10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0])
    frame = pd.DataFrame(
        {
            "prompt": 1000.0,
            "output": 500.0,
            "tp": tp,
            "clients": [2, 10, 4, 20, 6, 30, 8, 40],
            "measured_ttft": 100.0,
            "measured_itl": itl,
            "predicted_ttft": 100.0,
            "predicted_itl": itl * tp,
        }
    )
    found = outcomes(frame)
    decided = found[AS_PREDICTED].total()
    assert decided == 20
    assert found[AS_PREDICTED]["right"] < decided
    assert found[WITH_TTFT] == found[AS_PREDICTED]
    assert found[WITH_ITL]["right"] == found[WITH_LEVEL_OF_TP]["right"] == decided
