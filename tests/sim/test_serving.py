"""Serving against what is known in closed form, and the workloads, the results and the command."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.report import serving_plots
from sim import (
    Batch,
    EngineLimits,
    HardwareError,
    StepTable,
    Workload,
    WorkloadError,
    load_architecture,
    load_hardware,
)
from sim.models.roofline_v1.model import RooflineV1
from sim.serving.engine import kv_cache_tokens, usual_limits
from sim.serving.lengths import Empirical, Fixed, Listed, LogNormal, Normal
from sim.serving.simulation import simulate
from sim.serving.workload import Arrivals, Closed, Constant, Gamma, Poisson, Stage, trace
from tests.conftest import GUIDE_H100

LLAMA = load_architecture("llama-3.1-8b")
H100 = load_hardware({"H100": GUIDE_H100})
MODEL = RooflineV1()


class _Asked(RooflineV1):
    """roofline-v1 as a model without a compiled form."""


EXTERNAL = _Asked()
RNG = np.random.default_rng


def serve(workload, seed=0, **limits):
    return simulate(workload, EngineLimits(**limits), MODEL, LLAMA, H100, 1, seed)


def step_us(prefill=(), decode=()):
    return MODEL.step_time_us(Batch.from_requests(prefill, decode), LLAMA, H100, 1)


@pytest.mark.parametrize("ahead", [False, True])
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 40))
def test_an_idle_server_takes_its_prefill_steps_and_no_more(ahead, prompt, output):
    small = {"max_num_batched_tokens": 2048, "max_num_seqs": 256}
    request = trace([1.0], prompt, output)
    result = serve(request, async_scheduling=ahead, api_us=700.0, **small)
    chunks = [(done, min(2048, prompt - done)) for done in range(0, prompt, 2048)]
    assert result.ttft_us[0] == pytest.approx(
        700.0 + sum(step_us([chunk]) for chunk in chunks), rel=1e-9
    )
    decodes = sum(step_us(decode=[(prompt + k,)]) for k in range(output - 1))
    assert result.e2e_us[0] - result.ttft_us[0] == pytest.approx(decodes, rel=1e-9, abs=1e-6)


def test_one_server_of_equal_jobs_is_a_queue_m_d_1():
    service = step_us([(0, 1000)])
    for load in (0.5, 0.8):
        workload = Workload(200_000, Poisson(load / service * 1e6), Fixed(1000), Fixed(1))
        result = serve(workload, max_num_seqs=1, async_scheduling=False)
        waiting = result.queueing_us.mean()
        # Pollaczek and Khinchine
        assert waiting == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)
        begin, free = np.empty(2000), 0.0
        for i in range(2000):  # Lindley's recursion
            begin[i] = max(result.arrival_us[i], free)
            free = begin[i] + service
        np.testing.assert_allclose(result.joined_us[:2000], begin, rtol=1e-9)


def test_a_closed_load_of_equal_requests_runs_in_lockstep():
    result = serve(Workload(64, Closed(16), Fixed(32), Fixed(100)), async_scheduling=False)
    assert np.unique(result.finish_us).size == 4
    assert (result.arrival_us[16:32] == result.finish_us[:16]).all()
    one_round = step_us([(0, 32, 16)]) + sum(step_us(decode=[(32 + k, 16)]) for k in range(99))
    assert result.duration_us == pytest.approx(4 * one_round, rel=1e-9)
    assert result.summary()["requests_per_s"] == pytest.approx(16e6 / one_round, rel=1e-9)


def test_a_request_joins_one_step_late_where_steps_are_scheduled_ahead():
    first = step_us([(0, 100)])
    decode = step_us(decode=[(100,)])
    arrivals = [0.0, (first + 0.5 * decode) * 1e-6]  # in the middle of the first decode
    prompt_us = first + decode
    late = prompt_us + step_us(decode=[(101,)])
    assert serve(trace(arrivals, 100, 50), async_scheduling=False).joined_us[1] == pytest.approx(
        prompt_us
    )
    assert serve(trace(arrivals, 100, 50), async_scheduling=True).joined_us[1] == pytest.approx(
        late
    )


def test_the_last_block_of_a_cached_prompt_is_computed():
    workload = {
        "num_requests": 3,
        "load": Constant(1),
        "prompt": Fixed(160),
        "output": Fixed(2),
        "distinct_prompts": 1,
    }
    cold = serve(Workload(**workload))
    warm = serve(Workload(**workload, warm=True))
    hit, miss = step_us([(144, 16)]), step_us([(0, 160)])
    np.testing.assert_allclose(cold.ttft_us, [miss, hit, hit], rtol=1e-6)
    np.testing.assert_allclose(warm.ttft_us, [hit, hit, hit], rtol=1e-6)
    np.testing.assert_allclose(
        serve(Workload(**workload), prefix_caching=False).ttft_us, [miss] * 3, rtol=1e-6
    )
    own = trace([0.0, 1.0], 160, 2, cached_tokens=[100, 0])
    np.testing.assert_allclose(serve(own).ttft_us, [step_us([(96, 64)]), miss], rtol=1e-6)


def test_a_prefix_without_room_is_computed_again():
    workload = Workload(40, Constant(1), Fixed(320), Fixed(2), distinct_prompts=4)
    roomy = serve(workload)
    tight = serve(workload, kv_cache_tokens=960)
    assert (roomy.steps.table.moments[2] > 0).sum() == 36
    assert (tight.steps.table.moments[2] > 0).sum() == 0  # in turn: each was dropped for the others


def test_seeds_repeat_and_differ():
    workload = Workload(50, Poisson(5), Normal(200, 50, 10, 400), LogNormal(50, 20))
    assert serve(workload, 1).finish_us.tolist() == serve(workload, 1).finish_us.tolist()
    assert serve(workload, 1).finish_us.tolist() != serve(workload, 2).finish_us.tolist()


@pytest.mark.parametrize(
    ("lengths", "mean", "std"),
    [
        (Fixed(7), 7, 0),
        (Normal(500, 50), 500, 50),
        (LogNormal(500, 200), 500, 200),
        (Empirical((100, 300)), 200, 100),
        (Listed((1, 2, 3)), 2, np.sqrt(2 / 3)),
    ],
)
def test_lengths_have_their_mean_and_deviation(lengths, mean, std):
    drawn = lengths.draw(RNG(0), 30_000)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.std() == pytest.approx(std, rel=0.03)
    clipped = Normal(10, 50, 3, 40).draw(RNG(0), 1000)
    assert (clipped.min(), clipped.max()) == (3, 40)


@pytest.mark.parametrize(
    ("load", "cv"),
    [(Constant(8), 0), (Poisson(8), 1), (Gamma(8, 2), 2), (Gamma(8, 0.5), 0.5), (Stage(8), 1)],
)
def test_gaps_have_their_rate_and_spread(load, cv):
    arrivals = load.arrivals_us(RNG(1), 40_000)
    gaps = np.diff(arrivals)
    assert gaps.mean() == pytest.approx(125_000, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.04, abs=1e-6)
    if isinstance(load, Stage):
        assert arrivals[-1] == pytest.approx(40_000 / 8 * 1e6)


def test_recorded_arrivals_are_kept():
    result = serve(Workload(3, Arrivals((0.5, 1.0, 1.5)), Fixed(5), Fixed(5)))
    assert result.arrival_us.tolist() == [0.5e6, 1e6, 1.5e6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: serve(Workload(0, Constant(1), Fixed(1), Fixed(1))), "num_requests must be ≥ 1"),
        (
            lambda: serve(Workload(5, Poisson(0), Fixed(1), Fixed(1))),
            "rate must be positive, got 0",
        ),
        (
            lambda: serve(Workload(5, Closed(0), Fixed(1), Fixed(1))),
            "concurrency must be a whole number",
        ),
        (lambda: serve(Workload(5, Constant(1), Fixed(0), Fixed(1))), "lengths must be 1 to"),
        (
            lambda: serve(Workload(5, Arrivals((1.0,)), Fixed(1), Fixed(1))),
            "5 requests need as many arrival times",
        ),
        (lambda: trace([2.0, 1.0], 5, 5), "request 1 arrives before the one ahead of it"),
        (lambda: trace([1.0, np.nan], 5, 5), "request 1 arrives before"),
        (lambda: trace([1.0, 2.0], [5, 2.5], 5), "tokens must be whole numbers"),
        (lambda: trace([1.0, 2.0], [5, 0], 5), "request 1 needs a prompt"),
        (lambda: EngineLimits(max_num_seqs=0), "max_num_seqs must be a whole number ≥ 1, got 0"),
        (lambda: EngineLimits(max_num_batched_tokens=64), "must not be below max_num_seqs"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(WorkloadError, match=message):
        make()


def test_the_kv_cache_is_what_the_weights_leave():
    tokens = kv_cache_tokens(LLAMA, H100, 1)
    assert tokens * 131_072 + LLAMA.total_params * 2 == pytest.approx(0.9 * 80 * 2**30, rel=1e-4)
    with pytest.raises(HardwareError, match=r"does not fit on 1 × H100 \(80 GiB each\): raise tp"):
        kv_cache_tokens(load_architecture("llama-3.1-70b"), H100, 1)
    with pytest.raises(
        HardwareError, match=r"V100: MemoryGiB is neither .* or --kv-cache-tokens to simulate"
    ):
        kv_cache_tokens(LLAMA, load_hardware({"V100": GUIDE_H100}), 1)
    assert kv_cache_tokens(LLAMA, H100.with_values({"MemoryGiB": 40.0}), 1) < tokens / 2


def test_steps_are_a_campaigns_table():
    result = serve(Workload(30, Poisson(20), Fixed(300), Fixed(20)))
    columns = result.steps.columns()
    predicted = MODEL.predict_us(StepTable.from_columns(columns), H100)
    np.testing.assert_allclose(predicted, columns["latency_us"], rtol=1e-9)


def test_saturation_is_said_in_words():
    over = serve(Workload(400, Poisson(60), Fixed(512), Fixed(256)), max_num_seqs=16)
    assert over.saturated
    assert "saturated: requests arrive" in over.saturation
    assert "waited for max_num_seqs in" in over.saturation
    fine = serve(Workload(400, Poisson(2), Fixed(512), Fixed(256)))
    assert not fine.saturated
    assert fine.saturation.startswith("the engine keeps up with requests that arrive")
    short = serve(Workload(100, Closed(32), Fixed(512), Fixed(256)), kv_cache_tokens=8192)
    assert "closed load" in short.saturation
    assert "the KV cache" in short.saturation
    assert f"{short.preemptions.sum()} preemptions" in short.saturation


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        ({}, {"max_num_batched_tokens": 8192, "max_num_seqs": 1024}),
        ({"max_num_batched_tokens": 512}, {"max_num_seqs": 512}),
        ({"max_num_seqs": 9000}, {"max_num_batched_tokens": 9000}),
        ({"max_num_batched_tokens": 512, "max_num_seqs": 9}, {}),
    ],
)
def test_the_usual_limits_contradict_nothing_that_is_given(given, usual):
    assert usual_limits(given) == usual


@pytest.mark.parametrize(
    ("prompt", "output", "rate", "size"), [(2048, 1, 100, 50), (50, 500, 1, 10)]
)
def test_the_guides_profiling_runs(calibrate, workplace, prompt, output, rate, size):
    code, out, err = calibrate(
        *(
            "simulate",
            "--model",
            "llama-3.1-8b",
            "--gpu",
            "H100",
            "--arrivals",
            "constant",
            "--json",
            "-o",
            "r.csv",
        ),
        *(
            "--prompt-tokens",
            prompt,
            "--output-tokens",
            output,
            "--rate",
            rate,
            "--num-requests",
            size,
        ),
    )
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert summary["requests"] == size
    assert summary["saturated"] == (rate == 100)
    assert (summary["itl_ms"] is None) == (output == 1)
    with (workplace / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == size
    assert np.mean([float(row["ttft_us"]) for row in rows]) == pytest.approx(
        1e3 * summary["ttft_ms"]["mean"]
    )


CHATBOT = (
    "simulate",
    "--model",
    "llama-3.1-8b",
    "--gpu",
    "H100",
    "--workload",
    "chatbot",
    "--num-requests",
    60,
)
OPTIONS = {
    ("--rate", 2, "--lengths", "lognormal"): {
        "load": Poisson(2),
        **dict.fromkeys(("prompt", "output"), LogNormal(256, 100)),
    },
    ("--rate", 9, "--arrivals", "gamma", "--cv", 3): {"load": Gamma(9, 3)},
    ("--rate", 9, "--prompt-std", 0, "--prompt-tokens", 70): {
        "load": Poisson(9),
        "prompt": Fixed(70),
    },
    ("--concurrency", 9, "--shared-tokens", 900, "--num-shared", 3, "--warm"): {
        "load": Closed(9),
        "shared_tokens": 900,
        "num_shared": 3,
        "warm": True,
    },
    ("--concurrency", 9, "--distinct-prompts", 4, "--block-size", 64): {
        "load": Closed(9),
        "distinct_prompts": 4,
        "engine": {"block_size": 64},
    },
    ("--concurrency", 9, "--distinct-prompts", 4, "--no-prefix-caching", "--api-us", 4000): {
        "load": Closed(9),
        "distinct_prompts": 4,
        "engine": {"prefix_caching": False, "api_us": 4000.0},
    },
    ("--rate", 90, "--no-chunked-prefill", "--sync", "--prefill-first"): {
        "load": Poisson(90),
        "engine": {"chunked_prefill": False, "async_scheduling": False, "prefill_first": True},
    },
}


@pytest.mark.parametrize(
    ("options", "means"), OPTIONS.items(), ids=lambda x: "-".join(map(str, x))[:40]
)
@pytest.mark.usefixtures("workplace")
def test_options_say_what_is_simulated(calibrate, options, means):
    usual = {"prompt": Normal(256, 100, 1, 1024), "output": Normal(256, 100, 1, 1024)}
    engine = {"kv_cache_tokens": kv_cache_tokens(LLAMA, H100, 1), **means.get("engine", {})}
    workload = Workload(60, **{**usual, **{k: v for k, v in means.items() if k != "engine"}})
    code, out, err = calibrate(*CHATBOT, "--json", "--seed", 5, *options)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(serve(workload, 5, **engine).summary()))


def test_steps_are_written_as_a_campaign_has_them(calibrate, workplace):
    assert (
        calibrate(*CHATBOT, "--rate", 5, "--latency-model", "roofline-v3", "--steps", "s.csv")[0]
        == 0
    )
    code, out, _ = calibrate("predict", "s.csv", "--gpu", "H100", "--latency-model", "roofline-v3")
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    assert len(rows) == len((workplace / "s.csv").read_text().splitlines()) - 1
    assert [float(row["predicted_us"]) for row in rows] == pytest.approx(
        [float(row["latency_us"]) for row in rows]
    )


@pytest.mark.parametrize(
    "options", [("--rate", 40), ("--concurrency", 3, "--output-tokens", 1, "--output-std", 0)]
)
def test_plots_are_drawn_as_png_and_svg(calibrate, workplace, options):
    code, _, err = calibrate(*CHATBOT, *options, "--plots", "deep/plots")
    assert (code, err.split()) == (0, ["plots", "latencies,", "timeline", "in", "deep/plots"])
    files = {path.name: path.read_bytes() for path in (workplace / "deep/plots").iterdir()}
    assert sorted(files) == ["latencies.png", "latencies.svg", "timeline.png", "timeline.svg"]
    assert files["timeline.png"].startswith(b"\x89PNG")
    text = files["latencies.svg"].decode()
    assert "time to first token (ms)" in text
    assert ("no ITL: outputs of one token" in text) == ("--output-tokens" in options)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=20))
def test_a_timeline_keeps_the_area_and_the_ends(changes):
    at = np.cumsum([gap for gap, _ in changes]).astype(np.float64)
    values = np.array([value for _, value in changes], dtype=np.float64)
    fine = (np.arange(200) + 0.5) / 200 * (at[-1] + 2)  # between any two edges or changes
    exact = np.where(
        fine < at[0], 0.0, values[np.maximum(np.searchsorted(at, fine, side="right") - 1, 0)]
    )
    binned = serving_plots._binned(at, values, np.linspace(0, at[-1] + 2, 11))
    parts = exact.reshape(10, 20)
    assert binned.mean == pytest.approx(parts.mean(axis=1), abs=9 / 20 * len(changes))
    assert (binned.mean >= binned.low - 1e-9).all()
    assert (binned.mean <= binned.high + 1e-9).all()
    assert (binned.low <= parts.min(axis=1)).all()
    assert (binned.high >= parts.max(axis=1)).all()
    held = np.append(np.diff(at), 2.0) @ values
    assert binned.mean.sum() * (at[-1] + 2) / 10 == pytest.approx(held)


def test_the_command_prints_a_table_and_reads_a_trace(calibrate, workplace):
    (workplace / "w.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens,cached_tokens\n0,100,20,0\n0.5,300,10,64\n"
    )
    code, out, _ = calibrate(
        "simulate", "--model", "llama-3.1-8b", "--gpu", "H100", "--workload", "w.csv"
    )
    assert code == 0
    assert "TTFT" in out
    assert "2 requests in" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workload", "chatbo", "--rate", 1), "did you mean 'chatbot'?"),
        (("--rate", 1), "needs --prompt-tokens and --output-tokens"),
        (("--workload", "chatbot"), "give either --rate or --concurrency"),
        (("--workload", "chatbot", "--rate", 1, "--arrivals", "poison"), "did you mean 'poisson'?"),
        (("--workload", "chatbot", "--rate", -1), "rate must be positive"),
        (("--workload", "bad.csv"), "bad.csv:3: output_tokens = (empty)"),
        (
            ("--workload", "bad.csv", "--rate", 1),
            "says when requests come and how long they are: leave --rate out",
        ),
        (
            ("--workload", "chatbot", "--rate", 1, "--arrivals", "gamma"),
            "--arrivals gamma and --cv",
        ),
        (("--workload", "chatbot", "--rate", 1, "--cv", 2), "--arrivals gamma and --cv"),
        (
            ("--workload", "chatbot", "--rate", 1, "--lengths", "lognorm"),
            "did you mean 'lognormal'?",
        ),
        (
            ("--workload", "chatbot", "--rate", 1, "--plots", "bad.csv"),
            "bad.csv: no folder to draw plots into",
        ),
        (
            ("--workload", "chatbot", "--rate", 1, "--steps", "no/s.csv"),
            "no such folder to write s.csv into",
        ),
        (
            ("--workload", "chatbot", "--rate", 1, "--latency-model", "roofline-v2"),
            "with --bench-data-path",
        ),
        (
            ("--workload", "chatbot", "--rate", 1, "--tp", 1, "--kv-cache-tokens", 16),
            "the KV cache has 1",
        ),
    ],
)
def test_what_the_command_cannot_do_it_says(calibrate, workplace, options, message):
    (workplace / "bad.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n0,100,20\n0.5,300,\n"
    )
    code, _, err = calibrate("simulate", "--model", "llama-3.1-8b", "--gpu", "H100", *options)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("model", [MODEL, EXTERNAL])
def test_a_sampler_adds_to_every_step(model):
    """One request alone is one row of logits at each step, whether the model is compiled or asked in Python."""

    def times_us(**sampler):
        engine = EngineLimits(**sampler)
        made = simulate(trace([0.0], 100, 50), engine, model, LLAMA, H100, 1)
        return np.array([made.ttft_us[0], made.itl_us[0]])

    added = times_us(sampler_us=160.0, sampler_us_per_request=25.0) - times_us()
    assert added == pytest.approx([185.0, 185.0])


def test_a_batch_of_decodes_takes_the_samplers_time_for_each_of_them():
    quiet, sampled = (
        serve(trace([0.0] * 8, 10, 100), sampler_us_per_request=us) for us in (0.0, 30.0)
    )
    steps = quiet.steps.table.moments[[0, 6]].sum(axis=0)
    assert len(sampled.steps) == len(quiet.steps)
    assert sampled.steps.duration_us - quiet.steps.duration_us == pytest.approx(30.0 * steps)


@pytest.mark.parametrize(
    ("model", "sampler"), [("llama-3.1-8b", (160.0, 0.19 * 128.256)), ("mixtral-8x7b", (0.0, 0.0))]
)
def test_a_configuration_gives_the_sampler_time_where_the_model_cuts_its_tokens_off(model, sampler):
    hardware = H100.with_values({"samplerStepMicros": 160.0, "samplerMicrosPerKLogit": 0.19})
    engine = EngineLimits().with_request_times(hardware, load_architecture(model))
    assert (engine.sampler_us, engine.sampler_us_per_request) == pytest.approx(sampler)
