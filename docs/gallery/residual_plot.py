"""
Reading a residual plot
=======================

A residual is how far a predicted step is off. A cloud without a shape is noise.
A cloud that leans shows a term that the latency model lacks.
"""

import calibrate

campaigns = calibrate.load_campaigns("ground_truth", "H100", ["aiconfigurator-vllm-0.24.0"])
steps = campaigns[0].steps.query("tp < 8")[::3]
thinned = calibrate.Campaign.from_frame(steps, gpu="H100", kind="kernel-composed")

# %%
# roofline-v1 has one rate for decode GEMMs and one time for every step.
# Fit it to a third of the shipped steps on up to four GPUs, from one start:

result = calibrate.fit(thinned, "hardware_configs/hardware_config.json", starts=1)
figure = result.plot("residuals")

# %%
# Look for slopes. Where the cloud falls with the batch, small batches are predicted too slow and large ones too fast.
# The fit looks too: it tests every slice for a trend, and says in words what it found.

trends = [text for text in result.warnings if "at the largest" in text]
print("\n".join(trends))

# %%
# roofline-v3 has the terms that are missing. Its residuals are smaller, and what is left has less of a shape:

better = calibrate.fit(
    thinned, "hardware_configs/hardware_config.json", latency_model="roofline-v3", starts=1
)
figure = better.plot("residuals")
for fit in (result, better):
    held_out = fit.metrics.held_out["folds"]["all"].mape
    print(f"{fit.latency_model}: {held_out:.1%} on runs that the fit did not see")
