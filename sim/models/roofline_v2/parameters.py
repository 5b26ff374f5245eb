"""The parameters of roofline-v2: overheads of roofline-v1, which a time for each layer can replace.

All are 0 where a configuration leaves them out. Those of roofline-v2-interp are among them.
"""

import dataclasses

from sim.models.parameter import Parameter
from sim.models.roofline_v1.parameters import PARAMETERS as ROOFLINE_V1

_V1 = {parameter.name: dataclasses.replace(parameter, default=0.0) for parameter in ROOFLINE_V1}

BANDWIDTH = Parameter(
    name="bwEfficiencyFactor",
    unit="–",
    lower=0.001,
    upper=1.0,
    guide=(0.6, 0.8),
    stage="bandwidth",
    meaning="share of the peak memory bandwidth that is reached, in the database models",
    seen_in="memory-bound steps: decode at small batch",
    default=0.0,
    lacking="bound by memory",
    zero="off",
)

PER_LAYER = dataclasses.replace(
    _V1["perLayerOverhead"],
    stage="bandwidth",
    seen_in="short steps",
    meaning="host time of a layer, in place of the three overheads",
    zero="off",
)

PARAMETERS = (
    BANDWIDTH,
    dataclasses.replace(_V1["TOverheadMicros"], replaced_by=PER_LAYER.name, is_tuned=True),
    dataclasses.replace(_V1["prefillOverheadMicros"], replaced_by=PER_LAYER.name, is_tuned=True),
    _V1["allReduceLatency"],
    dataclasses.replace(_V1["mixedPrefillOverheadMicros"], replaced_by=PER_LAYER.name),
    PER_LAYER,
)
