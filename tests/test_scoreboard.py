"""The scoreboard's tables and pictures, and what the runs furthest off have in common."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from benchmarks.scoreboard import aisimulate
from benchmarks.scoreboard.divergences import divergences
from benchmarks.scoreboard.page import page
from benchmarks.scoreboard.picture import draw
from benchmarks.scoreboard.treatments import TUNED, UNTUNED, errors_by_model
from calibrate.serving.point import ServingPoint
from sim import EngineLimits, Workload, load_architecture
from sim.serving.lengths import Fixed
from sim.serving.workload import Closed


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


def row(campaign, ttft, *, aside):
    errors = dict.fromkeys(UNTUNED, (ttft, 0.025, None)) | dict.fromkeys(TUNED)
    errors |= {"run out": (ttft / 2, 0.02, None)}
    labels = {"gpu": "H100", "campaign": campaign, "engine": "vllm", "aside": aside}
    return {**labels, "runs": 11, "of": 11, "errors": errors}


def board():
    """Two data sets that were chosen on and one kept aside."""
    return {
        "made": "2026-11-29",
        "software": {"llm-calibrate": "0.1.0", "numpy": "2.4.6"},
        "rows": [row("a", 0.1, aside=False), row("b", 0.3, aside=False), row("c", 0.4, aside=True)],
        "models": {name: {"m": (0.106, 0.025, None)} for name in (*UNTUNED, *TUNED)},
        "divergences": [],
    }


def test_tuned_and_untuned_share_no_table():
    lines = list(page(board()))
    (untuned,) = [line for line in lines if line.startswith("| H100 | a ") and "10 / 2 / –" in line]
    (tuned,) = [
        line for line in lines if line.endswith("| – | – | 5 / 2 / – |") and "| a |" in line
    ]
    assert lines.index("## Untuned") < lines.index(untuned) < lines.index("## Tuned")
    assert lines.index(tuned) > lines.index("## Tuned")


def test_what_is_kept_aside_is_marked_and_reported_apart():
    lines = list(page(board()))
    assert "| that forms and defaults were chosen on | 20 / 2 / – | 20 / 2 / – |" in lines
    assert "| kept aside * | 40 / 2 / – | 40 / 2 / – |" in lines
    assert any(line.startswith("| H100 | c * | vllm |") for line in lines)


def test_the_page_says_when_with_what_and_whose_figures_are_not_its_own():
    text = "\n".join(page(board()))
    assert "Made on 2026-11-29" in text
    assert "numpy 2.4.6" in text
    assert "It is not installed here" in text
    assert "| Llama-3.1-70B, 14 | 101 / 14 | November 2026 |" in text
    assert "| 2026-03-11 |" in text


def test_errors_by_model_are_means_over_the_runs_of_all_servers():
    near, far = server("near", 3), server("far", 1)
    scored = [(near, np.full((3, 12), 110.0)), (far, np.full((1, 12), 150.0)), (near, None)]
    found = errors_by_model(scored)
    assert found["near"] == pytest.approx([0.1] * 3)
    assert found["far"] == pytest.approx([0.5] * 3)
    assert found["all"] == pytest.approx([0.2] * 3)


def test_a_picture_has_the_errors_of_some_treatments(tmp_path):
    draw(board()["rows"], UNTUNED, tmp_path / "scoreboard-untuned.png")
    assert (tmp_path / "scoreboard-untuned.png").stat().st_size > 5000


@pytest.mark.skipif(sys.platform == "win32", reason="the tool stands in as a shell script")
def test_aisimulate_is_asked_through_its_command_line(tmp_path):
    """A tool that answers its own concurrency in ms, as deep as it likes."""
    tool = tmp_path / "aisimulate"
    tool.write_text(
        "#!/bin/sh\n"
        "mkdir out; load=$(grep -o 'concurrency: [0-9]*' query.yaml | grep -o '[0-9]*')\n"
        'echo "{\\"a\\": [{\\"mean_ttft_ms\\": $load, \\"mean_tpot_ms\\": 3}]}" > out/answer.json\n'
    )
    tool.chmod(0o755)
    point = ServingPoint(
        load_architecture("llama-3.1-8b"),
        1,
        Workload(80, Closed(8), Fixed(512), Fixed(64)),
        EngineLimits(),
    )
    one = server("llama-3.1-8b", 1)
    one.rows.points.points = [point]
    one.kind = "vllm"
    found = aisimulate.figures_ms(one, str(tool))
    assert (found[0, 0], found[0, 4]) == (8.0, 3.0)
    assert aisimulate.query(one, point)["engine"]["hardware"] == "h100_sxm"
