"""What is asked for, as stages: the points of each table in the order of measuring."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from calibrate.bench.attention import decode_points, prefill_points
from calibrate.bench.device import Device
from calibrate.bench.gemm import gemm_points
from calibrate.bench.memory import memory_points
from calibrate.bench.mla import mla_decode_points, mla_prefill_points, mla_shapes
from calibrate.bench.moe import moe_points, moe_shapes
from calibrate.bench.planned import read_points
from calibrate.bench.point import Point, Stage
from calibrate.bench.sizes import Sizes
from calibrate.bench.steps import Measured, Shelf, Size, fit_models, grid, step_points
from calibrate.bench.timing import NVBENCH, Sampling
from calibrate.records.schema import COLLECTIVES
from sim.architecture import Architecture
from sim.architecture_files import load_architecture

_SHARES = {"memory": 1.0, "gemm": 5.0, "attention": 2.0, "moe": 4.0, "mla": 2.0, "steps": 12.0}


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
    sampling: Sampling = NVBENCH

    def architectures(self, usual: Sequence[Architecture]) -> list[Architecture]:
        """The models that were named, else the usual ones."""
        return [load_architecture(name) for name in self.models] or list(usual)


def kernel_stages(device: Device, asked: Asked, sizes: Sizes) -> list[Stage]:
    """The stages of kernels that are asked for."""
    parts = KERNEL_PARTS if asked.part == "all" else {asked.part} & KERNEL_PARTS.keys()
    return [
        Stage(table, points, sizes.kernel_s, _SHARES[part])
        for part in KERNEL_PARTS
        if part in parts
        for table, points in KERNEL_PARTS[part](device, asked, sizes).items()
    ]


def _memory(device: Device, _: Asked, sizes: Sizes) -> dict[str, list[Point]]:
    return {"memory": memory_points(device, sizes.buffer_mib)}


def _gemm(device: Device, asked: Asked, sizes: Sizes) -> dict[str, list[Point]]:
    models = asked.architectures(sizes.models)
    grids = (sizes.gemm_tps, sizes.gemm_tokens, sizes.gemm_squares)
    return {"gemm": gemm_points(device, models, *grids, asked.dtype)}


def _attention(device: Device, asked: Asked, sizes: Sizes) -> dict[str, list[Point]]:
    shapes = sizes.attention_shapes
    return {
        "attention_prefill": prefill_points(device, shapes, sizes.attention_prefill, asked.dtype),
        "attention_decode": decode_points(device, shapes, sizes.attention_decode, asked.dtype),
    }


def _moe(device: Device, asked: Asked, sizes: Sizes) -> dict[str, list[Point]]:
    models = asked.architectures(sizes.moe_models)
    shapes = [shape for arch in models for shape in moe_shapes(arch, sizes.gemm_tps)]
    return {"moe": moe_points(device, shapes, sizes.moe_tokens, asked.dtype)}


def _mla(device: Device, asked: Asked, sizes: Sizes) -> dict[str, list[Point]]:
    models = asked.architectures(sizes.mla_models)
    shapes = [shape for arch in models for shape in mla_shapes(arch, sizes.gemm_tps)]
    return {
        "mla_prefill": mla_prefill_points(device, shapes, sizes.attention_prefill, asked.dtype),
        "mla_decode": mla_decode_points(device, shapes, sizes.attention_decode, asked.dtype),
    }


KERNEL_PARTS: dict[str, Callable[[Device, Asked, Sizes], dict[str, list[Point]]]] = {
    "memory": _memory,
    "gemm": _gemm,
    "attention": _attention,
    "moe": _moe,
    "mla": _mla,
}
"""The points of each table of a part."""

COLLECTIVE_PARTS = {"allreduce": COLLECTIVES[:1], "collectives": COLLECTIVES, "all": COLLECTIVES}
"""The tables of collectives of a part."""

PARTS = ("specs", *KERNEL_PARTS, "allreduce", "collectives", "steps", "all")


def steps_stages(
    device: Device, asked: Asked, sizes: Sizes, memory_bytes: float
) -> tuple[list[Stage], list[str]]:
    """The stage of steps where it is asked for, and notes of what it measures otherwise than asked."""
    if asked.part not in ("steps", "all"):
        return [], []
    models, steps, notes = _models_and_steps(asked, sizes)
    measured = fit_models(models, memory_bytes, asked.dtype, asked.folder)
    notes += _cut(models, measured)
    shelf = Shelf(device, asked.dtype)
    executions = asked.executions if device.kind == "cuda" else ("eager",)
    points = step_points(shelf, list(zip(measured, steps, strict=True)), executions)
    return [Stage("steps", points, sizes.step_s, _SHARES["steps"])], notes


def _models_and_steps(
    asked: Asked, sizes: Sizes
) -> tuple[list[Architecture], list[list[Size]], list[str]]:
    if asked.points is None:
        models = asked.architectures(sizes.models)
        return models, [grid(sizes.prompts, sizes.decodes)] * len(models), []
    planned = read_points(asked.points, asked.dtype)
    models = [load_architecture(name) for name in planned.sizes]
    return models, list(planned.sizes.values()), list(planned.left_out)


def _cut(models: Sequence[Architecture], measured: Sequence[Measured]) -> list[str]:
    return [
        f"{arch.name} is measured with {model.arch.num_layers} of its {arch.num_layers} layers"
        for arch, model in zip(models, measured, strict=True)
        if model.arch.num_layers < arch.num_layers
    ]
