"""
Planning 24 points
==================

Time on a GPU is dear. Which 24 steps teach most about the parameters?
"""

import matplotlib.pyplot as plt

import calibrate
from sim import load_hardware

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")

# %%
# Nothing is measured yet, so the plan must be good for values all over the guide's ranges:

plan = calibrate.plan([], hardware, budget=24)
print(plan.points[["model", "tp", "phase", "predicted_us", "teaches"]].to_string(index=False))

# %%
# It spreads over phases, batches and lengths, for each side of a roofline shows other parameters:

figure, axes = plt.subplots(figsize=(7, 4))
for phase, points in plan.points.groupby("phase"):
    tokens = points["sum_prefill_tokens"] + points["num_decode_requests"]
    axes.scatter(tokens, points["predicted_us"] / 1000, label=phase)
axes.set(xscale="log", yscale="log", xlabel="new tokens in the step", ylabel="predicted time / ms")
axes.legend()

# %%
# What the plan promises: 90% half-widths before and after. None means that a parameter is not seen.

for parameter in plan.parameters:
    if parameter.status == "fitted":
        print(f"{parameter.name:<28} {parameter.now} → {parameter.after}")
print(f"about {plan.seconds / 60:.0f} minutes of measurement")

# %%
# ``plan.steps`` is the table to fill in: ``plan.steps.to_csv("steps.csv", index=False)``.
