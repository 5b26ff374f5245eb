"""Whether the peaks of a configuration can be a GPU's: every check against physics stands or falls with them."""

from calibrate.campaign.thresholds import LEAST_TFLOPS, MOST_TB_PER_S, MOST_TFLOPS, SPARSE
from calibrate.records.errors import Problem
from sim.hardware import Hardware, canonical_gpu, gpu_specs
from sim.units import GIGA, KILO, MEGA, TERA

_SMALLER_UNITS = ((KILO, "G"), (MEGA, "M"), (GIGA, "k"), (TERA, ""))
"""How many of a unit make one of tera, and its prefix."""


def check_peaks(hardware: Hardware) -> list[Problem]:
    """Warnings for peaks in another unit, or far above the vendor's dense one: no step would seem too fast."""
    return [*_check_bandwidth(hardware), *_check_compute(hardware)]


def unchecked(gpu: str, where: str) -> Problem:
    """A warning that no row was held against physics, for want of the peaks of a GPU."""
    message = (
        f"{gpu}'s peaks are neither here nor in the registry: no row was checked against physics (wrong units, "
        "weight types or GPUs would not show)"
    )
    fix = f"Give --gpu {gpu} --spec TFlopsPeak=… --spec BwPeakTBs=… (the vendor's dense peaks)"
    return Problem("warning", where, message, fix)


def _check_bandwidth(hardware: Hardware) -> list[Problem]:
    peak = hardware.values.get("BwPeakTBs", 0.0)
    if peak <= MOST_TB_PER_S:
        return []
    message = f"no GPU's memory moves {peak:g} TB/s"
    return [_about(hardware, "BwPeakTBs", message, _in_tera(peak, MOST_TB_PER_S, "B/s"))]


def _check_compute(hardware: Hardware) -> list[Problem]:
    peak = hardware.values.get("TFlopsPeak", LEAST_TFLOPS)
    if peak > MOST_TFLOPS:
        message = f"no GPU computes {peak:g} TFLOP/s"
        return [_about(hardware, "TFlopsPeak", message, _in_tera(peak, MOST_TFLOPS, "FLOP/s"))]
    if peak < LEAST_TFLOPS:
        message = f"no GPU that serves models computes only {peak:g} TFLOP/s"
        fix = "Probably PFLOP/s: multiply by 1000; of a processor it may be right"
        return [_about(hardware, "TFlopsPeak", message, fix)]
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    if spec is None or peak < SPARSE * spec.values["TFlopsPeak"]:
        return []
    dense = f"{hardware.gpu}'s dense 16-bit peak is {spec.values['TFlopsPeak']:g}"
    message = f"{dense}: this is the figure with sparsity, or for 8 bits"
    return [_about(hardware, "TFlopsPeak", message, "Give the dense peak")]


def _in_tera(peak: float, most: float, unit: str) -> str:
    """The smaller unit that the figure probably is in, and what makes tera of it."""
    per_tera, prefix = next((one for one in _SMALLER_UNITS if peak / one[0] <= most), (0.0, ""))
    return (
        f"Probably {prefix}{unit}: divide by {per_tera:.0f}" if per_tera else f"Give it in T{unit}"
    )


def _about(hardware: Hardware, key: str, message: str, fix: str) -> Problem:
    value = f"{hardware.values[key]:g}"
    return Problem("warning", hardware.source, message, fix, column=key, value=value)
