"""The parameters of roofline-v2-interp: two of roofline-v2's, the time of a layer always counted."""

import dataclasses

from sim.models.roofline_v2.parameters import BANDWIDTH, PER_LAYER

PARAMETERS = (
    BANDWIDTH,
    dataclasses.replace(
        PER_LAYER, meaning="host time of a layer on one GPU", zero="none", is_tuned=True
    ),
)
