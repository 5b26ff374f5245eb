"""The scoreboard's tables, and what the runs furthest off have in common."""

import types

import numpy as np
import pandas as pd
import pytest

from benchmarks.scoreboard import TUNED, UNTUNED, divergences, page


def server(model, runs):
    """A data set of one model whose runs all measured 100 ms."""
    frame = pd.DataFrame({"model": [model] * runs, "tp": 1, "engine": "vllm", "dtype": ""})
    point = types.SimpleNamespace(workload=types.SimpleNamespace(load="closed"))
    points = types.SimpleNamespace(
        frame=frame, measured_ms=np.full((runs, 12), 100.0), points=[point] * runs
    )
    return types.SimpleNamespace(gpu="H100", rows=types.SimpleNamespace(points=points))


def test_the_runs_furthest_off_are_told_by_what_they_share():
    """Ten of a hundred runs are off, all of one model: it is ten times as often among them."""
    good, bad = (
        (server("near", 90), np.full((90, 12), 101.0)),
        (
            server("far", 10),
            np.full((10, 12), 200.0),
        ),
    )
    (found,) = divergences([good, bad])
    assert (found["trait"], found["value"], found["rows"]) == ("model", "far", 10)
    assert found["times"] == pytest.approx(10.0)


def test_tuned_and_untuned_share_no_table():
    errors = dict.fromkeys(UNTUNED, (0.106, 0.025, None)) | dict.fromkeys(TUNED)
    row = {"gpu": "H100", "campaign": "c", "engine": "vllm", "runs": 11, "of": 11, "errors": errors}
    lines = list(page([row], []))
    (untuned,) = [line for line in lines if "11 / 2 / –" in line]
    (tuned,) = [line for line in lines if line.endswith("| – | – | – |")]
    assert lines.index("## Untuned") < lines.index(untuned) < lines.index("## Tuned")
    assert lines.index(tuned) > lines.index("## Tuned")
