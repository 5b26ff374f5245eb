"""``systems/silicon_sample.csv`` of the package aiconfigurator-core: measured load points of servers, from many hands.

Each row is a time to first token and a time per output token at a concurrency. Who measured it is told from
``silicon_data_source``; the importers of :mod:`~calibrate.importers.inferencemax` and
:mod:`~calibrate.importers.inferencemax_style` choose theirs by it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.importers.model_names import is_known
from calibrate.importers.silicon_package import package_version, systems_folder
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import read_whole_table
from sim.architecture_files import canonical_model, load_architecture
from sim.hardware import canonical_gpu
from sim.units import DTYPE_BYTES

_FILE = "silicon_sample.csv"
_COLUMNS = (
    *(
        Column(name, "text", required=True)
        for name in ("id", "silicon_data_source", "backend", "model_path", "system")
    ),
    Column("mode", "text", required=True),
    *(
        Column(name, "text", required=True, may_be_empty=True)
        for name in ("backend_version", "precision", "gemm_quant_mode")
    ),
    *(Column(name, "count", required=True, largest=1e7) for name in ("isl", "osl")),
    *(
        Column(name, "count", required=True, largest=4096, may_be_empty=True)
        for name in ("tp_size", "pp_size", "attention_dp_size")
    ),
    *(Column(name, "positive", required=True) for name in ("silicon_ttft_ms", "silicon_tpot_ms")),
)
_OF_INFERENCEMAX = r"(?:db-dump/|source_file=)\d{4}-\d\d-\d\d"  # a dump of its data base, by day
_CONCURRENCY = r"silicon_concurrency=(\d+)"
_ENGINES = {"trtllm": "tensorrt-llm"}
# Quantised; the row's precision says how
_COPIES = {"nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b"}

Reason = tuple[str, Callable[[pd.DataFrame], "pd.Series[bool]"]]
"""Words for rows that are left out, and which rows of a table they are true of."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The rows of one GPU (``gpu``, as the registry spells it) in a file, which ``origin`` names in words."""

    path: Path
    gpu: str
    origin: str
    rows: pd.DataFrame


def read_sample(source: str, gpu: str) -> Sample:
    """The rows of ``gpu``; ``source`` is ``package`` or a ``silicon_sample.csv``.

    To the file's columns are added ``line``, ``model`` and ``engine`` as campaigns spell them, and ``concurrency``,
    NaN where a row states none. Raises ImportFormatError if the package, a column or the GPU is missing, or a cell is
    bad.
    """
    name = canonical_gpu(gpu)
    path = systems_folder() / _FILE if source == "package" else Path(source)
    table = read_whole_table(path, _COLUMNS)
    rows = table.frame.assign(line=table.lines)
    here = rows[rows["system"] == SYSTEMS.get(name, name.lower())]
    if here.empty:
        known = ", ".join(sorted(rows["system"].unique()))
        raise ImportFormatError(f"{path}: no row for GPU {gpu!r} (its systems: {known})")
    added = {
        "model": here["model_path"].replace(_COPIES).map(canonical_model),
        "engine": (here["backend"].replace(_ENGINES) + " " + here["backend_version"]).str.strip(),
        "concurrency": here["silicon_data_source"].str.extract(_CONCURRENCY)[0].astype(float),
    }
    package = (
        f"Python package aiconfigurator-core {package_version(source)} (NVIDIA), systems/{_FILE}"
    )
    return Sample(path, name, package, here.assign(**added))


def kept(sample: Sample, reasons: Sequence[Reason]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that can be used, and in words how many each reason leaves out, one after the other.

    Raises ImportFormatError if no row is left.
    """
    rows, left_out = sample.rows, []
    for words, unusable in reasons:
        out = unusable(rows)
        if out.any():
            models = ", ".join(sorted(set(rows["model_path"][out])))
            left_out.append(f"{int(out.sum())} rows {words} ({models})")
        rows = rows[~out]
    if rows.empty:
        raise ImportFormatError(
            f"{sample.path}: no row for GPU {sample.gpu!r} can be used: {'; '.join(left_out)}"
        )
    return rows, tuple(left_out)


def of_inferencemax(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows come from a dump of InferenceMAX's data base."""
    return rows["silicon_data_source"].str.match(_OF_INFERENCEMAX)


def _is_dense(model: str) -> bool:
    if not is_known(model):
        return False
    arch = load_architecture(model)
    return arch.experts is None and not (arch.not_modelled or arch.windows)


UNUSABLE: tuple[Reason, ...] = (
    ("of disaggregated servers", lambda rows: rows["mode"] != "agg"),
    (
        "of models with experts or not in the registry",
        lambda rows: ~rows["model"].map(_is_dense).astype(bool),
    ),
    ("of weight types not known", lambda rows: ~rows["precision"].isin([*DTYPE_BYTES, ""])),
    (
        "of pipeline or data parallelism",
        lambda rows: (rows["pp_size"].fillna(1) > 1) | (rows["attention_dp_size"].fillna(1) > 1),
    ),
    (
        "that stand there twice",
        lambda rows: rows[[c.name for c in _COLUMNS[2:]]].round(6).duplicated(),
    ),
)
"""Why a row cannot be a load point of a dense model on one server, whoever measured it."""


def load_points(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """What every row says of itself, as columns of ``serving``; lengths are left to the importer.

    Raises ImportFormatError, with the line, for a row without concurrency or degree.
    """
    _refuse(rows, rows["concurrency"].isna(), "silicon_data_source", "silicon_concurrency=16", path)
    _refuse(rows, rows["tp_size"].isna(), "tp_size", "1", path)
    return pd.DataFrame(
        {
            "model": rows["model"],
            "tp": rows["tp_size"],
            "dtype": rows["precision"],
            "engine": rows["engine"],
            "load": "closed",
            "concurrency": rows["concurrency"],
            "ttft_ms_mean": rows["silicon_ttft_ms"].round(4),
            "itl_ms_mean": rows["silicon_tpot_ms"].round(5),
            "run_id": rows["id"],
        }
    )


def in_order(serving: pd.DataFrame) -> pd.DataFrame:
    """The load points by engine, model, weight type, degree, lengths and concurrency."""
    return serving.sort_values(
        ["engine", "model", "dtype", "tp", "input_tokens_mean", "output_tokens_mean", "concurrency"]
    )


def _refuse(
    rows: pd.DataFrame, bad: "pd.Series[bool]", column: str, example: str, path: Path
) -> None:
    for line, cell in zip(rows["line"][bad], rows[column][bad], strict=True):
        said = "" if pd.isna(cell) else str(cell)[:80]
        raise ImportFormatError(
            f"{path}:{line}: {column} = {said!r} must say a number, as {example} does"
        )
