"""Fits the hardware parameters of LLM-inference latency models to measured campaigns."""

import importlib
from typing import TYPE_CHECKING, Any

from calibrate.records.backend import leave_missing_backend

if TYPE_CHECKING:
    from calibrate.campaign.campaign import Campaign, load_campaigns
    from calibrate.job.api import export, fit, predict
    from calibrate.job.fitted import Fit, load_run
    from calibrate.job.options import Options
    from calibrate.outcome.evaluation import Evaluation, evaluate
    from calibrate.outcome.result import FitResult
    from calibrate.planning.plan import Plan, plan
    from calibrate.records.distribution import VERSION
    from calibrate.records.errors import (
        CalibrateError,
        CampaignError,
        ConfigError,
        ImportFormatError,
        Problem,
        RefusedFitError,
        WorseFitError,
    )

    __version__ = VERSION

__all__ = [
    "CalibrateError",
    "Campaign",
    "CampaignError",
    "ConfigError",
    "Evaluation",
    "Fit",
    "FitResult",
    "ImportFormatError",
    "Options",
    "Plan",
    "Problem",
    "RefusedFitError",
    "WorseFitError",
    "__version__",
    "evaluate",
    "export",
    "fit",
    "load_campaigns",
    "load_run",
    "plan",
    "predict",
]

_HOMES = {
    "campaign.campaign": ("Campaign", "load_campaigns"),
    "job.api": ("export", "fit", "predict"),
    "job.fitted": ("Fit", "load_run"),
    "job.options": ("Options",),
    "outcome.evaluation": ("Evaluation", "evaluate"),
    "outcome.result": ("FitResult",),
    "planning.plan": ("Plan", "plan"),
    "records.errors": (
        *("CalibrateError", "CampaignError", "ConfigError", "ImportFormatError"),
        *("Problem", "RefusedFitError", "WorseFitError"),
    ),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


leave_missing_backend()  # before lmfit imports matplotlib


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: pandas and lmfit take most of a second."""
    if name == "__version__":
        return importlib.import_module("calibrate.records.distribution").VERSION
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'calibrate' has no attribute {name!r}")
    return getattr(importlib.import_module(f"calibrate.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """What tab completion shows."""
    return sorted(__all__)
