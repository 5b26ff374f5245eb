"""The configuration a fit starts from: the file's block, or a new GPU's peaks with the guide's values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibrate.parameters.guide import GUIDE, guide_config
from sim.configuration import configuration_keys, read_block, read_config
from sim.errors import HardwareError, nearest
from sim.hardware import Hardware, canonical_gpu, check_gpu_name, find_gpu, gpu_specs, nearest_gpu
from sim.models.latency_model import LatencyModel
from sim.models.registry import LATENCY_MODELS


def starting_hardware(
    config: Path, gpu: str, spec: Mapping[str, float] | None = None, model: str = "roofline-v1"
) -> tuple[Hardware, list[str]]:
    """The hardware to start from, and notes on what did not come from the file.

    ``model`` is the latency model to fit (``auto``: any), ``spec`` (keys of the configuration) overrides and completes
    the file's block. Raises HardwareError for a bad file, a bad name, or a GPU of which neither the file nor the
    registry nor ``spec`` knows the peaks.
    """
    check_gpu_name(gpu)
    return _starting(read_config(config), str(config), gpu, spec or {}, model)


def guide_hardware(
    gpu: str, spec: Mapping[str, float] | None = None, model: str = "roofline-v1"
) -> tuple[Hardware, list[str]]:
    """As :func:`starting_hardware`, from the guide's blocks, which come with the package."""
    check_gpu_name(gpu)
    return _starting(guide_config(model), GUIDE, gpu, spec or {}, model)


def _starting(
    blocks: Mapping[str, Any], where: str, gpu: str, spec: Mapping[str, float], model: str
) -> tuple[Hardware, list[str]]:
    given = read_spec(spec, gpu)
    name, notes = find_gpu(gpu, blocks), []
    if name is not None:
        hardware = Hardware(name, read_block(blocks[name], name, where), where).with_values(given)
    else:
        hardware = _new_gpu(where, gpu, given, list(blocks))
        notes.append(
            f"{where} has no block for {hardware.gpu}: started from {hardware.source}; a block is added."
        )
    tried = [known for name, known in LATENCY_MODELS.items() if model in (name, "auto")]
    needed = {key: value for known in tried for key, value in guided_start(known).items()}
    missing = {key: value for key, value in needed.items() if key not in hardware.values}
    if missing and name is not None:
        notes.append(
            f"{hardware.gpu} lacks {', '.join(missing)}: started from the guide's values for H100."
        )
    return hardware.with_values(missing), notes


def guided_start(model: LatencyModel | type[LatencyModel]) -> dict[str, float]:
    """The guide's H100 values of the parameters that a latency model cannot do without."""
    return {p.name: p.start for p in model.parameter_set if p.start is not None}


def read_spec(spec: Mapping[str, float], gpu: str) -> dict[str, float]:
    """The keys of a configuration that ``--spec`` gives. Raises HardwareError for another key, with the nearest."""
    keys = configuration_keys()
    known = {key.lower() for key in keys}
    for key in spec:
        if key.lower() not in known:
            raise HardwareError(
                f"--spec {key}: is not a key of a configuration (known: {', '.join(keys)}){nearest(key, keys)}"
            )
    return read_block(spec, gpu, "--spec")


def _new_gpu(where: str, gpu: str, given: Mapping[str, float], present: list[str]) -> Hardware:
    name = canonical_gpu(gpu)
    spec = gpu_specs().get(name)
    if spec is None and not {"TFlopsPeak", "BwPeakTBs"} <= set(given):
        known = [*present, *gpu_specs()]
        raise HardwareError(
            f"GPU {gpu!r} is neither in {where} nor in the registry (`calibrate show gpus`). For a new GPU "
            f"give --spec TFlopsPeak=… --spec BwPeakTBs=… (dense peaks){nearest_gpu(gpu, known)}"
        )
    values = {**(spec.values if spec else {}), **given}
    return Hardware(name, values, "the registry's peaks" if spec else "--spec")
