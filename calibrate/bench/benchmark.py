"""The whole benchmark: what is asked for becomes stages, and what they find a campaign."""

import dataclasses
import datetime
import json
import time
from pathlib import Path
from typing import Any

from calibrate.bench.collectives import measure_collectives
from calibrate.bench.device import Device, import_torch
from calibrate.bench.point import Cell
from calibrate.bench.record import KEYS, begin_campaign, open_record, rows_of, write_campaign_toml
from calibrate.bench.session import Findings, Limits, Tell, measure_stages
from calibrate.bench.sizes import full_sizes, small_sizes
from calibrate.bench.specs import check_gpu, machine, peaks, widened
from calibrate.bench.stages import COLLECTIVE_PARTS, Asked, kernel_stages, steps_stages
from calibrate.records.files import replace_text
from calibrate.records.reading.documents import read_toml
from sim.hardware import canonical_gpu, gpu_specs
from sim.units import BYTES_PER_GIB, S_PER_MIN

_USABLE = 0.9  # of the free memory: PyTorch and its libraries take some, and memory falls to pieces
_FEWEST = 2  # that have something to say to each other


@dataclasses.dataclass(frozen=True)
class Outcome:
    """``peaks`` is the GPU's block of a configuration; ``rows`` are those of each table, earlier ones too."""

    folder: Path
    machine: dict[str, Cell]
    peaks: dict[str, float]
    peaks_source: str
    measured: int
    rows: dict[str, int]
    notes: tuple[str, ...]


def run_benchmark(device: Device, asked: Asked, tell: Tell = lambda *_: None) -> Outcome:
    """Measure what is asked for and not there yet, and write the campaign.

    Raises CalibrateError if the GPU is another, the folder is another machine's, or a model cannot be built.
    """
    deadline_s = None if asked.minutes is None else time.monotonic() + S_PER_MIN * asked.minutes
    facts = machine(device)
    check_gpu(asked.gpu, str(facts["device"]))
    begin_campaign(asked.folder, facts)
    _write_info(asked, facts, {}, "", Findings())
    sizes = small_sizes() if asked.small else full_sizes()
    capacity = int(_USABLE * device.free_bytes())
    values, source = peaks(device, asked.gpu, float(facts["memory_gib"]), asked.dtype, sizes)
    memory_bytes = BYTES_PER_GIB * float(facts["memory_gib"])
    steps, notes = steps_stages(device, asked, sizes, memory_bytes)
    stages = [*kernel_stages(device, asked, sizes), *steps]
    findings = Findings()
    limits = Limits(capacity, deadline_s, asked.sampling)
    try:
        measure_stages(device, stages, asked.folder, limits, findings, tell)
        notes += _collectives(device, asked, findings)
    finally:
        if canonical_gpu(asked.gpu) not in gpu_specs():
            values = widened(values, asked.folder, asked.gpu)
        _write_info(asked, facts, values, source, findings)
    return Outcome(
        asked.folder,
        facts,
        values,
        source,
        findings.measured,
        rows_of(asked.folder, list(KEYS)),
        (*notes, *findings.notes()),
    )


def _collectives(device: Device, asked: Asked, findings: Findings) -> list[str]:
    """Measure collectives over GPUs, or, where they alone are asked for on a processor, over two processes."""
    tables = COLLECTIVE_PARTS.get(asked.part, ())
    if not tables:
        return []
    torch = import_torch()
    members = _members(device, asked, torch)
    if members < _FEWEST:
        have = members or "none"
        return [f"collectives were not measured: they take two GPUs, this machine has {have}"]
    records = [open_record(asked.folder, table) for table in tables]
    try:
        findings.measured += measure_collectives(records, members, asked.dtype, device.kind)
    except (RuntimeError, torch.multiprocessing.ProcessException) as error:
        return [f"collectives were not measured: {str(error).strip().splitlines()[-1][:160]}"]
    return []


def _members(device: Device, asked: Asked, torch: Any) -> int:
    if device.kind == "cuda":
        return int(torch.cuda.device_count())
    return 0 if asked.part == "all" else _FEWEST


def _write_info(
    asked: Asked, facts: dict[str, Cell], values: dict[str, float], source: str, findings: Findings
) -> None:
    """``campaign.toml``, and ``hardware_config.json`` with the peaks; disturbances of earlier runs stay noted."""
    file = asked.folder / "campaign.toml"
    earlier = read_toml(file) if file.exists() else {}
    disturbances = dict.fromkeys([*earlier.get("disturbances", []), *findings.disturbances()])
    content: dict[str, object] = {
        "title": f"PyTorch {facts['torch']} on {facts['device']}",
        "source": "measured by calibrate bench",
        "collected": earlier.get("collected", datetime.datetime.now(tz=datetime.UTC).date()),
        "kind": "measured",
        "engine": f"PyTorch {facts['torch']}",
        "hardware": facts["device"],
        "notes": "a plain PyTorch decoder and its kernels, not a serving engine; steps are timed from launch to end",
        "disturbances": list(disturbances),
        "machine": facts,
    }
    if values:
        content["peaks"] = {**values, "source": source}
        block = json.dumps({canonical_gpu(asked.gpu): values}, indent=4)
        replace_text(asked.folder / "hardware_config.json", block + "\n")
    write_campaign_toml(asked.folder, content)
