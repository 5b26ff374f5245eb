"""
Little data and a prior
=======================

Twelve steps hardly determine nine parameters. What was known before may help: the guide's ranges, or an earlier fit.
Whether it does must be looked at.
"""

import pandas as pd

import calibrate

CONFIG = "hardware_configs/hardware_config.json"
steps = pd.read_csv("ground_truth/H100/aiconfigurator-vllm-0.24.0/steps.csv")
few = steps.query("model == 'llama-3.1-8b' and tp == 1")[::6]
alone = calibrate.fit(few, CONFIG, gpu="H100", starts=1, cv=["2"])
helped = calibrate.fit(few, CONFIG, gpu="H100", starts=1, cv=["2"], prior="guide")

# %%
# What the data alone says, and data and prior together:

for one, other in zip(alone.parameters, helped.parameters, strict=True):
    if other.status == "fitted":
        print(f"{one.name:<22} {one.value:10.4g} {other.value:10.4g}   guide {one.guide}")

# %%
# Steps that neither fit has seen decide. Here the data knew better: on this GPU shares of the peak lie outside the
# guide's ranges, and the prior pulls them back. It is worth its place where the ranges are right, or where it is an
# earlier fit of the same GPU.

unseen = steps.query("model == 'llama-3.1-70b' and tp >= 2")
for name, fit in (("data alone", alone), ("with the guide's ranges", helped)):
    score = calibrate.evaluate(unseen, fit.hardware)
    print(f"{name}: {score.steps['all'].mape:.1%} on another model")
