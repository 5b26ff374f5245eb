"""Tables of steps as long as a fleet's log: distinct rows of several models, timed by a known model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import ArrayLike, NDArray

from sim import StepTable, latency_model, load_hardware
from tests.conftest import GUIDE_H100

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-13b", "qwen2.5-7b")
DEGREES = (2, 4)
STEPS_OF_A_RUN = 5_000
RUN_SPREAD, STEP_SPREAD = 0.01, 0.03
STALLED, STALL = 1e-3, 3.0
"""Share of the steps that take so many times as long, as where another process has the GPU."""


def write_large_campaign(folder: Path, rows: int) -> None:
    """A campaign of ``rows`` steps: runs of 5,000, a model and degree each, of prefills, decodes and both."""
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text('title = "steps of a fleet"\nkind = "synthetic"\n')
    table = pa.Table.from_pandas(large_steps(rows), preserve_index=False)
    pyarrow.csv.write_csv(table, folder / "steps.csv")


def large_steps(rows: int) -> pd.DataFrame:
    """The steps: roofline-v1's times at a slower H100 than the guide's, with noise of runs and of steps."""
    rng = np.random.default_rng(0)
    run = np.arange(rows) // STEPS_OF_A_RUN
    runs = run[-1] + 1
    columns = pd.DataFrame(
        {
            "model": np.array(MODELS, dtype=object)[rng.integers(len(MODELS), size=runs)][run],
            "tp": rng.choice(DEGREES, runs)[run],
            "dtype": "bf16",
            **_batches(rng, rows),
        }
    )
    noise = RUN_SPREAD * rng.standard_normal(runs)[run] + STEP_SPREAD * np.clip(
        rng.standard_normal(rows), -4, 4
    )
    hardware = load_hardware({"H100": {**GUIDE_H100, "mfuPrefill": 0.5, "BwEffConstant": 0.65}})
    predicted_us = latency_model("roofline-v1").predict_us(
        StepTable.from_columns(columns), hardware
    )
    stall = np.where(rng.random(rows) < STALLED, STALL, 1.0)
    latency_us = np.round(predicted_us * np.exp(noise) * stall, 2)
    run_id = pd.Series(run).map("run-{:04d}".format)
    return columns.assign(latency_us=latency_us, run_id=run_id)


def _batches(rng: np.random.Generator, rows: int) -> dict[str, NDArray[np.int64]]:
    """A third prefills, half decodes, the rest prompts beside few decodes; lengths spread over their decades."""
    kind = rng.choice(3, rows, p=[1 / 3, 1 / 2, 1 / 6])
    prefills = rng.integers(1, 9, rows) * (kind != 1)
    prompt = _spread(rng, np.where(kind == 2, 512, 64), 8192, rows)
    decodes = _spread(rng, 1, np.where(kind == 2, 16, 512), rows) * (kind != 0)
    context = _spread(rng, 64, np.where(kind == 2, 1024, 16384), rows)
    return {
        "num_prefill_requests": prefills,
        "sum_prefill_tokens": prefills * prompt + rng.integers(0, 64, rows) * (prefills > 0),
        "num_decode_requests": decodes,
        "sum_decode_kv_tokens": decodes * context + rng.integers(0, 64, rows) * (decodes > 0),
    }


def _spread(
    rng: np.random.Generator, low: ArrayLike, high: ArrayLike, rows: int
) -> NDArray[np.int64]:
    """Whole numbers, even in their logarithm."""
    return np.exp(rng.uniform(np.log(low), np.log(high), rows)).astype(np.int64)
