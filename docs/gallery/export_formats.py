"""
Exporting to other tools
========================

Another tool computes with its own formula. An export writes the values in its words, and says how far they are off.
"""

import json
from pathlib import Path

import calibrate
from calibrate.exporters.step_times import Serving
from sim import load_hardware

hardware = load_hardware("hardware_configs/hardware_config.json", gpu="H100")

# %%
# Some formats are arithmetic on the values:

exported = calibrate.export("llm-optimizer", hardware, "h100.json")
print(Path("h100.json").read_text()[:600])

# %%
# Others describe a served model by its step times. Name the model; the notes say the error against our own predictions:

exported = calibrate.export("llm-d-inference-sim", hardware, serving=Serving(("llama-3.1-8b",)))
print(exported.text[:700])
for note in exported.notes:
    print("note:", note)

# %%
# ``json`` has the values with their units and, of a run, their intervals:

print(json.dumps(json.loads(calibrate.export("json", hardware).text), indent=1)[:600])
