"""Data sets of made-up steps, for tests."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CAMPAIGN = 'title = "steps of a fleet"\nkind = "synthetic"\n'


def write_dataset(
    folder: Path, steps: pd.DataFrame, files: int = 4, nodes: int = 2, group_rows: int = 1 << 17
) -> Path:
    """Write steps as the data set of a campaign's folder, in so many files of so many nodes; return the folder."""
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text(CAMPAIGN)
    for number, rows in enumerate(np.array_split(np.arange(len(steps)), files)):
        place = folder / "steps" / f"node={number % nodes}"
        place.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pandas(steps.iloc[rows], preserve_index=False)
        pq.write_table(table, place / f"part-{number:05}.parquet", row_group_size=group_rows)
    return folder
