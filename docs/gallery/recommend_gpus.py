"""
A recommendation
================

Which TP degree carries a load within an objective at the least cost, and how sure is that?
"""

import json
import subprocess

import matplotlib.pyplot as plt

command = [
    *("calibrate", "recommend", "--model", "llama-3.1-8b", "--gpu", "H100", "--json"),
    *("--latency-model", "roofline-v3", "--workload", "chatbot", "--rate", "60"),
    *("--slo", "ttft_p99=2s", "--slo", "itl_p99=50ms", "--price", "H100=2.5"),
    *("--tp", "1,2", "--max-num-seqs", "256", "--draws", "8", "--num-requests", "1000"),
]
done = subprocess.run(command, capture_output=True, text=True, check=True)
answer = json.loads(done.stdout)

# %%
# Each candidate has the largest rate of a replica with its 80% band,
# and the probability that the fleet meets the objective:

for one in answer["candidates"]:
    fleet = one["fleet"]
    print(
        f"TP {one['tp']}: {one['rate_low_per_s']:.0f} to {one['rate_high_per_s']:.0f} a second, "
        f"{fleet['replicas']} replicas, {fleet['cost_per_hour']} an hour, "
        f"met with probability {fleet['probability']:.0%}; "
        f"{fleet['sure_replicas']} replicas for nine in ten"
    )

# %%
# The latency of a replica as its load grows. It is flat until the engine is full:

figure, axes = plt.subplots(figsize=(7, 3.5))
for one in answer["candidates"]:
    rates = [point["rate_per_s"] for point in one["curve"]]
    axes.plot(
        rates, [point["ttft_ms_p99"] for point in one["curve"]], "o-", label=f"TP {one['tp']}"
    )
axes.set(xlabel="requests a second", ylabel="99th percentile of TTFT / ms")
axes.legend()
figure.tight_layout()

# %%
# What the answer does not know stands in its notes:

for note in answer["notes"]:
    print("!", note)
