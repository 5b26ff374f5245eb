"""Fits that are no result themselves end where those do that are, and one start does where all agreed."""

import dataclasses

import numpy as np
import pytest

from calibrate.fitting.exact import as_rows
from calibrate.fitting.objective import build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.quick import minimise_quickly
from calibrate.fitting.search import Search, search
from calibrate.fitting.solver import minimise
from calibrate.fitting.sums import Sums
from calibrate.job.solution import Question, refit
from sim.models.roofline_v1.model import RooflineV1
from tests.calibrate.test_fit import truth_campaign

FREE = ("BwEffConstant", "mfuPrefill", "mfuDecode")


@pytest.fixture
def problem(h100):
    data = build_dataset([truth_campaign(h100, noise=0.03, tps=(1, 2))])
    return Problem(RooflineV1(), h100, data, FREE, "soft_l1")


def test_a_quick_fit_ends_where_the_exact_one_does(problem):
    start = {name: 1.3 * value for name, value in problem.start.items()}
    exact, quick = minimise(problem, start), minimise_quickly(problem, start)
    assert quick.cost == pytest.approx(exact.cost, rel=1e-6)
    assert quick.values == pytest.approx(exact.values, rel=1e-3)


def test_what_rounding_leaves_of_a_cost_makes_no_slope():
    """Of rows without an error the cost can vanish before its gradient does."""
    size = 3
    sums = Sums(np.array(1e-160), 0.0, np.full(size, 1e-6), np.eye(size))
    residual, jacobian = as_rows(sums)
    assert np.abs(jacobian).max() <= 1e3
    assert jacobian.T @ residual == pytest.approx(sums.gradient, rel=1e-9)


def test_a_part_is_fitted_from_one_start_as_from_several(problem):
    part = problem.on(np.asarray(problem.data.table.tp == 1))
    several = refit(part, Question(starts=4))
    assert refit(part, Question(starts=4), quickly=True) == pytest.approx(several, rel=1e-3)


@pytest.mark.parametrize(
    ("costs", "agreed"),
    [((1.0,) * 10, True), ((1.0,) * 9 + (1.2,), True), ((1.0,) * 8 + (1.2,) * 2, False)],
)
def test_starts_agree_where_nine_in_ten_reach_the_best(problem, costs, agreed):
    best = minimise(problem, problem.start)
    assert Search(best, costs).agreed is agreed


def test_a_search_that_agreed_is_not_made_again_when_a_parameter_is_let_go(problem):
    before = search(problem, 4, 0)
    fewer = dataclasses.replace(problem, free=FREE[:2])
    again = search(fewer, 4, 0, before)
    assert before.agreed
    assert again.costs == before.costs
    assert again.best.values == pytest.approx(minimise(fewer, fewer.start).values, rel=1e-4)
