"""
From kernels to a server
========================

Kernels determine what the GPU can do. A few load tests then determine what an engine adds.
"""

import dataclasses

import matplotlib.pyplot as plt

import calibrate
from sim import load_hardware

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")
names = ["aiconfigurator-vllm-0.24.0", "inferencemax-style-vllm-0.12.0"]
kernels, server = calibrate.load_campaigns("ground_truth", "H100", names, hardware)

# %%
# First the steps, which are composed of kernels. A part of them is enough here:

steps = kernels.steps.query("model == 'qwen3-32b' and tp <= 4")[::3]
composed = calibrate.Campaign.from_frame(steps, gpu="H100", kind="kernel-composed")
gpu = calibrate.fit(composed, hardware, latency_model="roofline-v3", starts=1, cv=["2"])
print(gpu.verdicts[-1].text)

# %%
# With these values servers come out too fast: nothing of the engine is in them.
# Six load points of vLLM with Qwen3-32B on two GPUs:

points = dataclasses.replace(server, serving=server.serving.query("output_tokens_mean == 128")[:6])
before = calibrate.evaluate(points, gpu.hardware, model="roofline-v3")
for metric, errors in before.overall.items():
    print(f"{metric}: {errors.mape:.1%}, bias {errors.bias:+.1%}")

# %%
# Now go on from the fit to steps, and move what an engine adds:

tuned = calibrate.fit(points, gpu.hardware, latency_model="roofline-v3", starts=1, serving=True)
for parameter in tuned.parameters:
    if parameter.status == "fitted":
        print(
            f"{parameter.name:<20} {parameter.start:8.4g} → {parameter.value:.4g} {parameter.unit}"
        )

# %%
# The errors that count are those of load points that the fit did not see:

for metric, slices in tuned.serving.unseen.items():
    print(f"{metric}: {slices['all'].mape:.1%} on a run left out")

# %%
# Every load point, before and after:

after = calibrate.evaluate(points, tuned.hardware, model="roofline-v3")
figure, axes = plt.subplots(figsize=(5, 4))
for name, score in (("kernels alone", before), ("tuned", after)):
    axes.loglog(score.rows["measured_ms"], score.rows["predicted_ms"], "o", label=name)
axes.axline((20, 20), (200, 200), linewidth=0.8)
axes.set(xlabel="measured TTFT and ITL / ms", ylabel="predicted / ms")
axes.legend()
figure.tight_layout()
