"""
A parameter that the data cannot determine
==========================================

Steps of one model on one GPU say nothing of tensor parallelism.
A fit that printed numbers for it all the same would be wrong without a word.
"""

import pandas as pd

import calibrate

measured = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
steps = measured.query("model == 'llama-3.1-8b' and tp == 1")
result = calibrate.fit(
    steps, "hardware_configs/hardware_config.json", gpu="H100", starts=1, cv=["2"]
)

# %%
# A parameter that no row sees is *inert*: it keeps its value, without an interval.
# Where only a product of two shows, one of them is *tied*. Each says why, and what to measure:

for parameter in result.parameters:
    if parameter.status != "fitted":
        print(f"{parameter.name} is {parameter.status}. {parameter.why}\n")

# %%
# The picture behind it: how strongly each group of rows sees each parameter. What is inert is seen by none.
# Two parameters with the same pattern, such as mfuPrefill and its multiplier, cannot be told apart.

figure = result.plot("sensitivity")

# %%
# Singular values say the same of combinations of the parameters that were fitted: a small one is hardly seen.

figure = result.plot("singular_values")
