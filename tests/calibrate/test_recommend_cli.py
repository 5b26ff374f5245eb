"""``calibrate recommend``: the document, the table, the plots, and what is refused."""

import json

import pandas as pd
import pytest

from tests.conftest import GUIDE_H100

SLOS = ("--slo", "ttft_p99=500ms", "--slo", "itl_p99=20ms")
LENGTHS = ("--prompt-tokens", 200, "--output-tokens", 40)
QUICK = ("--num-requests", 300, "--draws", 3, "--tp", "1,2", "--max-num-seqs", 64, "--jobs", 1)


@pytest.fixture
def recommend(tmp_path, monkeypatch, calibrate):
    """Run ``calibrate recommend`` for llama-3.1-8b on the guide's H100, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    blocks = {"H100": GUIDE_H100, "Small": {**GUIDE_H100, "MemoryGiB": 4.0}}
    (tmp_path / "c.json").write_text(json.dumps(blocks))
    common = ("--model", "llama-3.1-8b", "--hardware-config", "c.json")

    def run(*options, gpu="H100", slos=SLOS, lengths=LENGTHS):
        return calibrate("recommend", *common, "--gpu", gpu, *slos, *lengths, *QUICK, *options)

    return run


def test_the_document_has_candidates_best_first_and_what_is_left_out(recommend):
    code, said, _ = recommend("--json", "--rate", 50, "--price", "H100=2.5", "--tp", "7")
    told = json.loads(said)
    assert code == 0
    assert told["ranked_by"] == "cost an hour for the load that is carried"
    assert told["demand"]["peak"] == 50.0
    first = told["candidates"][0]
    assert first["fleet"]["cost_per_hour"] == min(
        one["fleet"]["cost_per_hour"] for one in told["candidates"]
    )
    assert first["rate_low_per_s"] <= first["rate_high_per_s"]
    assert first["rate_per_s_per_gpu"] == pytest.approx(first["rate_per_s"] / first["tp"])
    assert 0.0 <= first["fleet"]["probability"] <= 1.0
    assert first["itl_ms"]["p99"] <= 20.0
    assert first["ttft_ms"]["p99"] <= 500.0
    assert first["curve"][-1]["rate_per_s"] == pytest.approx(first["rate_per_s"])
    assert first["binds"]
    assert [one["tp"] for one in told["excluded"]] == [7]


def test_words_say_the_choice_its_cost_and_how_sure_it_is(recommend):
    code, said, _ = recommend("--rate", 50, "--price", "H100=2.5")
    said = " ".join(said.split())
    assert code == 0
    assert "best: H100 TP " in said
    assert "for 50 requests a second: " in said
    assert "they meet the objective with a probability of " in said
    assert "the configuration stores no covariance and no run of it was found" in said


def test_without_a_load_the_most_of_one_replica_is_told(recommend):
    told = json.loads(recommend("--json")[1])
    assert (told["demand"], told["ranked_by"]) == (None, "throughput per GPU")
    assert told["candidates"][0]["fleet"] is None
    assert told["candidates"][0]["cost_per_million_tokens"] is None


def test_a_trace_gives_lengths_peak_and_mean(recommend, tmp_path):
    arrival = [*range(0, 300, 2), *(150 + 0.1 * i for i in range(1, 400))]
    rows = {"arrival_s": sorted(arrival), "prompt_tokens": 100, "output_tokens": 20}
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    told = json.loads(recommend("--trace", "t.csv", "--json", lengths=())[1])
    assert told["demand"]["peak"] == pytest.approx((399 + 29) / 60, rel=0.03)
    assert told["demand"]["mean"] == pytest.approx(549 / 298, rel=0.01)
    first = told["candidates"][0]
    assert first["output_tokens_per_s"] == pytest.approx(20 * first["rate_per_s"])
    assert first["fleet"]["mean_replicas"] <= first["fleet"]["replicas"]


def test_the_table_has_a_row_for_each_candidate_and_the_plots_are_drawn(recommend, tmp_path):
    options = ("--max-num-batched-tokens", "512,32", "-o", "c.csv", "--plots", "plots")
    assert recommend(*options)[0] == 0
    rows = pd.read_csv("c.csv")
    assert rows["excluded"].notna().tolist() == [False, False, True, True]
    assert rows["rate_per_s"].notna().sum() == 2
    assert {"ttft_ms_p99", "binds", "max_num_seqs"} <= set(rows)
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn == ["cost.png", "cost.svg", "pareto.png", "pareto.svg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", 0), "--rate 0: must be above 0 requests a second"),
        (("--rate", 4, "--trace", "c.json"), "--rate and --trace both say"),
        (("--trace", "none.csv"), "--trace none.csv: no such file"),
        (("--price", "L4=1"), "--price L4=1: L4 is no candidate"),
        (("--price", "H100=0"), "--price H100=0: must be above 0"),
        (("--slo", "e2e_p95=3"), "the unit is missing"),
        (("--slo", "tpot_p95=3s"), "it is called itl here"),
        (("--goodput", 2), "must be a share"),
        (("--engine", "vlm"), "no engine 'vlm' (known: vllm, sglang, tensorrt-llm)"),
        (("--arrivals", "gamma"), "--arrivals gamma and --cv"),
        (("--slo", "e2e_p95=1ms"), "no candidate can serve llama-3.1-8b within the objective"),
        (("--run", "nowhere"), "nowhere/result.json: no such file"),
        (("-o", "no/c.csv"), "no such folder to write c.csv into"),
    ],
)
def test_bad_input_is_told_without_a_traceback(recommend, options, said):
    code, out, err = recommend(*options)
    assert (code, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "options",
    [
        ("--price", "H100"),
        ("--price", "H100=cheap"),
        ("--tp", "two"),
        ("--max-num-seqs", "0"),
        ("--max-num-batched-tokens", "1.5"),
        ("--jobs", "0"),
    ],
)
def test_wrong_usage_exits_with_two(recommend, options):
    assert recommend(*options)[0] == 2


def test_an_objective_is_needed(recommend):
    code, _, err = recommend(slos=())
    assert code == 1
    assert "give an objective to meet with --slo" in err


def test_a_gpu_on_which_nothing_fits_is_told_with_its_memory(recommend):
    code, _, err = recommend(gpu="Small")
    assert code == 1
    assert "does not fit on 1 × Small (4 GiB each)" in err
