"""What is said of a finished fit: the knee of its loss, and three statements with a light each."""

import numpy as np
import pytest

from calibrate import fit
from calibrate.outcome.result import Metrics, ParameterResult
from calibrate.outcome.review import check_loss, judge, lacks_term
from calibrate.outcome.verdicts import serving_statement, step_statements, with_serving
from calibrate.serving.summary import ServingSummary
from calibrate.trust.metrics import Errors
from calibrate.trust.structure import LackOfFit
from tests.calibrate.test_fit import truth_campaign


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


def err(mape, bias=0.0, n=100):
    return Errors(n, mape, mape, 2 * mape, bias)


def metrics_of(same=0.078, models=(0.105, 0.327), tps=(0.08, 0.129), before=0.221):
    """Errors held out by run, of each model and each TP; None for a split that was not made."""
    after = {"all": err(0.07), "model:a": err(0.07), "model:b": err(0.07)}
    held_out = {} if same is None else {"folds": {"all": err(same)}}
    for kind, labels, found in (("model", "ab", models), ("tp", "18", tps)):
        if found:
            parts = {f"{kind}:{one}": err(e) for one, e in zip(labels, found, strict=True)}
            held_out[kind] = {"all": err(sum(found) / 2), **parts}
    return Metrics({"all": err(before)}, after, held_out)


def parameter(status="fitted"):
    return ParameterResult(
        "mfuPrefill", 0.7, 0.5, "–", 0, 1, (0.5, 0.7), None, None, None, {}, status, ""
    )


def lights(metrics, status="fitted", *, lacks=False, composed=False):
    found = step_statements(metrics, [parameter(status)], lacks_term=lacks, composed=composed)
    return [one.light for one in found]


@pytest.mark.parametrize(
    ("changes", "lacks", "expected", "level"),
    [
        ({}, True, ["good", "poor"], "fair"),
        ({"models": (0.03, 0.04), "tps": (0.02, 0.05)}, False, ["good", "good"], "good"),
        ({"models": (0.03, 0.04), "tps": (0.02, 0.05)}, True, ["good", "fair"], "fair"),
        ({"models": (0.03, 0.15)}, False, ["good", "fair"], "fair"),
        ({"models": None, "tps": (0.03, 0.25)}, False, ["good", "poor"], "fair"),
        ({"models": None, "tps": None}, False, ["good", "unknown"], "good"),
        ({"same": 0.15, "models": None, "tps": None}, False, ["fair", "unknown"], "fair"),
        ({"same": 0.25}, False, ["poor", "poor"], "poor"),
        ({"same": 0.08, "before": 0.05}, False, ["poor", "poor"], "poor"),
        ({"same": None, "models": None, "tps": None}, False, ["unknown", "unknown"], "fair"),
    ],
)
def test_every_statement_has_its_own_light_and_good_never_stands_over_a_worse_one(
    changes, lacks, expected, level
):
    metrics = metrics_of(**changes)
    statements = step_statements(metrics, [parameter()], lacks_term=lacks, composed=False)
    assert [one.light for one in statements] == [*expected, "unknown"]
    assert judge(metrics, [parameter()], [], statements).level == level


def test_a_parameter_at_its_bound_is_not_good():
    assert lights(metrics_of(), "at-bound")[0] == "fair"
    assert lights(metrics_of(same=0.25), "at-bound")[0] == "poor"


def test_the_statements_name_the_worst_that_was_left_out_and_what_servers_add():
    same, unseen, servers = step_statements(
        metrics_of(), [parameter()], lacks_term=True, composed=True
    )
    assert [same.name, unseen.name, servers.name] == [
        "more of the same data",
        "a model or TP not seen",
        "servers",
    ]
    assert same.text == "Steps of other runs are predicted to 7.8%, 90% of them within 15.6%."
    assert unseen.text == (
        "A model left out is predicted to 21.6% (worst: b, 32.7%); a TP left out is predicted to 10.5% "
        "(worst: tp 8, 12.9%). The model lacks a term: expect more, the further from what was measured."
    )
    assert "servers add host time and sampling" in servers.text
    (*_, measured) = step_statements(metrics_of(), [parameter()], lacks_term=True, composed=False)
    assert "composed" not in measured.text


def served(error):
    return {metric: {"all": err(error)} for metric in ("ttft", "itl", "e2e")}


def test_servers_have_the_light_of_their_own_held_out_error():
    def light(before, unseen):
        held_out = {} if unseen is None else {"model": served(unseen)}
        summary = ServingSummary(9, (), {}, served(before), served(0.02), held_out, (), ())
        steps = step_statements(metrics_of(), [parameter()], lacks_term=False, composed=True)
        *others, servers = with_serving(steps, summary)
        assert tuple(others) == steps[:2]
        assert servers == serving_statement(summary)
        return servers.light

    assert [light(0.5, e) for e in (0.05, 0.15, 0.3, None)] == ["good", "fair", "poor", "unknown"]
    assert light(0.1, 0.15) == "poor"


def test_a_term_lacks_where_a_test_a_trend_or_a_slice_says_so():
    def lack(p):
        return LackOfFit(9.0, p, 3, 6, 0.1, 0.01, "")

    assert not lacks_term(metrics_of(), None, [])
    assert not lacks_term(metrics_of(), lack(0.5), [])
    assert lacks_term(metrics_of(), lack(1e-6), [])
    metrics = metrics_of()
    metrics.after["model:a"] = err(0.12, bias=-0.12)
    assert lacks_term(metrics, None, [])


def test_a_result_holds_its_statements_and_shows_them(h100):
    start = h100.with_values({"mfuPrefill": 0.5})
    result = fit([truth_campaign(h100, tps=(1, 2))], start, starts=1)
    assert [one["light"] for one in result.to_dict()["verdicts"]] == ["good", "good", "unknown"]
    assert result.verdict.level == "good"
    assert "good, on more of the same data: Steps of other runs" in result.fit_report()
