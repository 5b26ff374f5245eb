"""What a recommendation says by hand: cost, replicas, probabilities, order; and what is drawn of a fit."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from calibrate.capacity.candidates import Candidate, Choices, lay_out
from calibrate.capacity.demand import demand_of_rate, demand_of_trace
from calibrate.capacity.recommend import Stated, recommend
from calibrate.capacity.recommendation import Band, choice_of, prices_of, ranked
from calibrate.capacity.replica import Replica
from calibrate.capacity.requests import Recorded, Requests
from calibrate.capacity.search import find_rate
from calibrate.capacity.server_errors import ServerErrors
from calibrate.capacity.slo import parse_slo
from calibrate.capacity.sweep import Assessed, Question, sweep
from calibrate.capacity.uncertainty import (
    ParameterDraws,
    Uncertainty,
    parameter_draws,
    transferred_draws,
    uncertainty_of,
)
from calibrate.outcome.run_files import read_run
from calibrate.records.errors import CalibrateError
from sim import EngineLimits, Workload, latency_model, load_architecture, load_hardware
from sim.serving.lengths import Fixed
from sim.serving.workload import Poisson, trace
from tests.conftest import GUIDE_H100
from tests.fuzz.run_samples import runs

H100 = load_hardware({"H100": GUIDE_H100})
SLO = parse_slo(["ttft_p99=500ms", "itl_p99=20ms"])
LOAD = Workload(1, Poisson(1.0), Fixed(300), Fixed(60))
MODEL = latency_model("roofline-v3")
LLAMA = load_architecture("llama-3.1-8b")
SURE = Uncertainty(
    ParameterDraws((), np.zeros((1, 0)), "none"),
    ServerErrors(np.ones(1), np.ones(1), ["any"], np.ones(1), "none"),
    (),
)


def choices(**changed):
    usual = {
        "hardware": [H100],
        "models": {"H100": MODEL},
        "tps": [1, 2],
        "max_num_seqs": [64],
        "max_num_batched_tokens": [2048],
    }
    return Choices(**{**usual, **changed})


def asked(draws=4, **changed):
    return dataclasses.replace(Question(LOAD, SLO, draws, seed=0, size=800), **changed)


@pytest.fixture(scope="module")
def assessed():
    """One GPU, its rate found, with ten draws of its rate from 9 to 18."""
    replica = Replica(MODEL, LLAMA, H100, 1, EngineLimits(max_num_seqs=64))
    found = find_rate(replica, LOAD, SLO, size=800)
    best = dataclasses.replace(found.best, rate=12.0)
    candidate = Candidate("H100", 1, 64, 8192)
    rates = np.arange(9.0, 19.0)
    return Assessed(candidate, replica, dataclasses.replace(found, best=best), (), rates, ())


def test_costs_are_those_of_the_tokens_that_are_served(assessed):
    one = choice_of(assessed, 3.6, None)
    assert one.output_tokens_per_s == pytest.approx(12 * 60)
    assert one.cost_per_million_output_tokens == pytest.approx(1e6 * (3.6 / 3600) / (12 * 60))
    assert one.cost_per_million_tokens == pytest.approx(1e6 * (3.6 / 3600) / (12 * 360))
    assert one.band == Band(pytest.approx(9.9), pytest.approx(17.1))


def test_replicas_carry_the_peak_and_their_probability_counts_draws(assessed):
    fleet = choice_of(assessed, 2.0, demand_of_rate(45.0)).fleet
    assert (fleet.replicas, fleet.gpus, fleet.cost_per_hour) == (4, 4, 8.0)
    assert fleet.probability == 0.7  # 4 replicas need 11.25 each, which 12 … 18 are
    assert (fleet.sure, fleet.sure_cost_per_hour) == (5, 10.0)  # at 9 each: nine in ten are above


def test_the_best_costs_least_or_takes_fewest_gpus(assessed):
    dear = dataclasses.replace(assessed, candidate=Candidate("A", 2, 64, 8192))
    load = demand_of_rate(10.0)
    best, by = ranked([choice_of(dear, 1.0, load), choice_of(assessed, 3.0, load)])
    assert (best[0].candidate.gpu, by) == ("A", "cost an hour for the load that is carried")
    best, by = ranked([choice_of(dear, None, load), choice_of(assessed, 3.0, load)])
    assert (best[0].candidate.gpu, by) == ("H100", "GPUs for the load that is carried")
    best, by = ranked([choice_of(dear, 1.0, None), choice_of(assessed, 3.0, None)])
    assert (best[0].candidate.gpu, by) == ("A", "cost per token")


def test_a_trace_is_carried_in_its_busiest_minute():
    arrival_s = np.concatenate([np.arange(0, 600, 2.0), 300.1 + np.arange(0, 60, 0.25)])
    requests = trace(np.sort(arrival_s), 10, 10)
    demand = demand_of_trace(requests, "t.csv")
    assert demand.peak == pytest.approx(4.5, rel=0.02)
    assert demand.mean == pytest.approx(540 / 598)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(CalibrateError, match="must be above 0 requests a second"):
        demand_of_rate(rate)


def test_a_trace_without_time_is_refused():
    with pytest.raises(CalibrateError, match=r"--trace t\.csv: all requests arrive at once"):
        demand_of_trace(trace([1.0, 1.0], 10, 10), "t.csv")


def test_prices_belong_to_candidates():
    assert prices_of({"h100": 2.5}, ["H100", "H200"]) == {"H100": 2.5}
    with pytest.raises(
        CalibrateError, match=r"--price L4=1: L4 is no candidate \(--gpu gives H100\)"
    ):
        prices_of({"L4": 1.0}, ["H100"])
    with pytest.raises(CalibrateError, match="must be above 0, per GPU and hour"):
        prices_of({"H100": 0.0}, ["H100"])


def test_what_cannot_serve_is_left_out_with_the_reason():
    small = load_hardware({"H100": {**GUIDE_H100, "MemoryGiB": 16.0}})
    replicas, excluded = lay_out(
        choices(hardware=[small], tps=[1, 2, 7], max_num_seqs=[64, 4096]), LLAMA
    )
    assert [str(one) for one in replicas] == [
        "H100 TP 2, max_num_seqs 64, max_num_batched_tokens 2048"
    ]
    first, limits, heads = excluded
    assert "does not fit on 1 × H100" in first.why
    assert (limits.tp, limits.max_num_seqs) == (2, 4096)
    assert "must not be below max_num_seqs" in limits.why
    assert heads.tp == 7


def test_what_meets_the_objective_at_no_rate_is_left_out_with_the_figure():
    replicas, _ = lay_out(choices(tps=[1]), LLAMA)
    kept, excluded = sweep(replicas, {"H100": SURE}, asked(slo=parse_slo(["itl_p99=100us"])), 1)
    assert kept == []
    assert "out of reach even for one request at a time: ITL p99" in excluded[0].why


def test_requests_that_the_cache_cannot_hold_leave_a_candidate_out():
    small = load_hardware({"H100": {**GUIDE_H100, "MemoryGiB": 18.0}})
    replicas, _ = lay_out(choices(hardware=[small], tps=[1]), LLAMA)
    long = Workload(1, Poisson(1.0), Fixed(30_000), Fixed(60))
    kept, excluded = sweep(replicas, {"H100": SURE}, asked(workload=long), 1)
    assert kept == []
    assert "the KV cache has" in excluded[0].why


def test_a_server_twice_as_slow_carries_half_within_limits_twice_as_long():
    slow = dataclasses.replace(
        SURE, errors=ServerErrors(np.array([2.0]), np.array([2.0]), ["m"], np.ones(1), "")
    )
    replicas, _ = lay_out(choices(tps=[1]), LLAMA)
    double = parse_slo(["ttft_p99=1s", "itl_p99=40ms"])
    (half,), _ = sweep(replicas, {"H100": slow}, asked(slo=double), 1)
    (plain,), _ = sweep(replicas, {"H100": SURE}, asked(), 1)
    assert half.rates == pytest.approx(plain.rates / 2, rel=0.1)


def test_without_anything_unknown_only_chance_makes_a_band():
    replicas, _ = lay_out(choices(tps=[1]), LLAMA)
    (one,), _ = sweep(replicas, {"H100": SURE}, asked(draws=8), 1)
    assert one.rates == pytest.approx(one.found.rate, rel=0.12)
    assert len(np.unique(one.rates)) > 1


def test_the_same_seed_gives_the_same_answer_on_any_number_of_jobs():
    unknown = {"H100": uncertainty_of("H100", None, 4, 0)}
    found = [
        recommend(choices(), LLAMA, asked(), Stated(None, {}), unknown, jobs) for jobs in (1, 2)
    ]
    rates = [[one.rates.tolist() for one in each.choices] for each in found]
    assert rates[0] == rates[1]
    assert any("no server tuned its parameters" in note for note in found[0].notes)


def test_nothing_left_is_told_with_every_reason():
    with pytest.raises(CalibrateError) as refused:
        recommend(choices(tps=[7]), LLAMA, asked(), Stated(None, {}), {"H100": SURE}, 1)
    assert "no candidate can serve llama-3.1-8b" in str(refused.value)
    assert "H100 TP 7: " in str(refused.value)


def test_errors_are_drawn_of_one_model_at_the_nearest_degree():
    errors = ServerErrors(
        itl=np.array([1.1, 1.2, 1.3]),
        ttft=np.array([2.1, 2.2, 2.3]),
        model=["a", "a", "b"],
        tp=np.array([1.0, 4.0, 2.0]),
        source="",
    )
    rng = np.random.default_rng(0)
    drawn = {errors.draw(rng, 8) for _ in range(50)}
    assert drawn == {(1.2, 2.2), (1.3, 2.3)}


@pytest.fixture(scope="module")
def run():
    """A run fitted to steps, with everything that one may say."""
    return runs()


def written_run(files, folder):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_run(folder)


def test_parameters_are_drawn_with_the_covariance_of_their_run(run, tmp_path):
    known = dataclasses.replace(written_run(run[0], tmp_path), bootstrap=None, mcmc=None)
    names = list(known.fit.covariance)
    small = {a: {b: 1e-4 * float(a == b) for b in names} for a in names}
    known = dataclasses.replace(known, fit=dataclasses.replace(known.fit, covariance=small))
    drawn = parameter_draws(known, 4000, seed=0)
    assert (drawn.names, drawn.source) == (tuple(names), "covariance")
    centre = np.array([known.values[name] for name in names])
    inside = np.array(
        [one.lower < one.value - 0.05 for one in known.parameters if one.name in names]
    )
    assert drawn.values.std(axis=0)[inside] == pytest.approx(0.01, rel=0.1)
    assert drawn.values.mean(axis=0)[inside] == pytest.approx(centre[inside], abs=0.002)


def test_what_servers_tuned_is_drawn_together(run, tmp_path):
    """Two times that make up for each other: their sum is known to 1, their difference to 10."""
    first, second = "TOverheadMicros", "prefillOverheadMicros"
    covariance = {first: {first: 25.25, second: -24.75}, second: {first: -24.75, second: 25.25}}
    known = dataclasses.replace(written_run(run[0], tmp_path), bootstrap=None, mcmc=None)
    (tmp_path / "served").mkdir()
    serving = written_run(run[1], tmp_path / "served").serving
    (one,) = serving.tuned
    tuned = tuple(dataclasses.replace(one, name=name, value=200.0) for name in covariance)
    serving = dataclasses.replace(serving, covariance=covariance, tuned=tuned)
    known = dataclasses.replace(known, serving=serving)
    drawn = parameter_draws(known, 4000, seed=0, servers=serving)
    both = drawn.values[:, [drawn.names.index(first), drawn.names.index(second)]]
    assert both.sum(axis=1).std() == pytest.approx(1.0, rel=0.05)
    assert np.diff(both).std() == pytest.approx(10.0, rel=0.05)


def test_a_bootstrap_goes_before_the_covariance(run, tmp_path):
    known = written_run(run[0], tmp_path)
    assert parameter_draws(known, 8, seed=0).source == "bootstrap"


def test_a_covariance_of_other_parameters_is_refused(run, tmp_path):
    known = dataclasses.replace(written_run(run[0], tmp_path), bootstrap=None, mcmc=None)
    odd = dataclasses.replace(known.fit, covariance={"warp": {"warp": 1.0}})
    with pytest.raises(CalibrateError, match="covariance cannot be drawn from"):
        parameter_draws(dataclasses.replace(known, fit=odd), 8, seed=0)


def test_a_run_of_servers_gives_the_errors_on_its_load_points(run, tmp_path):
    known = written_run(run[1], tmp_path)
    errors = uncertainty_of("H100", known, 8, 0).errors
    means = known.served[known.served["statistic"] == "mean"]
    itl = means[means["metric"] == "itl"]
    column = next((f"held_out_{kind}_ms" for kind in known.serving.held_out), "after_ms")
    assert sorted(errors.itl) == pytest.approx(sorted(itl["measured_ms"] / itl[column]))


@pytest.fixture
def with_engine(run, tmp_path):
    """A run of steps with what vLLM's servers added to it: a host time known to 20 µs."""
    known = dataclasses.replace(written_run(run[0], tmp_path), bootstrap=None, mcmc=None)
    (tmp_path / "served").mkdir()
    serving = written_run(run[1], tmp_path / "served").serving
    (one,) = serving.tuned
    name = "apiMicros"
    added = dataclasses.replace(
        serving,
        engine="vllm 0.12.0",
        tuned=(dataclasses.replace(one, name=name, value=500.0),),
        covariance={name: {name: 400.0}},
        after=serving.before,
        held_out={},
    )
    return dataclasses.replace(known, engines=(added,))


def test_what_an_engine_adds_is_drawn_where_it_is_served(with_engine):
    unknown = uncertainty_of("H100", with_engine, 4000, 0, engine="vllm")
    host = unknown.parameters.values[:, unknown.parameters.names.index("apiMicros")]
    assert (host.mean(), host.std()) == (pytest.approx(500, abs=2), pytest.approx(20, rel=0.05))
    sizes = {"itl": unknown.errors.itl, "ttft": unknown.errors.ttft}
    for metric, factors in sizes.items():
        stated = with_engine.engines[0].before[metric]["all"].mape
        assert np.abs(np.log(factors)).mean() == pytest.approx(stated, rel=0.1)
    assert not unknown.notes


def test_a_model_that_no_server_served_has_the_errors_of_untuned_parameters(with_engine):
    """One model was served: nothing says how far off another is; with one left out, that error does."""
    (one,) = with_engine.engines
    alone = dataclasses.replace(one, models=("llama-3.1-8b",))
    left_out = dataclasses.replace(alone, held_out={"model": one.before})
    known = dataclasses.replace(with_engine, engines=(alone,))
    several = dataclasses.replace(with_engine, engines=(left_out,))
    of = functools.partial(uncertainty_of, "H100", number=8, seed=0, engine="vllm")
    untuned = of(run=None).errors.itl
    assert of(run=known, model="qwen3-32b").errors.itl.tolist() == untuned.tolist()
    (note,) = of(run=known, model="qwen3-32b").notes
    assert "served llama-3.1-8b only, and say nothing of how far off qwen3-32b is" in note
    assert not of(run=known, model="llama-3.1-8b").notes
    assert not of(run=several, model="qwen3-32b").notes


def test_shares_of_peaks_are_drawn_for_the_models_that_showed_them(with_engine):
    (one,) = with_engine.engines
    (time,) = one.tuned
    share = dataclasses.replace(time, name="gemmMfu", value=0.5)
    covariance = {
        "apiMicros": {"apiMicros": 400.0, "gemmMfu": 0.0},
        "gemmMfu": {"apiMicros": 0.0, "gemmMfu": 1e-4},
    }
    served = dataclasses.replace(
        one, tuned=(time, share), covariance=covariance, models=("llama-3.1-8b",)
    )
    known = dataclasses.replace(with_engine, engines=(served,))
    drawn = {
        model: uncertainty_of("H100", known, 8, 0, engine="vllm", model=model).parameters.names
        for model in ("llama-3.1-8b", "qwen3-32b")
    }
    assert {"apiMicros", "gemmMfu"} <= set(drawn["llama-3.1-8b"])
    assert "apiMicros" in drawn["qwen3-32b"]
    assert "gemmMfu" not in drawn["qwen3-32b"]


def test_another_engine_is_one_that_no_server_tuned(with_engine):
    unknown = uncertainty_of("H100", with_engine, 8, 0, engine="sglang")
    assert "apiMicros" not in unknown.parameters.names
    assert any("no server tuned" in note for note in unknown.notes)


def test_values_of_other_gpus_are_drawn_within_their_intervals():
    """A share of 0.8 whose interval is cut at 1, and a time of 20 µs: nine in ten lie inside, as many on each side."""
    values = {"weightBwFraction": 0.8, "layerMicros": 20.0}
    intervals = {"weightBwFraction": (0.64, 1.0), "layerMicros": (5.0, 60.0)}
    drawn = transferred_draws(values, intervals, 4000, seed=0)
    assert drawn.source == "other GPUs"
    share, layer_us = drawn.values.T
    assert (np.median(share), np.median(layer_us)) == pytest.approx((0.8, 20.0), rel=0.03)
    assert np.mean(share < 0.64) == pytest.approx(0.05, abs=0.01)
    assert share.max() <= 1.0
    assert np.mean((layer_us > 5.0) & (layer_us < 60.0)) >= 0.89


def test_what_was_transferred_stands_where_there_is_no_run():
    known = transferred_draws({"layerMicros": 20.0}, {"layerMicros": (5.0, 60.0)}, 8, seed=0)
    unknown = uncertainty_of("GH200", None, 8, 0, transferred=known)
    assert unknown.parameters.names == ("layerMicros",)
    assert not any("stores no covariance" in note for note in unknown.notes)


def test_recorded_requests_are_drawn_whole_and_arrive_by_the_load():
    recorded = trace(np.arange(3.0), [10, 20, 30], [1, 2, 3])
    drawn = Requests.drawn(Recorded(recorded, Poisson(1.0)), seed=1, size=500).unit
    assert set(zip(drawn.prompt_tokens.tolist(), drawn.output_tokens.tolist(), strict=True)) == {
        (10, 1),
        (20, 2),
        (30, 3),
    }
    assert pd.Series(np.diff(drawn.arrival_us)).mean() == pytest.approx(1e6, rel=0.01)
