"""How the benchmark of recommendations judges a choice among measured loads."""

import pandas as pd
import pytest

from benchmarks.decisions import decision


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
