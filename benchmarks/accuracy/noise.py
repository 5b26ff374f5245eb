"""How far one run of a step is from the other runs of the same step: no model can be expected to come nearer."""

import dataclasses

import numpy as np

from calibrate.campaign.campaign import Campaign
from calibrate.campaign.quality import step_points

_FEWEST = 3


@dataclasses.dataclass(frozen=True)
class Noise:
    """Mean and median of |run / mean of the point's other runs − 1| over the ``runs`` of ``points`` of a phase."""

    data: str
    phase: str
    points: int
    runs: int
    mean: float
    median: float


def replicate_noise(name: str, campaign: Campaign) -> list[Noise]:
    """The noise of steps measured three times or more, all and by phase; nothing where there are none.

    Composed steps are no measurements. Rows that repeat a point's time to the letter are copies and count once.
    """
    if campaign.info.kind != "measured" or not len(campaign.steps):
        return []
    table = step_points(campaign.table).assign(
        us=campaign.steps["latency_us"], phase=campaign.table.phases
    )
    table = table.drop_duplicates()
    runs = table.groupby(list(table.columns.drop("us")), sort=False)["us"]
    count = runs.transform("size")
    total_us = runs.transform("sum")
    table = table.assign(point=runs.ngroup(), others_us=(total_us - table["us"]) / (count - 1))[
        count >= _FEWEST
    ]
    table = table.assign(off=np.abs(table["us"] / table["others_us"] - 1.0))
    slices = {"all": table, **{str(phase): rows for phase, rows in table.groupby("phase")}}
    return [
        Noise(
            name,
            phase,
            rows["point"].nunique(),
            len(rows),
            float(rows["off"].mean()),
            float(rows["off"].median()),
        )
        for phase, rows in slices.items()
        if len(rows)
    ]
