"""
Profile against bootstrap
=========================

Two ways to an interval. A profile follows the cost along one parameter; a bootstrap draws the runs anew and fits again.
They agree where the cost is a parabola and runs are alike.
"""

import pandas as pd

import calibrate

measured = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
steps = measured.query("model == 'llama-3.1-8b' and tp == 1")
result = calibrate.fit(
    steps, "hardware_configs/hardware_config.json", gpu="H100", starts=1, cv=["2"], bootstrap=16
)

# %%
# Every interval that was computed, by its method:

for parameter in result.parameters:
    for method, (low, high) in parameter.intervals.items():
        print(f"{parameter.name:<22} {method:<12} {low or 0:>8.4g} – {high or float('inf'):<8.4g}")

# %%
# A profile that is no parabola is where a symmetric interval misleads. A flat side is one that the data does not bound.

figure = result.plot("profiles")

# %%
# All methods side by side. A bootstrap of 200 is a good number; 16 are enough to see whether it tells another story.

figure = result.plot("intervals")
