"""What the latency model of a log has wrong."""

import numpy as np
import pandas as pd

from sim.steps.batch import Floats


def misfit(steps: pd.DataFrame, rng: np.random.Generator) -> Floats:
    """ln of measured over predicted, by shape: up to ±15% by batch and context."""
    batch = np.log2(np.maximum(steps["num_decode_requests"].to_numpy(), 1)) / 8
    context: pd.Series[float] = steps["sum_decode_kv_tokens"] / np.maximum(
        steps["num_decode_requests"], 1
    )
    length = np.log2(np.maximum(context.to_numpy(), 256)) / 4 - 2
    slopes = rng.uniform(-0.15, 0.15, 3)
    return np.asarray(slopes[0] * batch + slopes[1] * length + slopes[2] * np.sin(6 * batch))
