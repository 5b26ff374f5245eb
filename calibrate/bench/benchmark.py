"""The whole benchmark: what is asked for becomes stages, and what they find a campaign."""

import dataclasses
import datetime
import json
import time
from collections.abc import Sequence
from pathlib import Path

from calibrate.bench.allreduce import measure_allreduce
from calibrate.bench.attention import decode_points, prefill_points
from calibrate.bench.device import Device, import_torch
from calibrate.bench.gemm import gemm_points
from calibrate.bench.memory import memory_points
from calibrate.bench.planned import read_points
from calibrate.bench.point import Cell, Stage
from calibrate.bench.record import KEYS, begin_campaign, open_record, rows_of, write_campaign_toml
from calibrate.bench.session import Findings, Limits, Tell, measure_stages
from calibrate.bench.sizes import Sizes, full_sizes, small_sizes
from calibrate.bench.specs import check_gpu, machine, peaks, widened
from calibrate.bench.steps import Shelf, fit_models, grid, step_points
from calibrate.records.files import replace_text
from calibrate.records.reading.documents import read_toml
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.hardware import canonical_gpu, gpu_specs
from sim.units import BYTES_PER_GIB, S_PER_MIN

PARTS = ("specs", "memory", "gemm", "attention", "allreduce", "steps", "all")
_SHARES = {"memory": 1.0, "gemm": 5.0, "attention": 2.0, "steps": 12.0}
_USABLE = 0.9  # of the free memory: PyTorch and its libraries take some, and memory falls to pieces


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to measure, and into which campaign folder; ``minutes`` None: until all is done."""

    part: str
    gpu: str
    folder: Path
    dtype: str
    models: Sequence[str] = ()
    points: Path | None = None
    minutes: float | None = None
    small: bool = False
    executions: Sequence[str] = ("graph", "eager")


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
    stages, notes = _stages(device, asked, sizes, BYTES_PER_GIB * float(facts["memory_gib"]))
    findings = Findings()
    try:
        measure_stages(device, stages, asked.folder, Limits(capacity, deadline_s), findings, tell)
        notes += _allreduce(device, asked, findings)
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


def _stages(
    device: Device, asked: Asked, sizes: Sizes, memory_bytes: float
) -> tuple[list[Stage], list[str]]:
    """The stages of the parts that are asked for, in the order of measuring, and notes."""
    models = [load_architecture(name) for name in asked.models] or list(sizes.models)
    stages: list[Stage] = []
    notes: list[str] = []
    if asked.part in ("memory", "all"):
        stages.append(
            Stage(
                "memory", memory_points(device, sizes.buffer_mib), sizes.kernel_s, _SHARES["memory"]
            )
        )
    if asked.part in ("gemm", "all"):
        points = gemm_points(
            device, models, sizes.gemm_tps, sizes.gemm_tokens, sizes.gemm_squares, asked.dtype
        )
        stages.append(Stage("gemm", points, sizes.kernel_s, _SHARES["gemm"]))
    if asked.part in ("attention", "all"):
        stages += _attention_stages(device, sizes, asked.dtype)
    if asked.part in ("steps", "all"):
        stage, notes = _steps_stage(device, asked, sizes, models, memory_bytes)
        stages.append(stage)
    return stages, notes


def _attention_stages(device: Device, sizes: Sizes, dtype: str) -> list[Stage]:
    prefill = prefill_points(device, sizes.attention_shapes, sizes.attention_prefill, dtype)
    decode = decode_points(device, sizes.attention_shapes, sizes.attention_decode, dtype)
    return [
        Stage("attention_prefill", prefill, sizes.kernel_s, _SHARES["attention"]),
        Stage("attention_decode", decode, sizes.kernel_s, _SHARES["attention"]),
    ]


def _steps_stage(
    device: Device, asked: Asked, sizes: Sizes, models: Sequence[Architecture], memory_bytes: float
) -> tuple[Stage, list[str]]:
    notes: list[str] = []
    if asked.points is not None:
        planned = read_points(asked.points, asked.dtype)
        models = [load_architecture(name) for name in planned.sizes]
        notes = list(planned.left_out)
        steps = list(planned.sizes.values())
    else:
        steps = [grid(sizes.prompts, sizes.decodes)] * len(models)
    measured = fit_models(models, memory_bytes, asked.dtype, asked.folder)
    for arch, model in zip(models, measured, strict=True):
        if model.arch.num_layers < arch.num_layers:
            notes.append(
                f"{arch.name} is measured with {model.arch.num_layers} of its {arch.num_layers} layers"
            )
    shelf = Shelf(device, asked.dtype)
    executions = asked.executions if device.kind == "cuda" else ("eager",)
    points = step_points(shelf, list(zip(measured, steps, strict=True)), executions)
    return Stage("steps", points, sizes.step_s, _SHARES["steps"]), notes


def _allreduce(device: Device, asked: Asked, findings: Findings) -> list[str]:
    if asked.part not in ("allreduce", "all"):
        return []
    torch = import_torch()
    gpus = torch.cuda.device_count() if device.kind == "cuda" else 0
    if gpus < 2:
        return [f"allreduce was not measured: it takes two GPUs, this machine has {gpus or 'none'}"]
    try:
        findings.measured += measure_allreduce(
            open_record(asked.folder, "allreduce"), gpus, asked.dtype
        )
    except (RuntimeError, torch.multiprocessing.ProcessException) as error:
        return [f"allreduce was not measured: {str(error).strip().splitlines()[-1][:160]}"]
    return []


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
