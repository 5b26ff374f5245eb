"""All-reduce, all-gather and all-to-all by message size: NCCL over this machine's GPUs, or gloo over processes.

Sizes are nccl-tests': ``bytes`` is the whole buffer of a GPU, what it has after an all-gather, what it sends and keeps
in an all-to-all. Every rank runs the same number of times, so samples do not depend on what they show.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calibrate.bench.device import Run, import_torch, open_device, torch_dtype
from calibrate.bench.point import Cell
from calibrate.bench.record import Record, measured_cells
from calibrate.bench.timing import summary
from sim.units import DTYPE_BYTES

MESSAGE_BYTES = tuple(2**k for k in range(12, 29, 2))
DEGREES = 2, 4, 8
_WARM_UP, _SAMPLES, _BATCH = 3, 30, 6  # 39 sums over 8 GPUs stay within the range of bf16
_SMALL = 1e-3

Message = tuple[str, int]
"""A table of :data:`COLLECTIVES` and the bytes of a GPU's buffer."""


@dataclasses.dataclass(frozen=True)
class Group:
    """``world`` processes that meet in the file ``meeting``."""

    world: int
    meeting: str
    messages: tuple[Message, ...]
    dtype: str
    kind: str

    @property
    def backend(self) -> str:
        """PyTorch's name of the library."""
        return "nccl" if self.kind == "cuda" else "gloo"


def measure_collectives(
    records: Sequence[Record],
    most: int,
    dtype: str,
    kind: str,
    sizes: Sequence[int] = MESSAGE_BYTES,
) -> int:
    """Measure each table at every degree up to ``most``, but for what it holds; the number of rows added.

    Raises RuntimeError if a process fails.
    """
    by_table = {record.table: record for record in records}
    added = 0
    for tp in (degree for degree in DEGREES if degree <= most):
        wanted = [
            (record.table, size)
            for record in records
            for size in sizes
            if not record.holds({"tp": tp, "bytes": size, "dtype": dtype})
        ]
        for table, row in collective_rows(tp, tuple(wanted), dtype, kind) if wanted else []:
            by_table[table].add(row)
            added += 1
    return added


def collective_rows(
    world: int, messages: tuple[Message, ...], dtype: str, kind: str
) -> list[tuple[str, dict[str, Cell]]]:
    """Each table and row as the first of ``world`` processes measured it. Raises RuntimeError if one of them fails."""
    torch = import_torch()
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        group = Group(world, str(Path(folder) / "meeting"), messages, dtype, kind)
        answers = context.SimpleQueue()
        torch.multiprocessing.spawn(_work, (group, answers), nprocs=world)
        rows: list[tuple[str, dict[str, Cell]]] = answers.get()
    return rows


def _work(rank: int, group: Group, answers: Any) -> None:
    torch = import_torch()
    if group.kind == "cuda":
        torch.cuda.set_device(rank)
    device = open_device(group.kind)
    distributed = torch.distributed
    distributed.init_process_group(
        group.backend, init_method=f"file://{group.meeting}", rank=rank, world_size=group.world
    )
    rows = [(table, _row(torch, device, group, table, size)) for table, size in group.messages]
    distributed.barrier()
    if rank == 0:
        answers.put(rows)
    distributed.destroy_process_group()


def _row(torch: Any, device: Any, group: Group, table: str, size: int) -> dict[str, Cell]:
    values = math.ceil(size / DTYPE_BYTES[group.dtype])
    buffer = torch.randn(values, device=device.kind).mul_(_SMALL).to(torch_dtype(group.dtype))
    run = COLLECTIVES[table](torch, buffer, group.world)
    for _ in range(_WARM_UP):
        run()
    torch.distributed.barrier()
    samples_us = device.times_us(run, _SAMPLES, "device")
    timing = summary(samples_us, device.batch_us(run, _BATCH))
    return {"tp": group.world, "bytes": size, "dtype": group.dtype, **measured_cells(timing)}


def _all_reduce(torch: Any, buffer: Any, _: int) -> Run:
    return lambda: torch.distributed.all_reduce(buffer)


def _all_gather(torch: Any, buffer: Any, world: int) -> Run:
    part = buffer[: len(buffer) // world].clone()
    return lambda: torch.distributed.all_gather_into_tensor(buffer, part)


def _all_to_all(torch: Any, buffer: Any, _: int) -> Run:
    received = torch.empty_like(buffer)
    return lambda: torch.distributed.all_to_all_single(received, buffer)


COLLECTIVES: dict[str, Callable[[Any, Any, int], Run]] = {
    "allreduce": _all_reduce,
    "allgather": _all_gather,
    "alltoall": _all_to_all,
}
"""What each table measures: makes the run of a GPU's buffer in a world of so many."""
