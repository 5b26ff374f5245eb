"""The guide's configurations, which come with the package: where a first fit starts."""

import importlib.resources
from typing import Any

from sim.configuration import read_config

GUIDE = "the guide's configuration that comes with calibrate"
_NAMES = {
    "roofline-v2": "hardware_config_v2.json",
    "roofline-v2-interp": "hardware_config_v2_interp.json",
}


def config_name(latency_model: str) -> str:
    """What the file of a latency model's parameters is called, the guide's and a user's own."""
    return _NAMES.get(latency_model, "hardware_config.json")


def guide_config(latency_model: str) -> dict[str, Any]:
    """The guide's blocks for a latency model, by GPU."""
    packaged = (
        importlib.resources.files("calibrate.parameters") / "guide" / config_name(latency_model)
    )
    with importlib.resources.as_file(packaged) as path:
        return read_config(path)
