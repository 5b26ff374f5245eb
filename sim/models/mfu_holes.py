"""What a benchmark database lacks for the steps of a table, and what its look-ups take instead."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from sim.database.table import Heads, MfuTable
from sim.models.database_model import by_model, matrices
from sim.steps.batch import Floats, StepTable


@dataclasses.dataclass(frozen=True)
class Hole:
    """One thing that was not measured: for ``model``, ``wanted`` is computed with ``instead``."""

    model: str
    wanted: str
    instead: str

    def __str__(self) -> str:
        return f"{self.model}: not measured: {self.wanted}; taken instead: {self.instead}"


def find_holes(mfu_table: MfuTable, table: StepTable) -> tuple[Hole, ...]:
    """Shapes, attention configurations, tensor-parallel degrees and ranges that ``table`` needs and the database lacks.

    Ranges are those of whole steps: GEMM rows are new tokens, prompts and contexts the longest and shortest request.
    """
    found: list[Hole] = []
    for index, arch in enumerate(table.architectures):
        rows = table.take(table.arch_index == index)
        if len(rows):
            found += [Hole(arch.name, *hole) for hole in _of_model(mfu_table, rows, index)]
    return tuple(dict.fromkeys(found))


_Finding = tuple[str, str]


def _of_model(mfu_table: MfuTable, rows: StepTable, index: int) -> Iterator[_Finding]:
    arch = rows.architectures[index]
    heads = Heads.of(arch)
    config = mfu_table.attention_config(heads)
    if config != heads:
        yield f"attention {heads}", f"attention {config}"
    prompts = rows.requests.prefill.values
    yield from _range(
        f"prefill attention {config}: seq_len",
        prompts[0] + prompts[1],
        mfu_table.prefill[config].size,
    )
    new_tokens = rows.moments[1] + rows.moments[3]
    yield from _gemms(mfu_table, rows, index, np.concatenate([new_tokens, rows.moments[6]]))
    yield from _decodes(mfu_table, rows, config)


def _gemms(mfu_table: MfuTable, rows: StepTable, index: int, tokens: Floats) -> Iterator[_Finding]:
    for shape, _ in matrices(rows.architectures[index]):
        measured = mfu_table.gemm_shape(shape)
        if measured != shape:
            yield f"GEMM k {shape.k}, n {shape.n}", f"k {measured.k}, n {measured.n}"
        yield from _range(
            f"GEMM k {measured.k}, n {measured.n}: m",
            tokens[tokens > 0],
            mfu_table.gemm[measured].size,
        )


def _decodes(mfu_table: MfuTable, rows: StepTable, config: Heads) -> Iterator[_Finding]:
    runs = rows.requests.decode
    surfaces = mfu_table.decode[config]
    for _, tp, chosen in by_model(rows, runs.steps):
        nearest = mfu_table.decode_tp(config, tp, interpolate=True)
        if tp not in surfaces:
            plain = "tp 1" if 1 in surfaces else "nothing"
            yield (
                f"decode attention {config} at tp {tp}",
                f"{plain} in roofline-v2, tp {nearest} in roofline-v2-interp",
            )
        surface = surfaces[nearest]
        name = f"decode attention {config}-tp{nearest}"
        yield from _range(f"{name}: batch_size", rows.moments[6][runs.steps[chosen]], surface.batch)
        yield from _range(f"{name}: kv_len", runs.values[0][chosen], surface.context)
        if surface.missing:
            yield (
                f"{name}: {surface.missing} of its grid points",
                "the nearest (0 in roofline-v2-interp)",
            )


def _range(what: str, wanted: Floats, measured: Floats) -> Iterator[_Finding]:
    if len(wanted) and wanted.max() > measured.max():
        yield f"{what} up to {wanted.max():g}", f"{measured.max():g}"
    if len(wanted) and wanted.min() < measured.min():
        yield f"{what} down to {wanted.min():g}", f"{measured.min():g}"
