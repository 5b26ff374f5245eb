"""A verdict on a fit, and statements with a light each, as ``result.json`` holds them."""

import dataclasses
from typing import Literal

Light = Literal["good", "fair", "poor", "unknown"]


@dataclasses.dataclass(frozen=True)
class Statement:
    """What a fit is good for: ``name`` says on what, ``light`` how good, ``text`` with which figures."""

    name: str
    light: Light
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``level`` good, fair or poor; a sentence for everybody and the reasons behind it."""

    level: Literal["good", "fair", "poor"]
    sentence: str
    reasons: tuple[str, ...]
