"""What every importer returns."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from calibrate.records.errors import NO_TEXT, ImportFormatError


@dataclasses.dataclass(frozen=True)
class Imported:
    """Tables by name, the content of ``campaign.toml``, and in words what was left out and what to be wary of."""

    tables: Mapping[str, pd.DataFrame]
    info: Mapping[str, object]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_text(imported: Imported, source: str) -> None:
    """Raise ImportFormatError where a table has text with characters that a campaign's tables cannot hold."""
    for frame in imported.tables.values():
        for name, cells in frame.items():
            texts = (cell for cell in pd.unique(cells.dropna()) if isinstance(cell, str))
            odd = next((text for text in texts if NO_TEXT.search(text)), None)
            if odd is not None:
                raise ImportFormatError(
                    f"{source}: {name} = {ascii(odd)[:60]}: holds control characters. Remove them"
                )
