"""
A latency model of your own
===========================

A class with a name, its parameters and three methods is a latency model.
It is fitted, judged, reported and planned for like the others.
"""

import numpy as np
import pandas as pd

import calibrate
from sim import LatencyModel, Parameter, load_hardware, register

# %%
# This one has two parameters: weights are read at a share of the peak bandwidth, and each step takes some time more.

SHARE = Parameter(
    name="ownBwShare",
    unit="–",
    lower=0.01,
    upper=1.0,
    guide=(0.4, 0.9),
    stage="bandwidth",
    meaning="share of the peak memory bandwidth",
    seen_in="decode",
    default=0.7,
)
STEP = Parameter(
    name="ownStepMicros",
    unit="µs/step",
    lower=0.0,
    upper=1e5,
    guide=(50.0, 5000.0),
    stage="bandwidth",
    meaning="time of a step",
    seen_in="short steps",
    default=100.0,
)


class Own(LatencyModel):
    """The bytes of all weights at a share of the bandwidth, and a time for each step."""

    name = "own"
    parameter_set = (SHARE, STEP)

    def predict_us(self, table, hardware):
        values = self.parameters(hardware)
        return self._memory_us(table, values) + values["ownStepMicros"]

    def predict_with_jacobian_us(self, table, hardware, names):
        values = self.parameters(hardware)
        memory = self._memory_us(table, values)
        slopes = {
            "ownBwShare": -memory / values["ownBwShare"],
            "ownStepMicros": np.ones(len(table)),
        }
        columns = np.array([slopes[name] for name in names]).reshape(len(names), len(table))
        return memory + values["ownStepMicros"], columns.T

    def regimes(self, table, hardware):
        values = self.parameters(hardware)
        return np.where(self._memory_us(table, values) > values["ownStepMicros"], "memory", "host")

    def _memory_us(self, table, values):
        bytes_of = np.array([arch.active_weight_bytes for arch in table.architectures])
        megabytes = bytes_of[table.arch_index] / 1e6
        return megabytes / table.tp / (values["BwPeakTBs"] * values["ownBwShare"])


register(Own)

# %%
# Fit it to small decode steps, where it has a chance, and look at the verdict:

steps = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
decodes = steps.query("0 < num_decode_requests <= 32 and tp == 1")
start = load_hardware({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}})
result = calibrate.fit(decodes, start, latency_model="own", starts=2)
print(result)

# %%
# It has no term for the cache, and the residuals say so: steps with long contexts are predicted too fast.

figure = result.plot("residuals")
