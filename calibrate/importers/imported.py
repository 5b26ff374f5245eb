"""What every importer returns."""

import dataclasses
from collections.abc import Mapping

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Imported:
    """Tables by name, the content of ``campaign.toml``, and in words what was left out and what to be wary of."""

    tables: Mapping[str, pd.DataFrame]
    info: Mapping[str, object]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
