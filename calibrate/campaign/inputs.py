"""What a caller may give where campaigns or a configuration are wanted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.campaign.campaign import Campaign
from sim.configuration import load_hardware
from sim.hardware import Hardware

CampaignsLike = Campaign | pd.DataFrame | Sequence[Campaign]
"""One campaign or several, or the rows of a steps table."""

HardwareLike = Hardware | str | Path | Mapping[str, Any]
"""A GPU's configuration, a file of them, or their content."""


def as_campaigns(campaigns: CampaignsLike, hardware: Hardware) -> list[Campaign]:
    """A list of campaigns; a frame of steps becomes one, measured on the GPU of ``hardware``."""
    if isinstance(campaigns, pd.DataFrame):
        return [Campaign.from_frame(campaigns, hardware.gpu, hardware=hardware)]
    return [campaigns] if isinstance(campaigns, Campaign) else list(campaigns)


def gpu_of(campaigns: CampaignsLike) -> str | None:
    """The GPU that was measured; None for a frame or where there is no campaign."""
    if isinstance(campaigns, pd.DataFrame):
        return None
    several = [campaigns] if isinstance(campaigns, Campaign) else campaigns
    return next((campaign.gpu for campaign in several), None)


def as_hardware(hardware: HardwareLike, gpu: str | None = None) -> Hardware:
    """One GPU's configuration; ``gpu`` says which of a file's. Raises HardwareError if that cannot be told or read."""
    return hardware if isinstance(hardware, Hardware) else load_hardware(hardware, gpu)
