"""
An outlier, named
=================

One row of a campaign was typed in milliseconds, or the GPU was busy.
A single wrong row must not move a fit, and must not vanish.
"""

import pandas as pd

import calibrate

measured = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
steps = measured.query("model == 'llama-3.1-8b' and tp <= 2")
damaged = steps.reset_index(drop=True)
damaged.loc[40, "latency_us"] *= 3

# %%
# The row is off by a factor of three. Fit good rows and damaged ones alike:

CONFIG = "hardware_configs/hardware_config.json"
good = calibrate.fit(steps, CONFIG, gpu="H100", starts=1, cv=["2"])
fit = calibrate.fit(damaged, CONFIG, gpu="H100", starts=1, cv=["2"])

# %%
# The fit sets rows aside that are off alone, while rows like them are not. It names each, with a likely cause:

for outlier in fit.outliers:
    where = f"row {outlier.line}: {outlier.phase} of {outlier.model} at tp {outlier.tp}"
    print(f"{where} took {outlier.measured_us:,.0f} µs, predicted {outlier.predicted_us:,.0f}")
    print(f"likely cause: {outlier.cause}")

# %%
# The parameters are those of the good rows:

for name in ("BwEffConstant", "mfuPrefill", "mfuDecode"):
    print(f"{name:<18} {good.values[name]:8.4g} {fit.values[name]:8.4g}")

# %%
# The plot has every row, the one that was set aside too:

figure = fit.plot("predicted_measured")
