"""All-reduce over the GPUs of this machine: NCCL, one process a GPU."""

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrate.bench.device import import_torch, open_device, torch_dtype
from calibrate.bench.point import Cell
from calibrate.bench.record import Record
from sim.units import DTYPE_BYTES

MESSAGE_BYTES = tuple(2**k for k in range(12, 29, 2))
_WARM_UP, _REPEATS = 3, 30  # 33 sums over 8 GPUs stay within the range of bf16
_SMALL = 1e-3


@dataclasses.dataclass(frozen=True)
class Group:
    """``world`` processes that meet in the file ``meeting``."""

    world: int
    meeting: str
    sizes: tuple[int, ...]
    dtype: str
    kind: str
    backend: str


def measure_allreduce(
    record: Record, gpus: int, dtype: str, sizes: Sequence[int] = MESSAGE_BYTES
) -> int:
    """Measure every degree of 2, 4, 8 that the machine has GPUs for; the number of rows added."""
    added = 0
    for tp in (degree for degree in (2, 4, 8) if degree <= gpus):
        wanted = tuple(
            size for size in sizes if not record.holds({"tp": tp, "bytes": size, "dtype": dtype})
        )
        for row in all_reduce_rows(tp, wanted, dtype, "cuda", "nccl") if wanted else []:
            record.add(row)
            added += 1
    return added


def all_reduce_rows(
    world: int, sizes: tuple[int, ...], dtype: str, kind: str, backend: str
) -> list[dict[str, Cell]]:
    """Rows of the table as the first of ``world`` processes measured them. Raises RuntimeError if one of them fails."""
    torch = import_torch()
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        group = Group(world, str(Path(folder) / "meeting"), sizes, dtype, kind, backend)
        answers = context.SimpleQueue()
        torch.multiprocessing.spawn(_work, (group, answers), nprocs=world)
        rows: list[dict[str, Cell]] = answers.get()
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
    rows = [_row(torch, device, group, size) for size in group.sizes]
    distributed.barrier()
    if rank == 0:
        answers.put(rows)
    distributed.destroy_process_group()


def _row(torch: Any, device: Any, group: Group, size: int) -> dict[str, Cell]:
    values = int(size / DTYPE_BYTES[group.dtype])
    x = torch.randn(values, device=device.kind).mul_(_SMALL).to(torch_dtype(group.dtype))

    def run() -> None:
        torch.distributed.all_reduce(x)

    for _ in range(_WARM_UP):
        run()
    torch.distributed.barrier()
    times_us = device.times_us(run, _REPEATS, "device")
    return {
        "tp": group.world,
        "bytes": size,
        "dtype": group.dtype,
        "latency_us": f"{statistics.median(times_us):.3f}",
        "latency_std_us": f"{statistics.stdev(times_us):.3f}",
        "replicates": _REPEATS,
    }
