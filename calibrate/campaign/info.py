"""``campaign.toml``: where measurements come from, and how they were made."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.documents import read_toml


class CampaignInfo(pydantic.BaseModel):
    """The content of ``campaign.toml``. ``latency_models`` names those that its steps are meant for; none: any."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    title: str = Field(default="", description="What was measured, in a line.")
    source: str = Field(default="", description="Where it was measured or published.")
    licence: str = Field(default="", description="The licence of the data, such as Apache-2.0.")
    collected: datetime.date | None = Field(
        default=None, description="The day it was measured.", examples=["2026-08-01"]
    )
    kind: Literal["measured", "kernel-composed", "synthetic"] = Field(
        default="measured",
        description="measured, kernel-composed (steps made of measured kernels) or synthetic.",
    )
    engine: str = Field(default="", description="The engine and its version, such as vllm 0.24.0.")
    hardware: str = Field(default="", description="The GPU as its driver calls it.")
    itl: Literal["per-token", "per-chunk", "unknown"] = Field(
        default="unknown",
        description="How inter-token latency is defined: per-token, per-chunk or unknown.",
    )
    notes: str = Field(default="", description="What a reader must know.")
    dataset: str = Field(
        default="",
        description="Where the steps lie as Parquet files, if not in the folder steps/ beside: s3://… or a folder.",
        examples=["s3://bucket/steps"],
    )
    latency_models: tuple[str, ...] = Field(
        default=(),
        description="The latency models that the steps are meant for; without it, any.",
        examples=['["roofline-v4"]'],
    )

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
