"""Load points of InferenceMAX (SemiAnalysis) in the package aiconfigurator-core (NVIDIA, Apache-2.0).

``systems/silicon_sample.csv`` holds a time to first token and a time per output token at a concurrency. Those of
InferenceMAX are the means: they are ``mean_ttft`` and ``mean_tpot`` of the results that InferenceMAX publishes, to
every digit. Its client keeps ``concurrency`` requests in flight, sends ten times as many, and draws lengths evenly
between 0.8 and 1.0 of the nominal ones; the server has no prefix cache. Source: github.com/InferenceMAX/InferenceMAX,
``benchmarks/`` (Apache-2.0).
"""

import datetime
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from calibrate.errors import ImportFormatError
from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import imported_runs
from calibrate.importers.silicon_package import package_version, systems_folder
from calibrate.schema import Column
from calibrate.tables import read_table
from sim.architecture import architecture_names, canonical_model, load_architecture
from sim.hardware import canonical_gpu
from sim.units import DTYPE_BYTES

_FILE = "silicon_sample.csv"
_COLUMNS = (
    *(Column(name, "text", required=True) for name in ("id", "silicon_data_source", "backend", "model_path", "system")),
    Column("mode", "text", required=True),
    *(Column(name, "text") for name in ("backend_version", "precision")),
    *(Column(name, "count", required=True, largest=1e7) for name in ("isl", "osl")),
    *(Column(name, "count", largest=4096) for name in ("tp_size", "pp_size", "attention_dp_size")),
    *(Column(name, "positive", required=True) for name in ("silicon_ttft_ms", "silicon_tpot_ms")),
)
_OF_INFERENCEMAX = r"(?:db-dump/|source_file=)\d{4}-\d\d-\d\d"  # a dump of its data base, by day
_CONCURRENCY, _MEASURED = r"silicon_concurrency=(\d+)", r"measured=(\d{4}-\d\d-\d\d)"
_ENGINES = {"trtllm": "tensorrt-llm"}
_SHORTEST = 0.8  # of the nominal length
_MEAN = (1.0 + _SHORTEST) / 2.0
_STD = (1.0 - _SHORTEST) / math.sqrt(12.0)
_REQUESTS = 10  # for each in flight
_TOKENS_A_STEP = {("h100_sxm", "vllm"): 8192, ("h200_sxm", "vllm"): 8192, ("h200_sxm", "trtllm"): 16384}


def read(source: str, gpu: str) -> Imported:
    """InferenceMAX's dense models on ``gpu``, aggregated; ``source`` is ``package`` or a ``silicon_sample.csv``.

    Raises ImportFormatError if the package, a column or the GPU is missing, a cell is bad, or no row is left.
    """
    name = canonical_gpu(gpu)
    path = systems_folder() / _FILE if source == "package" else Path(source)
    rows = _rows(path)
    here = rows[rows["system"] == SYSTEMS.get(name, name.lower())]
    if here.empty:
        known = ", ".join(sorted(rows["system"].unique()))
        raise ImportFormatError(f"{path}: no row for GPU {gpu!r} (its systems: {known})")
    kept, left_out = _kept(here)
    if kept.empty:
        raise ImportFormatError(f"{path}: no row for GPU {gpu!r} can be used: {'; '.join(left_out)}")
    info = _info(kept, name, package_version(source), left_out)
    return imported_runs(_serving(kept, path), left_out, name, info)


def _rows(path: Path) -> pd.DataFrame:
    table = read_table(path, _COLUMNS)
    for problem in table.problems:
        if problem.severity == "error":
            raise ImportFormatError(str(problem))
    return table.frame.assign(line=table.lines)


def _kept(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that can be used, and in words how many each reason leaves out, one after the other."""
    left_out = []
    for words, unusable in _REASONS:
        out = unusable(rows)
        if out.any():
            models = ", ".join(sorted(set(rows["model_path"][out])))
            left_out.append(f"{int(out.sum())} rows {words} ({models})")
        rows = rows[~out]
    return rows, tuple(left_out)


def _is_dense(model: str) -> bool:
    name = canonical_model(model)
    if name not in architecture_names():
        return False
    arch = load_architecture(name)
    return arch.experts is None and not arch.latent_attention


_REASONS: tuple[tuple[str, Callable[[pd.DataFrame], "pd.Series[bool]"]], ...] = (
    ("that are not InferenceMAX's", lambda rows: ~rows["silicon_data_source"].str.match(_OF_INFERENCEMAX)),
    ("of disaggregated servers", lambda rows: rows["mode"] != "agg"),
    ("of models with experts or not in the registry", lambda rows: ~rows["model_path"].map(_is_dense).astype(bool)),
    ("of weight types not known", lambda rows: ~rows["precision"].isin([*DTYPE_BYTES, ""])),
    (
        "of pipeline or data parallelism",
        lambda rows: (rows["pp_size"].fillna(1) > 1) | (rows["attention_dp_size"].fillna(1) > 1),
    ),
    ("that stand there twice", lambda rows: rows[[c.name for c in _COLUMNS[2:]]].round(6).duplicated()),
)


def _serving(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    concurrency = rows["silicon_data_source"].str.extract(_CONCURRENCY)[0].astype(float)
    _refuse(rows[concurrency.isna()], "silicon_data_source", "silicon_concurrency=16", path)
    _refuse(rows[rows["tp_size"].isna()], "tp_size", "1", path)
    pairs = zip(rows["system"], rows["backend"], strict=True)
    engines = rows["backend"].replace(_ENGINES) + " " + rows["backend_version"]
    return pd.DataFrame(
        {
            "model": rows["model_path"].map(canonical_model),
            "tp": rows["tp_size"],
            "dtype": rows["precision"],
            "engine": engines.str.strip(),
            "load": "closed",
            "concurrency": concurrency,
            "num_requests": _REQUESTS * concurrency,
            "input_tokens_mean": (_MEAN * rows["isl"]).round(1),
            "input_tokens_std": (_STD * rows["isl"]).round(1),
            "output_tokens_mean": (_MEAN * rows["osl"]).round(1),
            "output_tokens_std": (_STD * rows["osl"]).round(1),
            "cached_input_tokens_mean": 0,
            "max_num_batched_tokens": [_TOKENS_A_STEP.get(pair) for pair in pairs],
            "ttft_ms_mean": rows["silicon_ttft_ms"].round(4),
            "itl_ms_mean": rows["silicon_tpot_ms"].round(5),
            "run_id": rows["id"],
        }
    ).sort_values(["engine", "model", "dtype", "tp", "input_tokens_mean", "output_tokens_mean", "concurrency"])


def _refuse(bad: pd.DataFrame, column: str, example: str, path: Path) -> None:
    for line, cell in zip(bad["line"], bad[column], strict=True):
        said = "" if pd.isna(cell) else str(cell)[:80]
        raise ImportFormatError(f"{path}:{line}: {column} = {said!r} must say a number, as {example} does")


def _info(rows: pd.DataFrame, gpu: str, package: str, left_out: tuple[str, ...]) -> dict[str, object]:
    days = rows["silicon_data_source"].str.extract(_MEASURED)[0].dropna()
    dated = {"collected": datetime.date.fromisoformat(days.max())} if len(days) else {}
    models = ", ".join(sorted(set(rows["model_path"].map(canonical_model))))
    return {
        "title": f"InferenceMAX on {gpu}: {models}",
        "source": f"Python package aiconfigurator-core {package} (NVIDIA), systems/{_FILE}: rows of InferenceMAX "
        "(SemiAnalysis, github.com/InferenceMAX/InferenceMAX)",
        "licence": "Apache-2.0",
        **dated,
        "itl": "per-token",
        "notes": "Means over ten requests for each in flight: ttft_ms_mean is InferenceMAX's mean_ttft, itl_ms_mean "
        "its mean_tpot, (end-to-end − TTFT)/(output − 1). The package gives nominal lengths; the client draws each "
        "evenly between 0.8 and 1.0 of them and ignores end-of-sequence tokens, so the means here are 0.9 of the "
        "nominal ones. The launch scripts of those months, not the package, say: no prefix caching, an fp8 KV cache, "
        "max_num_batched_tokens as given; TensorRT-LLM at nominal 1024/1024 below TP 8 holds prompts back to batch "
        "them, which raises its TTFT. Where the KV cache holds fewer requests than are in flight (TTFT of tens of "
        "seconds), TTFT is mostly their wait. Of this GPU's rows are left out, one reason after the other: "
        f"{'; '.join(left_out) or 'none'}.",
    }
