"""
Comparing two engine versions
=============================

An engine was upgraded. Did steps get slower, and which parameter says so?
Here the new version is the old table with decode steps that take 8% longer.
"""

import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import calibrate

CONFIG = "hardware_configs/hardware_config.json"
measured = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
old = measured.query("model == 'llama-3.1-8b' and tp <= 2")
is_decode = old["num_decode_requests"] > 0
new = old.assign(latency_us=old["latency_us"] * np.where(is_decode, 1.08, 1.0))

# %%
# Fit each to its own table and save the runs:

for name, steps in (("old", old), ("new", new)):
    fit = calibrate.fit(steps, CONFIG, gpu="H100", starts=1, cv=["2"])
    fit.save(f"versions/{name}")

# %%
# ``calibrate compare`` says what moved. With ``--fail-on-regression`` it is a gate for a pipeline:

command = ["calibrate", "compare", "versions/old", "versions/new", "--fail-on-regression", "5"]
done = subprocess.run(command, capture_output=True, text=True, check=False)
print(done.stdout, done.stderr, f"exit code {done.returncode}")

# %%
# Parameters whose intervals lie apart have changed. One that moved inside them may have, or may not:

runs = {name: calibrate.load_run(f"versions/{name}") for name in ("old", "new")}
names = ["mfuPrefill", "mfuDecode", "BwEffConstant", "vectorPeakFraction"]
figure, axes = plt.subplots(figsize=(7, 3))
for shift, (version, run) in zip((-0.1, 0.1), runs.items(), strict=True):
    found = {p.name: p for p in run.parameters}
    ends = np.array([found[name].ci90 or (np.nan, np.nan) for name in names], dtype=float)
    values = np.array([found[name].value for name in names])
    width = np.abs(ends.T - values)
    axes.errorbar(values, np.arange(4) + shift, xerr=width, fmt="o", label=version)
axes.set_yticks(range(4), names)
axes.set_xlabel("share of the peak, with its 90% interval")
axes.legend()
figure.tight_layout()
