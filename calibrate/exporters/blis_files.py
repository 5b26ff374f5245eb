"""The three hardware files that BLIS has read, up to August 2026: 17 keys with efficiencies, 6 with overheads, 2 peaks.

``blis-v1`` is the calibration guide's ``hardware_config.json``; ``blis-v2`` and ``blis-minimal`` go with a benchmark
database (``--bench-data-path``), which holds the efficiencies. All three are read back by
:func:`sim.configuration.load_hardware`.
"""

from collections.abc import Mapping

from calibrate.exporters.exported import RETIRED_BLIS, Exported, Source
from calibrate.outcome.result_json import dump_json
from sim.models.roofline_v1.model import RooflineV1

_PEAKS = ("TFlopsPeak", "BwPeakTBs")
_V1_KEYS = (
    *_PEAKS,
    "BwEffConstant",
    "TOverheadMicros",
    "perLayerOverhead",
    "mfuPrefill",
    "mfuDecode",
    "allReduceLatency",
    "tpScalingExponent",
    "decodeTpScalingExponent",
    "mfuPrefillMultiplier",
    "mfuDecodeMultiplier",
    "prefillBwFactor",
    "decodeBwFactor",
    "vectorPeakFraction",
    "prefillOverheadMicros",
    "mixedPrefillOverheadMicros",
)
_OVERHEADS = (
    "TOverheadMicros",
    "prefillOverheadMicros",
    "mixedPrefillOverheadMicros",
    "allReduceLatency",
)


def write_v1(source: Source) -> Exported:
    """All 17 keys, camelCase, defaults filled in. Raises HardwareError if a required one is missing."""
    values = RooflineV1().parameters(source.hardware)
    chosen = {key: values[key] for key in _V1_KEYS}
    return Exported(_block(source, chosen))


def write_v2(source: Source) -> Exported:
    """The peaks and four overheads, PascalCase; an overhead that the configuration lacks is 0, as for roofline-v2."""
    values = _peaks(source)
    for key in _OVERHEADS:
        pascal_case = key[0].upper() + key[1:]
        values[pascal_case] = source.hardware.values.get(key, 0.0)
    note = "The overheads are the configuration's as they are; those fitted with roofline-v2 belong with its database."
    return Exported(_block(source, values), (note,))


def write_minimal(source: Source) -> Exported:
    """The two peaks."""
    return Exported(_block(source, _peaks(source)))


def _peaks(source: Source) -> dict[str, float]:
    return {key: source.hardware.positive(key) for key in _PEAKS}


def _block(source: Source, values: Mapping[str, float]) -> str:
    return dump_json({source.gpu: {"_comment": f"For {RETIRED_BLIS}.", **values}})
