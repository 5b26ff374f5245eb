"""Fits the hardware parameters of LLM-inference latency models to measured campaigns."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrate.campaign.campaign import load_campaigns
    from calibrate.job.calibration import fit
    from calibrate.outcome.result import FitResult

__all__ = ["FitResult", "fit", "load_campaigns"]

_HOMES = {
    "fit": "calibrate.job.calibration",
    "load_campaigns": "calibrate.campaign.campaign",
    "FitResult": "calibrate.outcome.result",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: pandas and lmfit take most of a second."""
    if name not in _HOMES:
        raise AttributeError(f"module 'calibrate' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
