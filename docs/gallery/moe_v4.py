"""
A mixture of experts: roofline-v4
=================================

roofline-v4 knows experts, windows, latent attention, and weights of 8 and 4 bits.
How far off is it with its defaults, with nothing fitted?
"""

import matplotlib.pyplot as plt
import pandas as pd

import calibrate
from sim import load_hardware

steps = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0-2026/steps.csv.gz")
experts = steps.query("model in ('qwen3-30b-a3b', 'mixtral-8x7b', 'gpt-oss-120b')")[::4]
peaks = load_hardware({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}, gpu="H100")
score = calibrate.evaluate(experts, peaks, model="roofline-v4")
for name, errors in score.steps.items():
    if name.startswith(("all", "model", "phase")):
        print(f"{name:<22} {errors.mape:6.1%}, bias {errors.bias:+.1%}")

# %%
# Predicted over measured, by the tokens of a step.
# Few tokens choose few experts, so that decodes read a part of the weights only:

rows = score.rows.reset_index(drop=True)
tokens = (experts["sum_prefill_tokens"] + experts["num_decode_requests"]).to_numpy()
figure, axes = plt.subplots(figsize=(7, 3.5))
for name, group in rows.groupby("model"):
    ratio = group["predicted_us"] / group["measured_us"]
    axes.plot(tokens[group.index], ratio, ".", label=name)
axes.axhline(1, linewidth=0.8)
axes.set(xscale="log", xlabel="new tokens in the step", ylabel="predicted / measured")
axes.legend()
figure.tight_layout()
