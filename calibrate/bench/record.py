"""What was measured, on disk row by row, so that an interrupted run loses nothing and goes on where it stopped."""

import contextlib
import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from calibrate.bench.point import Cell
from calibrate.bench.timing import Timing
from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_text
from calibrate.records.reading.content import named, read_content
from calibrate.records.reading.csv_rows import CsvRows
from calibrate.records.reading.documents import read_toml
from calibrate.records.toml_text import toml_text
from sim.text_files import decoded

_LATENT = "num_heads", "cache_rank", "nope_dim", "rope_dim", "value_dim"
_MESSAGE = "tp", "bytes", "dtype"

KEYS: dict[str, tuple[str, ...]] = {
    "memory": ("op", "bytes"),
    "gemm": ("m", "n", "k", "dtype"),
    "attention_prefill": (
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "batch_size",
        "seq_len",
        "dtype",
    ),
    "attention_decode": (
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "batch_size",
        "kv_len",
        "dtype",
        "kv_dtype",
        "tp",
    ),
    "moe": (
        "num_tokens",
        "hidden_size",
        "intermediate_size",
        "num_experts",
        "experts_per_token",
        "dtype",
    ),
    "mla_prefill": (*_LATENT, "batch_size", "seq_len", "dtype"),
    "mla_decode": (*_LATENT, "batch_size", "kv_len", "dtype"),
    "allreduce": _MESSAGE,
    "allgather": _MESSAGE,
    "alltoall": _MESSAGE,
    "steps": (
        "model",
        "tp",
        "dtype",
        "num_prefill_requests",
        "sum_prefill_tokens",
        "sum_prefill_kv_tokens",
        "num_decode_requests",
        "sum_decode_kv_tokens",
        "execution",
        "run_id",
    ),
}
"""The columns that say which point a row is."""

_CHOSEN = {
    "attention_prefill": ("backend",),
    "attention_decode": ("backend",),
    "moe": ("active_experts", "backend"),
    "mla_prefill": ("backend",),
    "mla_decode": ("backend",),
    "steps": ("backend",),
}
_MEASURED = (
    "latency_us",
    "latency_std_us",
    "replicates",
    "noise",
    "batch_us",
    "sm_clock_mhz",
)


def measured_cells(timing: Timing) -> dict[str, Cell]:
    """What was timed, as a row has it."""
    return {
        "latency_us": f"{timing.latency_us:.3f}",
        "latency_std_us": f"{timing.latency_std_us:.3f}",
        "replicates": timing.replicates,
        "noise": f"{timing.noise:.5f}",
        "batch_us": f"{timing.batch_us:.3f}",
    }


@dataclasses.dataclass(frozen=True)
class Record:
    """One table of a campaign, open to be added to. ``done`` holds the keys of the rows that are there."""

    file: Path
    table: str
    done: set[tuple[str, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The header."""
        return (*KEYS[self.table], *_CHOSEN.get(self.table, ()), *_MEASURED)

    def holds(self, columns: Mapping[str, Cell]) -> bool:
        """Whether the point of these columns is measured already."""
        return self._key(columns) in self.done

    def add(self, row: Mapping[str, Cell]) -> None:
        """Append a row and see it onto the disk; at an error, such as a full disk, no part of it stays.

        Raises CalibrateError that names the file.
        """
        whole = self.file.stat().st_size
        try:
            self._append(row)
        except OSError as error:
            os.truncate(self.file, whole)
            raise CalibrateError(
                f"{self.file}: cannot be written: {error.strerror}; the rows before are whole. "
                "Make room and run bench again: it goes on from there"
            ) from None
        self.done.add(self._key(row))

    def _append(self, row: Mapping[str, Cell]) -> None:
        with self.file.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(
                [row.get(name, "") for name in self.columns]
            )
            file.flush()
            os.fsync(file.fileno())

    def _key(self, columns: Mapping[str, Cell]) -> tuple[str, ...]:
        return tuple(str(columns[name]) for name in KEYS[self.table])


def open_record(folder: Path, table: str) -> Record:
    """The table of that name in ``folder``, begun if it is not there; a last line that was cut off is removed.

    Raises CalibrateError if a file of that name cannot be read, or has other columns.
    """
    record = Record(folder / f"{table}.csv", table, set())
    header = ",".join(record.columns) + "\n"
    content, text = _content(record.file)
    whole = text[: text.rfind("\n") + 1]
    if whole and not whole.startswith(header):
        raise CalibrateError(
            f"{record.file}:1: has not the columns that bench writes; give another --out"
        )
    if whole.encode() != content or not whole:
        replace_text(record.file, whole or header)
    if whole not in ("", header):
        found = CsvRows(record.file)
        rows = (dict(zip(found.header, cells, strict=True)) for cells in found.rows())
        record.done.update(map(record._key, rows))
    return record


def _content(file: Path) -> tuple[bytes, str]:
    """A file's bytes and their text; empty where there is none. What is packed cannot be added to, and is no text."""
    if not file.exists():
        return b"", ""
    with named(file):
        content = file.read_bytes()
        return content, decoded(content)


def begin_campaign(folder: Path, machine: Mapping[str, Cell]) -> None:
    """Make the folder. Raises CalibrateError if it holds measurements of another machine or of other software."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "campaign.toml"
    if not file.exists():
        if any(folder.glob("*.csv")) or any(folder.glob("*.parquet")):
            raise CalibrateError(
                f"{folder}: has tables but no campaign.toml: not of bench; give another --out"
            )
        return
    earlier = read_toml(file).get("machine", {})
    if not isinstance(earlier, dict):
        raise CalibrateError(f"{file}: machine must be a table; give another --out")
    for name in ("device", "torch", "threads"):
        was, now = earlier.get(name), machine.get(name)
        if was != now:
            raise CalibrateError(
                f"{folder}: holds measurements of {name} {was}, this is {now}; give another --out"
            )


def write_campaign_toml(folder: Path, content: Mapping[str, object]) -> None:
    """Write ``campaign.toml`` in one step. Where that fails no empty folder stays, to be taken for a campaign."""
    try:
        replace_text(folder / "campaign.toml", toml_text(content))
    except OSError:
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()
        raise


def rows_of(folder: Path, tables: Sequence[str]) -> dict[str, int]:
    """Rows that each table of the campaign has, where it is there."""
    return {
        table: read_content(file).count(b"\n") - 1
        for table in tables
        if (file := folder / f"{table}.csv").exists()
    }
