"""Logs of steps for tests of the watch: made up of a latency model at known values, with changes at known steps."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.watch.rows import Rows
from sim import Hardware, LatencyModel, StepTable, latency_model
from sim.steps.batch import Floats

MODEL = "llama-3.1-8b"


def traffic(
    rows: int,
    *,
    seed: int = 0,
    models: tuple[str, ...] = (MODEL,),
    tp: int = 1,
    phases: tuple[float, float, float] = (0.85, 0.1, 0.05),
    largest: int = 256,
) -> pd.DataFrame:
    """Steps of a server as they come: mostly decodes, some prompts, some of both."""
    rng = np.random.default_rng(seed)
    phase = rng.choice(3, rows, p=phases)
    decodes = np.where(phase == 1, 0, np.exp2(rng.uniform(0, np.log2(largest), rows)).astype(int))
    prefills = np.where(phase == 0, 0, rng.integers(1, 4, rows))
    new = np.exp2(rng.uniform(7, 12, rows)).astype(int)
    context = np.exp2(rng.uniform(8, 12, rows)).astype(int)
    return pd.DataFrame(
        {
            "model": np.array(models, dtype=object)[rng.integers(0, len(models), rows)],
            "tp": tp,
            "dtype": "bf16",
            "num_prefill_requests": prefills,
            "sum_prefill_tokens": prefills * new,
            "sum_prefill_kv_tokens": 0,
            "num_decode_requests": decodes,
            "sum_decode_kv_tokens": decodes * context,
        }
    )


def noise(rows, spread=0.05, correlation=0.0, seed=0):
    """Noise of ln(latency): normal, of so great a spread, each step correlated with the one before."""
    rng = np.random.default_rng(seed + 1000)
    white = rng.standard_normal(rows)
    if not correlation:
        return spread * white
    from scipy.signal import lfilter

    return spread * np.sqrt(1 - correlation**2) * lfilter([1.0], [1.0, -correlation], white)


def watched_rows(
    steps: pd.DataFrame,
    hardware: Hardware,
    *,
    log_extra: Floats | float = 0.0,
    node: str | Sequence[str] | NDArray[np.object_] = "n1",
    engine: str | Sequence[str] | NDArray[np.object_] = "e1",
    at: Floats | None = None,
    model: LatencyModel | None = None,
) -> Rows:
    """Steps that take what a model predicts, times e to the power of ``log_extra``."""
    table = StepTable.from_columns(steps)
    predicted = (model or latency_model("roofline-v1")).predict_us(table, hardware)
    labels = pd.DataFrame(
        {
            name: pd.Categorical(np.broadcast_to(np.asarray(value, dtype=object), len(steps)))
            for name, value in (
                ("node", node),
                ("engine", engine),
                ("model", steps["model"].to_numpy(dtype=object)),
                ("tp", steps["tp"].astype(str).to_numpy(dtype=object)),
            )
        }
    )
    at = np.arange(len(steps), dtype=float) if at is None else at
    return Rows(table, predicted * np.exp(log_extra), at, labels)


def records(
    steps: pd.DataFrame,
    hardware: Hardware,
    *,
    log_extra: Floats | float = 0.0,
    node: str = "n1",
    begins_s: float = 1.79e9,
    gap_s: float = 0.02,
) -> str:
    """The same as lines of a log of Forward Pass Metrics, with the node and the time of each step."""
    rows = watched_rows(steps, hardware, log_extra=log_extra)
    names = [name for name in steps if name.startswith(("num_", "sum_"))]
    columns = steps[names].astype(int).to_dict("records")
    lines = (
        {
            "version": 1,
            "worker_id": node,
            "counter_id": number,
            "timestamp": begins_s + gap_s * number,
            "wall_time": us / 1e6,
            "scheduled_requests": sums,
        }
        for number, (us, sums) in enumerate(zip(rows.measured_us, columns, strict=True))
    )
    return "".join(json.dumps(line) + "\n" for line in lines)
