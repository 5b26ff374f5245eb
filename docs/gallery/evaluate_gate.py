"""
A gate for a pipeline
=====================

Hold a configuration against a new benchmark, and stop where it no longer predicts it. Nothing is fitted.
"""

import matplotlib.pyplot as plt
import pandas as pd

import calibrate
from sim import load_hardware

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")
LIMIT = 0.10  # the largest mean error that is acceptable

steps = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
fitted = calibrate.evaluate(steps, hardware, model="roofline-v3")
guide = calibrate.evaluate(steps, hardware, model="roofline-v1")

# %%
# Errors are of absolute size; the bias keeps the sign.

for name, score in (("roofline-v3", fitted), ("roofline-v1", guide)):
    errors = score.steps["all"]
    passed = "passes" if errors.mape <= LIMIT else "stops"
    print(f"{name}: {errors.mape:.1%} (bias {errors.bias:+.1%}): {passed}")

# %%
# Where is it off? The rows can be grouped by whatever they have:

rows = guide.rows.assign(ratio=guide.rows["predicted_us"] / guide.rows["measured_us"] - 1)
by_slice = rows.pivot_table("ratio", ["model", "phase"], "tp").abs()
print(by_slice.map("{:.0%}".format).to_string())
figure, axes = plt.subplots(figsize=(7, 3))
by_slice.plot.barh(ax=axes, xlabel="mean error with the guide's values")
figure.tight_layout()

# %%
# The command is ``calibrate evaluate --gpu H100 --latency-model roofline-v3 --fail-above 10``.
# It exits with 3 where a mean error is above 10%.
