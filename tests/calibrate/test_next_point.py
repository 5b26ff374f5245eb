"""What to measure next where two candidates cannot be told apart."""

import dataclasses

import numpy as np
import pytest

from calibrate.capacity.candidates import Candidate
from calibrate.capacity.next_point import next_point
from calibrate.capacity.recommendation import choice_of
from calibrate.capacity.replica import Replica
from calibrate.capacity.search import find_rate
from calibrate.capacity.slo import parse_slo
from calibrate.capacity.sweep import Assessed
from calibrate.capacity.uncertainty import Draw
from sim import EngineLimits, Workload, latency_model, load_architecture, load_hardware
from sim.serving.lengths import Fixed
from sim.serving.workload import Poisson
from tests.conftest import GUIDE_H100

H100 = load_hardware({"H100": GUIDE_H100})
MODEL = latency_model("roofline-v3")
DRAWS = 40
HOPS_US = np.linspace(1.0, 4.0, DRAWS)


@pytest.fixture(scope="module")
def found():
    replica = Replica(MODEL, load_architecture("llama-3.1-8b"), H100, 1, EngineLimits())
    load = Workload(1, Poisson(1.0), Fixed(300), Fixed(60))
    return find_rate(replica, load, parse_slo(["ttft_p99=500ms"]), size=400)


def assessed(found, tp, rates, drawn=None, seqs=64):
    """A candidate with these rates by draw; ``drawn`` are the values of its all-reduce hop in them."""
    replica = Replica(MODEL, load_architecture("llama-3.1-8b"), H100, tp, EngineLimits())
    draws = () if drawn is None else tuple(Draw({"allReduceHopMicros": v}, 1, 1, 0) for v in drawn)
    best = dataclasses.replace(found.best, rate=float(np.mean(rates)))
    there = dataclasses.replace(found, best=best)
    return Assessed(Candidate("H100", tp, seqs, 8192), replica, there, draws, rates, ())


def sentence(*ones):
    choices = [choice_of(one, None, None) for one in ones]
    return next_point(choices[0], choices[1:], {str(one.candidate): one for one in ones})


def test_nothing_is_to_be_measured_where_the_best_is_better_in_nine_draws_of_ten(found):
    rates = np.full(DRAWS, 10.0)
    other = np.where(np.arange(DRAWS) < DRAWS // 20, 30.0, 15.0)  # on twice the GPUs
    assert sentence(assessed(found, 1, rates), assessed(found, 2, other)) == ""


def test_one_that_does_the_same_in_every_draw_is_passed_over(found):
    rates = np.linspace(9.0, 11.0, DRAWS)
    same = assessed(found, 1, rates.copy(), seqs=128)
    assert sentence(assessed(found, 1, rates), same) == ""


def test_what_parameters_do_not_explain_is_measured_on_the_server_that_is_less_sure(found):
    sure = np.full(DRAWS, 10.0)
    wide = np.where(np.arange(DRAWS) % 2, 15.0, 30.0)
    said = sentence(assessed(found, 1, sure), assessed(found, 2, wide))
    assert said.startswith("H100 TP 1, max_num_seqs 64, max_num_batched_tokens 8192 is better than")
    assert "in 50% of the draws only" in said
    assert "a server of llama-3.1-8b on H100 TP 2" in said
    assert "at 22.5 requests a second" in said


def test_what_the_all_reduce_decides_is_measured_on_a_step_of_the_degree_that_has_one(found):
    """TP 2 carries less in a draw by what a hop takes; TP 1 has no all-reduce."""
    one = assessed(found, 1, np.full(DRAWS, 10.0), HOPS_US)
    two = assessed(found, 2, 20.0 * (HOPS_US.mean() / HOPS_US) ** 0.2, HOPS_US)
    said = sentence(one, two)
    assert "Measure next: a step of llama-3.1-8b at TP 2 with" in said
    assert "calibrate plan chooses more" in said
