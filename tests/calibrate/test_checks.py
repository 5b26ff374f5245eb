"""The list of what a campaign must pass before anything is fitted: for each defect a made-up campaign that has it."""

import json
import sys

import pandas as pd
import pytest

from calibrate.cli import main
from calibrate.records.errors import Problem, line_ranges, merge
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

COUNTS = [
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
]
LOAD_POINT = {
    "model": "llama-3.1-8b",
    "tp": 1,
    "load": "poisson",
    "request_rate": [2.0, 4.0, 8.0],
    "num_requests": 500,
    "failed_requests": 0,
    "output_tokens_mean": 101.0,
    "max_num_seqs": 256,
    "ttft_ms_mean": 40.0,
    "itl_ms_mean": 10.0,
    "e2e_ms_mean": 1040.0,
    "requests_per_s": [2.0, 4.0, 8.0],
    "folder": "llama-3.1-8b-tp1",
    "run_id": ["a", "b", "c"],
}


def edit(line, **cells):
    """Change cells of a line of steps."""

    def change(steps, serving):
        return _with_cells(steps, line, cells), serving

    return change


def serve(line, **cells):
    """Change cells of a line of serving."""

    def change(steps, serving):
        return steps, _with_cells(serving, line, cells)

    return change


def _with_cells(frame, line, cells):
    frame = frame.assign(
        **{name: frame.get(name, pd.Series("", frame.index)).astype(object) for name in cells}
    )
    frame.loc[line - 2, list(cells)] = list(cells.values())
    return frame


def scale(factor, *lines):
    def change(steps, serving):
        factors = [factor if row + 2 in lines else 1.0 for row in range(len(steps))]
        return steps.assign(latency_us=steps["latency_us"] * factors), serving

    return change


def repeat(*factors):
    """Replicates of line 4 at the end of the table (its first is line 50)."""

    def change(steps, serving):
        more = pd.concat([steps.iloc[[2]]] * len(factors))
        return pd.concat(
            [steps, more.assign(latency_us=more["latency_us"] * list(factors))]
        ), serving

    return change


def keep(column, value):
    """One regime only."""

    def change(steps, serving):
        return steps[steps[column] == value], serving

    return change


DEFECTS = {  # what is done to a good campaign, and then: severity, table, lines, words of message or fix
    "not a number": (
        edit(7, latency_us="fast"),
        "error",
        "steps",
        [7],
        "must be a positive number",
    ),
    "negative latency": (
        edit(7, latency_us=-3.0),
        "error",
        "steps",
        [7],
        "must be a positive number",
    ),
    "zero latency": (edit(7, latency_us=0.0), "error", "steps", [7], "must be a positive number"),
    "a run of no time": (
        serve(3, e2e_ms_mean=0.0),
        "error",
        "serving",
        [3],
        "must be a positive number",
    ),
    "more requests than tokens": (
        edit(4, **dict(zip(COUNTS, (9, 5, 0, 0), strict=True))),
        "error",
        "steps",
        [4],
        "fewer tokens than prefill requests",
    ),
    "unknown model": (
        edit(7, model="lama-3.1-8b"),
        "error",
        "steps",
        [7],
        "did you mean 'llama-3.1-8b'",
    ),
    "unknown model of a run": (
        serve(3, model="lama-3.1-8b"),
        "error",
        "serving",
        [3],
        "did you mean 'llama-3.1-8b'",
    ),
    "wrong units": (scale(1e-3, 5, 9), "error", "steps", [5, 9], "multiply by 1000"),
    "wrong dtype": (
        edit(3, latency_us=3000.0),
        "error",
        "steps",
        [3],
        "say so in the dtype column",
    ),
    "too slow": (scale(1e3, 5, 9), "warning", "steps", [5, 9], "nanoseconds given as microseconds"),
    "parts that disagree": (
        serve(3, itl_ms_mean=5.0),
        "warning",
        "serving",
        [3],
        "counted stream chunks",
    ),
    "tokens miscounted": (
        serve(3, itl_ms_mean=7.0),
        "warning",
        "serving",
        [3],
        "re-tokenising the text",
    ),
    "failures": (serve(4, failed_requests=400), "warning", "serving", [4], "an overloaded run"),
    "TTFT of seconds": (
        serve(4, ttft_ms_mean=30_000.0, e2e_ms_mean=31_000.0),
        "warning",
        "serving",
        [4],
        "an overloaded run",
    ),
    "a rate above what was finished": (
        serve(4, requests_per_s=4.0),
        "warning",
        "serving",
        [4],
        "an overloaded run",
    ),
    "replicates that spread": (
        repeat(1.15, 1.3, 1.35),
        "warning",
        "steps",
        [4, 50, 51, 52],
        "spread by more than 10%",
    ),
    "an outlier among replicates": (
        repeat(1.01, 1.02, 2.0),
        "warning",
        "steps",
        [52],
        "off the median",
    ),
    "duplicates": (repeat(1.0), "warning", "steps", [50], "repeats an earlier row to the letter"),
    "a single TP": (keep("tp", 2), "warning", None, [], "only tp 2"),
    "a single model": (
        keep("model", "llama-2-13b"),
        "warning",
        None,
        [],
        "only the model llama-2-13b",
    ),
    "no prefill": (keep("num_prefill_requests", 0), "warning", None, [], "no prefill steps"),
    "no decode": (keep("num_decode_requests", 0), "warning", None, [], "no decode steps"),
    "no decode above batch 32": (
        keep("num_decode_requests", 8),
        "warning",
        None,
        [],
        "no decode above batch 8",
    ),
    "a name the log denies": (
        serve(2, model_in_log="meta-llama/Llama-2-7b-hf"),
        "warning",
        "serving",
        [2],
        "disagrees with the row's model, llama-3.1-8b",
    ),
    "a name the folder denies": (
        serve(2, folder="llama7b"),
        "warning",
        "serving",
        [2],
        "names another model",
    ),
}


@pytest.fixture
def good(h100):
    steps = synthetic_steps(h100.with_values({"TOverheadMicros": 80.0}), 48)
    return steps, pd.DataFrame(LOAD_POINT)


@pytest.fixture
def validate(tmp_path, monkeypatch, capsys):
    """Write a campaign of two tables and return what `calibrate validate --json` finds in it."""

    def run(steps, serving, peak=989.5, *, as_text=False):
        folder = write_campaign(tmp_path / "truth", "H100", steps)
        serving.to_csv(folder / "serving.csv", index=False)
        config = tmp_path / "hardware_config.json"
        config.write_text(json.dumps({"H100": {**GUIDE_H100, "TFlopsPeak": peak}}))
        command = ["validate", "--ground-truth", tmp_path / "truth", "--hardware-config", config]
        command += [] if as_text else ["--json"]
        monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, command)])
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr().out
        if as_text:
            return out
        report = json.loads(out)
        (campaign,) = report["campaigns"]
        assert end.value.code == (1 if report["errors"] else 0)
        return campaign["problems"]

    return run


def test_a_good_campaign_passes(good, validate):
    assert validate(*good) == []


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.slow
def test_every_defect_of_the_list_is_found_with_its_rows(good, validate, defect):
    change, severity, table, lines, words = DEFECTS[defect]
    about = [p for p in validate(*change(*good)) if words in p["message"] or words in p["fix"]]
    assert len(about) == 1, defect
    (problem,) = about
    assert problem["severity"] == severity
    assert table is None or problem["file"].endswith(f"{table}.csv")
    assert lines is None or problem["lines"] == lines
    assert problem["fix"]


def test_a_peak_quoted_with_sparsity_is_found(good, validate):
    (problem,) = validate(*good, peak=1979.0)
    assert problem["column"] == "TFlopsPeak"
    assert "this is the figure with sparsity" in problem["message"]


def test_a_peak_that_is_too_low_is_found_as_steps_faster_than_physics(good, validate):
    problems = validate(*good, peak=312.0)
    assert any(
        "faster than physics" in p["message"] and "the peaks of another GPU" in p["fix"]
        for p in problems
    )


def test_all_defects_at_once_are_all_found(good, validate):
    for line, latency in ((2, "fast"), (5, -1.0), (8, 0.0)):
        good = edit(line, latency_us=latency)(*good)
    problems = validate(*serve(3, itl_ms_mean=5.0, folder="mixtral-8x7b")(*good))
    assert {(p["column"], tuple(p["lines"])) for p in problems} == {
        ("latency_us", (2, 5, 8)),
        ("itl_ms_mean", (3,)),
        ("folder", (3,)),
    }


def test_many_defects_are_grouped_by_file_and_said_in_a_few_lines(good, validate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    steps, serving = good
    steps = pd.concat([steps] * 10, ignore_index=True).assign(**{f"extra_{i}": 1 for i in range(9)})
    steps["model"] = steps["model"].where(steps.index % 2 == 0, [f"zzz{i}" for i in steps.index])
    steps["latency_us"] = steps["latency_us"].where(steps.index % 3 > 0, -1.0)
    text = validate(steps, serve(3, itl_ms_mean=5.0)(steps, serving)[1], as_text=True)
    assert len(text.splitlines()) < 30
    assert all(len(line) <= 100 for line in text.splitlines() if not line.endswith(".csv"))
    said = " ".join(text.split())
    for words in (
        "lines 2, 5 … (160)",
        "latency_us = -1.0: must be a positive number",
        "zzz1, zzz5, zzz7, zzz11 and 16 more: model of this name is neither in the registry",
        "140 models more are unknown",
        "extra_0, extra_1, extra_2, extra_3 and 5 more: unknown column",
        "line 3",
    ):
        assert words in said, words
    assert text.count("/steps.csv") == text.count("/serving.csv") == 1


def test_lines_are_shown_as_ranges():
    assert line_ranges([]) == []
    assert line_ranges([2, 3, 4, 9, 11, 12]) == ["2–4", "9", "11–12"]


def test_findings_of_two_files_or_severities_are_not_merged():
    one = Problem("error", "a.csv", "is bad", "Mend it", (3,), "tp", "x")
    others = [
        Problem("error", "a.csv", "is bad", "Mend it", (2,), "dtype", "y"),
        Problem("error", "b.csv", "is bad", "Mend it", (2,)),
        Problem("warning", "a.csv", "is bad", "Mend it", (2,)),
    ]
    merged, *rest = merge([one, *others])
    assert (merged.lines, merged.column, merged.value) == ((2, 3), "tp, dtype", "x, y")
    assert rest == others[1:]
