"""Reads a folder of GEMM and attention benchmarks into an :class:`~sim.database.table.MfuTable`."""

import csv
import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from sim.database.curves import USABLE_MFU, Curve, Surface
from sim.database.table import Heads, MfuTable, Shape
from sim.errors import MfuTableError, nearest
from sim.hardware import check_gpu_name, find_gpu, nearest_gpu
from sim.steps.runs import Floats

_LARGEST_SIZE = 2.0**53
_PREFILL_NAME = re.compile(r"(\d{1,9})-(\d{1,9})-(\d{1,9})")
_DECODE_NAME = re.compile(r"(\d{1,9})-(\d{1,9})-(\d{1,9})(?:-tp(\d{1,9}))?")


@dataclasses.dataclass(frozen=True)
class BenchFiles:
    """The files of one GPU's benchmarks; prefill and decode files by configuration (and degree), in name order."""

    gemm: Path
    prefill: dict[Heads, Path]
    decode: dict[tuple[Heads, int], Path]
    decode_folder: Path


def bench_files(path: str | Path, gpu: str) -> BenchFiles:
    """Where the benchmarks of one GPU lie; see :func:`load_mfu_table` for what is raised."""
    check_gpu_name(gpu)
    root = Path(path)
    gemm = _gpu_folder(root / "gemm", gpu) / "data.csv"
    prefill: dict[Heads, Path] = {}
    decode: dict[tuple[Heads, int], Path] = {}
    prefill_folder = _gpu_folder(root / "mha" / "prefill", gpu)
    for file in sorted(prefill_folder.glob("*.csv")):
        prefill[
            Heads(*_numbers_in_name(file, _PREFILL_NAME, "<heads>-<kv heads>-<head dim>.csv"))
        ] = file
    if not prefill:
        raise MfuTableError(
            f"{prefill_folder}: holds no prefill benchmark. Add <heads>-<kv heads>-<head dim>.csv"
        )
    decode_folder = _gpu_folder(root / "mha" / "decode", gpu)
    for file in sorted(decode_folder.glob("*.csv")):
        *config, tp = _numbers_in_name(
            file, _DECODE_NAME, "<heads>-<kv heads>-<head dim>-tp<N>.csv"
        )
        known = decode.setdefault((Heads(*config), tp), file)
        if known != file:
            raise MfuTableError(f"{file}: is of TP {tp}, as {known.name} is. Keep one")
    return BenchFiles(gemm, prefill, decode, decode_folder)


def load_mfu_table(path: str | Path, gpu: str) -> MfuTable:
    """Load the benchmarks of one GPU; ``gpu`` matches a folder's name without regard to case and by alias.

    Raises MfuTableError naming the file, line, column and value, or the GPUs there are, and the fix.
    """
    files = bench_files(path, gpu)
    gemm, last_shape = _read_gemm(files.gemm)
    prefill = _read_prefill(files.prefill)
    decode = _read_decode(files, prefill)
    return MfuTable(files.gemm.parent.name, str(path), gemm, last_shape, prefill, decode)


def _gpu_folder(folder: Path, gpu: str) -> Path:
    if not folder.is_dir():
        raise MfuTableError(
            f"{folder}: no such folder. A benchmark database has gemm/, mha/prefill/ and mha/decode/, "
            "each with a folder for every GPU; give the folder that holds gemm/ and mha/"
        )
    available = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = find_gpu(gpu, available)
    if found is None:
        has = ", ".join(available) or "none"
        raise MfuTableError(
            f"{folder}: no benchmarks of GPU {gpu!r} (it has {has}){nearest_gpu(gpu, available)}"
        )
    return folder / found


def _read_gemm(file: Path) -> tuple[dict[Shape, Curve], Shape]:
    m, k, n, mfu = _read(file, ("m", "k", "n"))
    shapes = [Shape(int(a), int(b)) for a, b in zip(k, n, strict=True)]
    curves = {}
    for shape in dict.fromkeys(shapes):
        rows = (k == shape.k) & (n == shape.n)
        _check_usable(mfu[rows], f"{file}: shape k {shape.k}, n {shape.n}")
        curves[shape] = Curve.from_points(m[rows], mfu[rows])
    return curves, shapes[-1]


def _read_prefill(files: dict[Heads, Path]) -> dict[Heads, Curve]:
    curves = {}
    for heads, file in files.items():
        size, mfu = _read(file, ("seq_len",))
        _check_usable(mfu, str(file))
        curves[heads] = Curve.from_points(size, mfu)
    return curves


def _read_decode(files: BenchFiles, prefill: dict[Heads, Curve]) -> dict[Heads, dict[int, Surface]]:
    surfaces: dict[Heads, dict[int, Surface]] = {}
    for (config, tp), file in files.decode.items():
        batch, context, mfu = _read(file, ("batch_size", "kv_len"))
        _check_usable(mfu, str(file))
        surfaces.setdefault(config, {})[tp] = Surface.from_points(batch, context, mfu)
    for heads in prefill:
        if heads not in surfaces:
            has = ", ".join(map(str, surfaces)) or "none"
            raise MfuTableError(
                f"{files.decode_folder}: no decode benchmark of attention {heads} (it has {has}). "
                f"Add {heads}-tp1.csv, or remove {heads}.csv from the prefill benchmarks"
            )
    return surfaces


def _numbers_in_name(file: Path, pattern: re.Pattern[str], form: str) -> list[int]:
    match = pattern.fullmatch(file.stem)
    numbers = [int(number) for number in match.groups("1")] if match else []  # no degree: TP 1
    if not numbers or 0 in numbers:
        raise MfuTableError(
            f"{file}: a benchmark file here must be named {form}. Rename or remove it"
        )
    return numbers


def _check_usable(mfu: Floats, where: str) -> None:
    if mfu.max() < USABLE_MFU:
        raise MfuTableError(
            f"{where}: every mfu is below {USABLE_MFU:g}. Measure longer, or remove these rows"
        )


def _read(file: Path, sizes: tuple[str, ...]) -> list[Floats]:
    """The named size columns and ``mfu``, each of shape (rows,)."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        raise MfuTableError(f"{file}: no such file. Put the benchmark's results there") from None
    except OSError as error:
        raise MfuTableError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MfuTableError(f"{file}: is not CSV text in UTF-8: {error}") from error
    places = [_place(file, header, name) for name in (*sizes, "mfu")]
    if not rows:
        raise MfuTableError(f"{file}: has no row of measurements. Add some, or remove the file")
    values = np.array(
        [
            [_number(file, line, header[place], row, place) for place in places]
            for line, row in rows
        ],
        dtype=np.float64,
    )
    _check_unique(file, [line for line, _ in rows], values[:, :-1], sizes)
    return list(np.ascontiguousarray(values.T))


def _place(file: Path, header: list[str], name: str) -> int:
    if header.count(name) != 1:
        problem = "is missing" if name not in header else "stands there twice"
        has = ", ".join(header) or "none"
        raise MfuTableError(
            f"{file}, line 1: column {name} {problem} (columns: {has}){nearest(name, header)}"
        )
    return header.index(name)


def _number(file: Path, line: int, column: str, row: list[str], place: int) -> float:
    where = f"{file}, line {line}, column {column}"
    text = row[place].strip() if place < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        raise MfuTableError(
            f"{where}: {text[:40]!r} is not a number. Correct or remove the row"
        ) from None
    if column == "mfu":
        if not 0 <= value <= 1:
            raise MfuTableError(
                f"{where}: must be from 0 to 1 (a share of the peak, no percentage), got {value:g}"
            )
    elif not (math.isfinite(value) and 1 <= value < _LARGEST_SIZE and value == math.floor(value)):
        raise MfuTableError(f"{where}: must be a whole number from 1, got {text[:40]}")
    return value


def _check_unique(file: Path, lines: list[int], keys: Floats, sizes: tuple[str, ...]) -> None:
    first: dict[tuple[float, ...], int] = {}
    for line, key in zip(lines, map(tuple, keys.tolist()), strict=True):
        if first.setdefault(key, line) != line:
            point = ", ".join(f"{name} {value:g}" for name, value in zip(sizes, key, strict=True))
            raise MfuTableError(
                f"{file}, line {line}: repeats {point} of line {first[key]}. Keep one (and one dtype)"
            )
