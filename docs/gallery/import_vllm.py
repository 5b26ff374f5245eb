"""
Importing a result of vLLM's client
===================================

``vllm bench serve --save-result`` writes a file for each load point.
``calibrate import`` makes a campaign of a file, or of a folder of them.
"""

import subprocess

import calibrate

SOURCE = "tests/data/clients/vllm_bench/summary.json"
command = [
    *("calibrate", "import", "vllm-bench", SOURCE, "--gpu", "H100", "--campaign", "my-server"),
    *("--ground-truth", "imported", "--tp", "1", "--dtype", "bf16"),
]
done = subprocess.run(command, capture_output=True, text=True, check=True)
print(done.stdout, done.stderr)

# %%
# What a result does not say, options fill in: here the degree and the weight type. The table is then like any other:

(campaign,) = calibrate.load_campaigns("imported", "H100", ["my-server"])
print(campaign.serving.iloc[0].dropna().to_string())

# %%
# How far off is the configuration on it, with nothing tuned?

score = calibrate.evaluate(campaign, "hardware_configs/hardware_config.json", model="roofline-v3")
for metric, errors in score.overall.items():
    print(f"{metric}: {errors.mape:.1%}")
