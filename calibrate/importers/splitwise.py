"""Splitwise's ``perf_model.csv``: prompt and token times of a whole engine, in milliseconds.

``prompt_time`` is the prefill step of ``batch_size`` requests of ``prompt_size`` tokens; ``token_time`` is the
mean decode step over the generation of ``token_size`` tokens, taken at the mean context, prompt_size +
token_size/2. ``e2e_time`` is the whole run, which tells those that stopped before token_size tokens. Source:
github.com/Mutinifni/splitwise-sim, ``data/perf_model.csv`` (MIT), ISCA 2024.
"""

import datetime
from pathlib import Path

import pandas as pd

from calibrate.importers.gpu_names import same_gpu
from calibrate.importers.imported import Imported
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import compact, read_whole_table
from sim.architecture_files import architecture_names, canonical_model
from sim.errors import nearest
from sim.units import US_PER_MS

_MODELS = {"llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b"}
_POINT = ["model", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
_COLUMNS = (
    *(Column(name, "text", required=True) for name in ("model", "hardware")),
    Column("tensor_parallel", "count", required=True, largest=4096),
    *(
        Column(name, "count", required=True, largest=1e7)
        for name in ("prompt_size", "batch_size", "token_size")
    ),
    *(
        Column(name, "positive", required=True)
        for name in ("prompt_time", "token_time", "e2e_time")
    ),
)


def read(source: str, gpu: str) -> Imported:
    """Turn the rows of one GPU into prefill and decode steps and serving runs, a run_id for every replicate.

    Raises ImportFormatError if the file or a column is missing or no row is of that GPU.
    """
    path = Path(source)
    table = read_whole_table(path, _COLUMNS)
    raw = compact(table.frame)
    models = raw["model"].map(_model)
    known = architecture_names()
    for line, model in zip(table.lines, models, strict=True):
        if model not in known:
            raise ImportFormatError(
                f"{path}:{line}: model = {model[:60]}: is not in the registry{nearest(model, _MODELS)}"
            )
    wanted = raw["hardware"].map(lambda name: same_gpu(str(name), gpu))
    rows = raw[wanted].copy()
    if rows.empty:
        raise ImportFormatError(
            f"{path}: no row for GPU {gpu} (it has {', '.join(sorted(raw['hardware'].astype(str).unique()))})"
        )
    return Imported({"steps": _steps(rows), "serving": _serving(rows)}, _info(rows), ())


def _model(name: str) -> str:
    return _MODELS.get(name.lower()) or canonical_model(name)


def _runs(rows: pd.DataFrame) -> dict[str, pd.Series]:
    model = rows["model"].map(_model)
    replicate = rows.groupby(_POINT, sort=False).cumcount() + 1
    point = (
        "tp"
        + rows["tensor_parallel"].astype(str)
        + "-p"
        + rows["prompt_size"].astype(str)
        + "-b"
        + rows["batch_size"].astype(str)
        + "-t"
        + rows["token_size"].astype(str)
    )
    return {
        "model": model,
        "tp": rows["tensor_parallel"],
        "run_id": point + "-r" + replicate.astype(str),
    }


def _steps(rows: pd.DataFrame) -> pd.DataFrame:
    common = _runs(rows)
    prefill = pd.DataFrame(
        {
            **common,
            "num_prefill_requests": rows["batch_size"],
            "sum_prefill_tokens": rows["batch_size"] * rows["prompt_size"],
            "num_decode_requests": 0,
            "sum_decode_kv_tokens": 0,
            "latency_us": rows["prompt_time"] * US_PER_MS,
        }
    )
    decode = pd.DataFrame(
        {
            **common,
            "num_prefill_requests": 0,
            "sum_prefill_tokens": 0,
            "num_decode_requests": rows["batch_size"],
            "sum_decode_kv_tokens": rows["batch_size"]
            * (rows["prompt_size"] + rows["token_size"] / 2.0),
            "latency_us": rows["token_time"] * US_PER_MS,
        }
    )
    steps = pd.concat([prefill, decode], ignore_index=True)
    steps["latency_us"] = steps["latency_us"].round(3)
    return steps


def _serving(rows: pd.DataFrame) -> pd.DataFrame:
    """Each row as a closed load of one batch: first tokens after the prefill, then a token a decode step."""
    return pd.DataFrame(
        {
            **_runs(rows),
            "load": "closed",
            "concurrency": rows["batch_size"],
            "num_requests": rows["batch_size"],
            "input_tokens_mean": rows["prompt_size"],
            "output_tokens_mean": rows["token_size"],
            "ttft_ms_mean": rows["prompt_time"].round(6),
            "itl_ms_mean": rows["token_time"].round(6),
            "e2e_ms_mean": rows["e2e_time"].round(6),
        }
    )


def _info(rows: pd.DataFrame) -> dict[str, object]:
    return {
        "title": f"Splitwise performance model, {', '.join(sorted(rows['model'].astype(str).unique()))}",
        "source": "Splitwise simulator (ISCA 2024), data/perf_model.csv, github.com/Mutinifni/splitwise-sim",
        "licence": "MIT",
        "collected": datetime.date(2024, 6, 29),
        "kind": "measured",
        "engine": "vLLM of 2023 (eager)",
        "hardware": ", ".join(sorted(rows["hardware"].astype(str).unique())),
        "itl": "per-token",
        "notes": "prompt_time as the prefill step; token_time as the mean decode step at prompt + half the generated "
        "tokens of context; serving.csv has the same runs end to end. Dates from the publication. Host time is in "
        "these steps.",
    }
