"""The hardware of a command: a file's block, or the guide's where there is no file yet, which is said."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from calibrate.cli.console import config_file, stderr

if TYPE_CHECKING:
    from sim.hardware import Hardware


def read_hardware(given: Path | None, gpu: str, latency_model: str) -> "Hardware":
    """The block of the given file, or of the model's own; the guide's where that is not there, as standard error says.

    A folder is that of a profile. Raises HardwareError if the given file is missing, or a file has no such GPU.
    """
    from calibrate.outcome.profiles import find_profile
    from sim.configuration import load_hardware

    if given is not None and given.is_dir():
        given = find_profile(given).configuration
    config = config_file(given, latency_model)
    if given is not None or config.exists():
        hardware = load_hardware(config, gpu)
        say_transferred(config, hardware.gpu)
        return hardware
    hardware, notes = first_hardware(config, gpu, {}, latency_model)
    for note in notes:
        stderr().print(note.replace("; a block is added", ""), soft_wrap=True, markup=False)
    return hardware


def say_transferred(config: Path, gpu: str) -> None:
    """Say how many of a GPU's values are other GPUs', if some are."""
    from sim.configuration import TRANSFERRED, read_config

    said = read_config(config)[gpu].get(TRANSFERRED)
    intervals = said.get("intervals") if isinstance(said, Mapping) else None
    if isinstance(said, Mapping) and isinstance(intervals, Mapping) and intervals:
        count = f"{len(intervals)} value{'s' if len(intervals) > 1 else ''}"
        text = f"{gpu}: {count} {said.get('what', TRANSFERRED)}"
        stderr().print(text, soft_wrap=True, markup=False)


def engine_hardware(
    hardware: "Hardware", engine: str | None, models: "Collection[str]" = ()
) -> "Hardware":
    """The GPU with the terms of the engine that was named: the configuration's, else what is known of its kind.

    Shares of peaks that its servers showed of others than ``models`` are left out, as standard error says. Raises
    WorkloadError for an engine that is not known.
    """
    from sim.serving.engine_kinds import named_kind, others_shares

    say_without_engine(hardware, engine)
    kind = named_kind(engine)
    others = others_shares(engine or "", hardware, models)
    if others:
        say_others(hardware, str(hardware.engine_known(engine or "")), others, models)
    return kind.on(engine, hardware, models)


def say_others(
    hardware: "Hardware", engine: str, names: "Collection[str]", models: "Collection[str]"
) -> None:
    """Say which terms of an engine are those of the models that it served, and so left out."""
    served = hardware.served[engine]
    unseen = sorted({*models} - {*served})
    stderr().print(
        f"{engine} on {hardware.gpu} was seen to serve {', '.join(served)}: what it showed of their kernels "
        f"({', '.join(names)}) is left out for {', '.join(unseen)}",
        soft_wrap=True,
        markup=False,
    )


def first_hardware(
    config: Path, gpu: str, spec: Mapping[str, float], latency_model: str
) -> "tuple[Hardware, list[str]]":
    """Where to start, and notes on what did not come from the file: all of it where there is no file yet."""
    from calibrate.parameters.guide import GUIDE
    from calibrate.parameters.start import guide_hardware, starting_hardware

    if config.exists():
        return starting_hardware(config, gpu, spec, latency_model)
    hardware, notes = guide_hardware(gpu, spec, latency_model)
    missing = f"{config} is not there: {GUIDE} is used; `calibrate fit` makes the file."
    return hardware, [missing, *notes]


def say_without_engine(hardware: "Hardware", engine: str | None) -> None:
    """Say that no engine's terms are in the times though the configuration holds some, where none is named."""
    without = [
        name for name, terms in hardware.engines.items() if terms.items() - hardware.values.items()
    ]
    if engine is None and without and len(without) == len(hardware.engines):
        stderr().print(
            f"no --engine: times are those of steps alone; known of {hardware.gpu}: {', '.join(without)}",
            soft_wrap=True,
            markup=False,
        )


def engines_from(source: str, config: Path, gpu: str) -> "Mapping[str, Mapping[str, float]]":
    """The terms of engines in the block of another GPU of ``config``, or in that of the GPU ``gpu`` of another file.

    Of a file that has no such GPU, those of its only one. Raises HardwareError where there is no such block, and
    CalibrateError where it holds no engine.
    """
    from calibrate.records.errors import CalibrateError
    from sim.configuration import load_hardware, read_config
    from sim.hardware import find_gpu

    if source.endswith(".json"):
        blocks = read_config(source)
        lender = load_hardware(source, find_gpu(gpu, blocks))
    else:
        lender = load_hardware(config, source)
    if not lender.engines:
        raise CalibrateError(
            f"--engine-from {source}: the block of {lender.gpu} in {lender.source} holds no engines: fit it to "
            "serving results first"
        )
    return lender.engines
