"""The configuration a fit starts from: the file's block, or a new GPU's peaks with the guide's values."""

from collections.abc import Mapping
from pathlib import Path

from sim.errors import HardwareError, nearest
from sim.hardware import (
    KEYS,
    Hardware,
    canonical_gpu,
    check_gpu_name,
    find_gpu,
    gpu_specs,
    load_hardware,
    read_block,
    read_config,
)

GUIDE_START = {"BwEffConstant": 0.72, "mfuPrefill": 0.65, "mfuDecode": 0.12}
"""The guide's H100 values, from which a GPU without any starts; models other than roofline-v1 need none."""

_GUIDED = ("roofline-v1", "auto")


def starting_hardware(
    config: Path, gpu: str, spec: Mapping[str, float] | None = None, model: str = "roofline-v1"
) -> tuple[Hardware, list[str]]:
    """The hardware to start from, and notes on what did not come from the file.

    ``model`` is the latency model to fit, ``spec`` (keys of the configuration) overrides and completes the file's
    block. Raises HardwareError for a bad file, a bad name, or a GPU of which neither the file nor the registry nor
    ``spec`` knows the peaks.
    """
    check_gpu_name(gpu)
    blocks = read_config(config)
    given = _read_spec(spec or {}, gpu)
    name, notes = find_gpu(gpu, blocks), []
    if name is not None:
        hardware = load_hardware(config, gpu).with_values(given)
    else:
        hardware = _new_gpu(config, gpu, given, list(blocks))
        notes.append(f"{config} has no block for {hardware.gpu}: started from {hardware.source}; a block is added.")
    needed = GUIDE_START if model in _GUIDED else {}
    missing = {key: value for key, value in needed.items() if key not in hardware.values}
    if missing and name is not None:
        notes.append(f"{hardware.gpu} lacks {', '.join(missing)}: started from the guide's values for H100.")
    return hardware.with_values(missing), notes


def _read_spec(spec: Mapping[str, float], gpu: str) -> dict[str, float]:
    known = {key.lower() for key in KEYS}
    for key in spec:
        if key.lower() not in known:
            raise HardwareError(
                f"--spec {key}: is not a key of a configuration (known: {', '.join(KEYS)}){nearest(key, KEYS)}"
            )
    return read_block(spec, gpu, "--spec")


def _new_gpu(config: Path, gpu: str, given: Mapping[str, float], present: list[str]) -> Hardware:
    name = canonical_gpu(gpu)
    spec = gpu_specs().get(name)
    if spec is None and not {"TFlopsPeak", "BwPeakTBs"} <= set(given):
        known = [*present, *gpu_specs()]
        raise HardwareError(
            f"GPU {gpu!r} is neither in {config} nor in the registry ({', '.join(gpu_specs())}){nearest(gpu, known)} "
            "For a new GPU give --spec TFlopsPeak=… --spec BwPeakTBs=… (dense peaks)"
        )
    values = {**(spec.values if spec else {}), **given}
    return Hardware(name, values, "the registry's peaks" if spec else "--spec")
