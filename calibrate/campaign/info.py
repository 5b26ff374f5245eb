"""``campaign.toml``: where measurements come from, and how they were made."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.documents import read_toml


class CampaignInfo(pydantic.BaseModel):
    """The content of ``campaign.toml``. ``latency_models`` names those that its steps are meant for; none: any."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    title: str = ""
    source: str = ""
    licence: str = ""
    collected: datetime.date | None = None
    kind: Literal["measured", "kernel-composed", "synthetic"] = "measured"
    engine: str = ""
    hardware: str = ""
    itl: Literal["per-token", "per-chunk", "unknown"] = "unknown"
    notes: str = ""
    latency_models: tuple[str, ...] = ()

    def is_for(self, latency_models: Sequence[str]) -> bool:
        """Whether steps are meant for all of these latency models: for any, unless the campaign names some.

        One that names some is not for none.
        """
        named = set(self.latency_models)
        return not named or (bool(latency_models) and set(latency_models) <= named)


def read_info(file: Path) -> tuple[CampaignInfo, list[Problem]]:
    """The content of a ``campaign.toml``, and what is wrong with it."""
    if not file.exists():
        problem = Problem(
            "warning",
            str(file),
            "is missing: source and licence of the data are unknown",
            "Add one",
        )
        return CampaignInfo(), [problem]
    try:
        return CampaignInfo(**read_toml(file)), []
    except UnreadableError as error:
        return CampaignInfo(), [error.problem]
    except pydantic.ValidationError as error:
        return CampaignInfo(), [
            Problem(
                "error",
                str(file),
                e["msg"],
                "Correct it",
                (),
                ".".join(map(str, e["loc"])),
                str(e["input"])[:60],
            )
            for e in error.errors()
        ]
