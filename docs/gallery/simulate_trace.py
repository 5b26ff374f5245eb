"""
A trace, simulated
==================

What would a server have done with these requests?
A trace has their arrivals and lengths; the fitted step times do the rest.
"""

import matplotlib.pyplot as plt
import numpy as np

from sim import EngineLimits, latency_model, load_architecture, load_hardware, simulate
from sim.serving.workload import trace

# %%
# A busy minute in the middle of a quiet stretch. ``calibrate simulate --workload FILE`` reads such a trace from a file,
# those of Azure, Mooncake and others too.

rng = np.random.default_rng(0)
rate = np.where(np.arange(180) // 60 == 1, 30.0, 5.0)
arrivals_s = np.concatenate([s + rng.random(rng.poisson(r)) for s, r in enumerate(rate)])
arrivals_s.sort()
prompts = rng.lognormal(6.8, 0.5, arrivals_s.size).astype(int) + 1
outputs = rng.lognormal(5.0, 0.4, arrivals_s.size).astype(int) + 1
requests = trace(arrivals_s, prompts, outputs)

# %%
# One H100 with Llama-3.1-8B, and an engine that runs at most 64 requests at once:

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")
engine = EngineLimits(max_num_batched_tokens=8192, max_num_seqs=64, kv_cache_tokens=400_000)
model, arch = latency_model("roofline-v3"), load_architecture("llama-3.1-8b")
result = simulate(requests, engine, model, arch, hardware)
summary = result.summary()
print({name: round(value) for name, value in summary["ttft_ms"].items()})

# %%
# The first token waits as long as the minute is busy, and somewhat after it:

figure, axes = plt.subplots(figsize=(7, 3.5))
axes.plot(arrivals_s, result.ttft_us / 1e6, ".", markersize=3)
axes.axvspan(60, 120, alpha=0.15)
axes.set(xlabel="arrival / s", ylabel="time to first token / s", yscale="log")
figure.tight_layout()
