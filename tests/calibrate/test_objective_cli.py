"""``calibrate simulate`` with an objective: goodput, the largest rate, and what is refused."""

import json

import pandas as pd
import pytest

from tests.conftest import GUIDE_H100

COMMON = ("--model", "llama-3.1-8b", "--gpu", "H100", "--hardware-config", "c.json")
LENGTHS = ("--prompt-tokens", 200, "--output-tokens", 40)


@pytest.fixture
def simulate(tmp_path, monkeypatch, calibrate):
    """Run ``calibrate simulate`` of 200 prompt and 40 output tokens with the guide's H100."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text(json.dumps({"H100": GUIDE_H100}))

    def run(*options, lengths=LENGTHS):
        return calibrate("simulate", *COMMON, *lengths, *options)

    return run


def test_an_objective_is_judged_and_goodput_is_its_share_of_the_requests(simulate):
    _, said, _ = simulate("--rate", 4, "--slo", "ttft_p99=1s", "--slo", "itl_p50=1ms", "--json")
    told = json.loads(said)
    slo = told["slo"]
    assert (slo["met"], slo["missed"], slo["goodput_requests_per_s"]) == (False, ["itl_p50"], 0.0)
    assert slo["limits"][0]["value_ms"] == pytest.approx(told["ttft_ms"]["p99"])
    _, said, _ = simulate("--rate", 4, "--slo", "ttft_p99=1s", "--json")
    told = json.loads(said)
    assert told["slo"]["goodput_requests_per_s"] == pytest.approx(told["requests_per_s"])
    assert "find_rate" not in told


def test_without_an_objective_nothing_is_said_of_one(simulate):
    assert "slo" not in json.loads(simulate("--rate", 4, "--json")[1])


def test_the_largest_rate_is_found_and_the_rest_is_told_of_it(simulate):
    options = ("--slo", "ttft_p99=1s", "--slo", "itl_p99=15ms", "--goodput", 0.9)
    _, said, _ = simulate("--find-rate", *options, "-o", "requests.csv", "--json")
    told = json.loads(said)
    found = told["find_rate"]
    assert found["rate_per_s"] < found["beyond_per_s"] <= 1.0101 * found["rate_per_s"]
    assert found["missed_beyond"] == ["itl_p99"]
    assert found["binds"] == "ITL p99: steps take too long"
    assert told["slo"]["met"]
    assert told["requests"] == found["requests"] == len(pd.read_csv("requests.csv"))
    rate = ("--rate", 1.05 * found["rate_per_s"], "--num-requests", found["requests"])
    _, said, _ = simulate(*rate, *options, "--json")
    assert not json.loads(said)["slo"]["met"]


def test_words_name_the_objective_the_rate_and_what_binds(simulate):
    code, said, _ = simulate("--find-rate", "--slo", "itl_p99=9ms", "--num-requests", 1500)
    said = " ".join(said.split())
    assert code == 0
    assert "objective met: ITL p99 ≤ 9 ms; " in said
    assert "largest rate " in said
    assert "with the same 1,500 requests; what binds: ITL p99: steps take too long" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--find-rate",), "--find-rate needs an objective to meet"),
        (("--find-rate", "--rate", 4, "--slo", "ttft_p99=1s"), "leave --rate out"),
        (("--find-rate", "--concurrency", 4, "--slo", "ttft_p99=1s"), "leave --concurrency out"),
        (("--find-rate", "--slo", "itl_p99=1us"), "out of reach even for one request at a time"),
        (("--rate", 4, "--slo", "ttft_p99=1"), "the unit is missing"),
        (("--rate", 4, "--slo", "tpot_p99=1s"), "it is called itl here"),
        (("--rate", 4, "--goodput", 0.9), "there is none that judges a request"),
        (("--rate", 0, "--slo", "ttft_p99=1s"), "rate must be positive"),
    ],
)
def test_bad_input_is_told_without_a_traceback(simulate, options, said):
    code, out, err = simulate(*options)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_recorded_workload_is_scaled(simulate):
    rows = pd.DataFrame(
        {"arrival_s": [0.5 * i for i in range(40)], "prompt_tokens": 50, "output_tokens": 8}
    )
    rows.to_csv("w.csv", index=False)
    recorded = ("--workload", "w.csv")
    _, said, _ = simulate("--find-rate", "--slo", "ttft_p99=1s", "--json", lengths=recorded)
    told = json.loads(said)
    assert told["requests"] == 40
    assert told["find_rate"]["rate_per_s"] > 2.0
