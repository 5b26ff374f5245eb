"""
What limits a step
==================

A step takes the longer of computing and moving.
Which one it is decides what a faster GPU, more of them, or a larger batch would bring.
"""

import matplotlib.pyplot as plt
import numpy as np

from sim import StepTable, latency_model, load_hardware

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")
model = latency_model("roofline-v1")
batches = np.unique(np.geomspace(1, 1024, 60).astype(int))

# %%
# Decodes of Llama-3.1-8B, each with 2,000 cached tokens, from one request to a thousand:

table = StepTable.from_columns(
    {
        "model": ["llama-3.1-8b"] * batches.size,
        "tp": np.ones_like(batches),
        "num_decode_requests": batches,
        "sum_decode_kv_tokens": 2000 * batches,
    }
)
time_us = model.predict_us(table, hardware)
regimes = model.regimes(table, hardware)
figure, axes = plt.subplots(figsize=(7, 3.5))
for regime in dict.fromkeys(regimes):
    here = regimes == regime
    axes.loglog(batches[here], time_us[here] / 1000, ".", label=regime)
axes.set(xlabel="requests in the batch", ylabel="time of the step / ms")
axes.legend()
figure.tight_layout()

# %%
# While memory limits, requests are nearly free: the weights are read once for all of them.

for batch in (1, 8, 64, 512):
    at = np.searchsorted(batches, batch)
    print(f"batch {batches[at]:>4}: {time_us[at] / batches[at] / 1000:.2f} ms for each token")
