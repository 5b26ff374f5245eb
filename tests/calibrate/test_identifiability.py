"""What the data can tell apart, against cases worked out by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from calibrate.fitting.identifiability import Sensitivity, choose_free, sensitivity
from calibrate.fitting.objective import build_dataset
from calibrate.trust.explanation import informants, row_groups, why_inert
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import truth_campaign

NAMES = ("BwEffConstant", "mfuPrefill", "mfuDecode")


def seen(*columns, weight=None):
    logs = np.array(columns, dtype=float).T
    return Sensitivity(
        NAMES[: len(columns)], logs, np.ones(len(logs)) if weight is None else np.array(weight)
    )


def test_independent_parameters_have_condition_one():
    found = seen([2, 0, 0], [0, 3, 0])
    assert found.condition_number(found.names) == pytest.approx(1)
    assert found.collinearity_index(found.names) == pytest.approx(1)
    assert found.singular_values(found.names) == pytest.approx([1, 1])


def test_two_parameters_at_an_angle():
    """Unit columns with cosine c have singular values √(1 ± c)."""
    found = seen([1, 0], [0.6, 0.8])
    assert found.singular_values(found.names) == pytest.approx([1.6**0.5, 0.4**0.5])
    assert found.condition_number(found.names) == pytest.approx(2.0)
    assert found.collinearity_index(found.names) == pytest.approx(0.4**-0.5)
    assert found.correlations(found.names)[0, 1] == pytest.approx(-0.6)


def test_fewer_rows_than_parameters_are_singular():
    found = seen([1, 1], [1, 2], [2, 1])
    assert found.singular_values(found.names)[-1] == 0
    assert found.condition_number(found.names) == float("inf")
    assert found.collinearity_index(found.names) == float("inf")
    assert found.rank == 2


def test_nothing_to_tell_apart():
    assert seen([1, 1]).condition_number([]) == seen([1, 1]).collinearity_index([]) == 1


def test_a_row_informs_by_what_the_other_parameters_cannot_explain():
    """Rows 0 and 1 see both alike; what is left of the first, (1, 1, 3, −2)/3, lies on the rows that see one only."""
    found = seen([1, 1, 1, 0], [1, 1, 0, 1])
    share = found.information("BwEffConstant", found.names[:2])
    assert share.sum() == pytest.approx(1)
    assert share == pytest.approx(np.array([1, 1, 9, 4]) / 15)
    assert found.information("BwEffConstant", ["BwEffConstant"]) == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 0]
    )


def test_weight_counts_in_the_information_and_not_in_the_sensitivity_of_groups():
    found = seen([1, 1], weight=[9, 1])
    assert found.information("BwEffConstant", ["BwEffConstant"]) == pytest.approx([0.9, 0.1])
    assert found.by_group(pd.Series(["b", "a"])) == {"BwEffConstant": [1, 1]}


@pytest.fixture
def campaign_of(h100):
    def make(phases=("prefill", "decode"), tps=(1, 2)):
        data = build_dataset([truth_campaign(h100, tps=tps)])
        return data.take(data.frame["phase"].isin(phases).to_numpy())

    return make


def test_the_rows_that_determine_a_parameter(h100, campaign_of):
    data, model = campaign_of(), RooflineV1()
    found = sensitivity(model, h100, data)
    free = choose_free(found, model.parameters(h100), [], []).free
    groups = row_groups(model, h100, data)
    by_name = informants(found, groups, free)
    assert by_name.keys() == set(free)
    assert by_name["mfuDecode"][0].rows.startswith("decode")
    assert by_name["mfuDecode"][0].rows.endswith("compute")
    assert (
        "prefill tp 2"
        in by_name["tpScalingExponent"][0].rows + by_name["tpScalingExponent"][1].rows
    )
    for ones in by_name.values():
        shares = [one.share for one in ones]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1.001
        assert all(one.n == (groups == one.rows).sum() for one in ones)


@pytest.mark.parametrize(
    ("name", "phases", "expected"),
    [
        (
            "mfuPrefill",
            ["decode"],
            "compute-bound in prefill; it stays at 0.65. Measure a prompt of",
        ),
        (
            "prefillOverheadMicros",
            ["decode"],
            "a prefill without decodes; it stays at 100. Measure",
        ),
        (
            "mfuDecode",
            ["prefill"],
            "compute-bound in decode; it stays at 0.12. Measure decode at batch 64 or more",
        ),
        (
            "mixedPrefillOverheadMicros",
            ["prefill", "decode"],
            "mixed (prompts beside decodes); it stays at 50",
        ),
        (
            "decodeBwFactor",
            ["prefill"],
            "only its product with BwEffConstant shows; it stays at 1. Measure decode",
        ),
        (
            "perLayerOverhead",
            ["prefill", "decode"],
            "seen in no step: roofline-v1 ignores it; it stays at 5",
        ),
    ],
)
def test_why_a_parameter_is_not_seen_and_what_would_show_it(
    h100, campaign_of, name, phases, expected
):
    assert expected in why_inert(name, RooflineV1(), h100, campaign_of(phases))


def test_a_factor_that_no_step_of_the_model_shows_is_said_to_be_one(h100, campaign_of):
    """On a GPU of endless bandwidth every prefill is bound by arithmetic."""
    endless = h100.with_values({"BwPeakTBs": 1e6})
    why = why_inert("prefillBwFactor", RooflineV1(), endless, campaign_of())
    assert why == "only its product with BwEffConstant shows; it stays at 1"


def test_what_it_says_to_measure_does_show_the_parameter(h100, campaign_of):
    data = campaign_of(["prefill"], tps=(1,))
    model = RooflineV1()
    assert "mfuDecode" in sensitivity(model, h100, data).inert
    advice = why_inert("mfuDecode", model, h100, data)
    batch = int(advice.partition("batch ")[2].split()[0])
    moments = np.zeros((8, 1))
    moments[6:, 0] = batch, batch * 512
    table = dataclasses.replace(
        data.table,
        arch_index=np.zeros(1, np.intp),
        tp=np.ones(1, np.int64),
        moments=moments,
        _memo={},
    )
    assert model.regimes(table, h100).tolist() == ["compute"]
    table.moments[6:] /= 2
    assert model.regimes(dataclasses.replace(table, _memo={}), h100).tolist() != ["compute"]
