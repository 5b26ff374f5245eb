"""Load points of InferenceMAX (SemiAnalysis) in the package aiconfigurator-core (NVIDIA, Apache-2.0).

``systems/silicon_sample.csv`` holds a time to first token and a time per output token at a concurrency. Those of
InferenceMAX are the means: they are ``mean_ttft`` and ``mean_tpot`` of the results that InferenceMAX publishes, to
every digit. Its client keeps ``concurrency`` requests in flight, sends ten times as many, and draws lengths evenly
between 0.8 and 1.0 of the nominal ones, and asks for the likeliest token always (a temperature of 0); the server has
no prefix cache. Source: github.com/InferenceMAX/InferenceMAX,
``benchmarks/`` (Apache-2.0). What InferenceMAX itself publishes is read by :mod:`~calibrate.importers.inferencex`.
"""

import datetime
from pathlib import Path

import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.importers.inferencemax_launch import launch_columns
from calibrate.importers.inferencex import MEAN, REQUESTS_EACH, STD, read_results
from calibrate.importers.inferencex_csv import is_site_table
from calibrate.importers.labels import NEEDS as _WHAT_RAN
from calibrate.importers.run_folder import imported_runs
from calibrate.importers.silicon_sample import (
    Reason,
    Sample,
    in_order,
    kept,
    load_points,
    meant_for,
    of_database,
    of_inferencemax,
    read_sample,
    unusable,
)
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import GREEDY

NEEDS = (*_WHAT_RAN, "input_tokens_mean", "output_tokens_mean")

_MEASURED = r"measured=(\d{4}-\d\d-\d\d)"
_LATE_FROM = 512  # in flight
_TOKENS_A_STEP = {
    ("h100_sxm", "vllm"): 8192,
    ("h200_sxm", "vllm"): 8192,
    ("h200_sxm", "trtllm"): 16384,
}


_UNTOLD: Reason = (
    "of DeepSeek-R1 that may have decoded speculatively",
    lambda rows: (rows["model"] == "deepseek-r1") & ~of_database(rows),
)


def read(source: str, gpu: str, *, models: str = "") -> Imported:
    """InferenceMAX's load points on ``gpu``.

    ``source`` is ``package`` or a ``silicon_sample.csv``, of which models in aggregated mode are taken: dense ones, or
    as ``models`` says (:func:`~calibrate.importers.silicon_sample.unusable`); or InferenceMAX's own: an ``agg_*.json``,
    a folder of them, its site's CSV. Raises ImportFormatError if the package, a column or the GPU is missing, a cell is
    bad, ``models`` is not known, or no row is left.
    """
    if _is_own(Path(source)):
        if models:
            raise ImportFormatError(
                f"{source}: InferenceMAX's own results have every model: leave --models out"
            )
        return read_results(source, gpu)
    sample = read_sample(source, gpu)
    rows, left_out = kept(
        sample,
        (
            ("that are not InferenceMAX's", lambda rows: ~of_inferencemax(rows)),
            *unusable(models),
            *((_UNTOLD,) if models else ()),
        ),
    )
    serving = load_points(rows, sample.path).assign(
        num_requests=REQUESTS_EACH * rows["concurrency"],
        input_tokens_mean=(MEAN * rows["isl"]).round(1),
        input_tokens_std=(STD * rows["isl"]).round(1),
        output_tokens_mean=(MEAN * rows["osl"]).round(1),
        output_tokens_std=(STD * rows["osl"]).round(1),
        cached_input_tokens_mean=0,
        sampling=GREEDY,
    )
    launched = launch_columns(rows) if models else _tokens_a_step(rows)
    came_late = _came_late(rows)
    words = _LAUNCHED_2026 if models else _LAUNCHED
    serving = in_order(_whole_time(serving.join(launched), came_late))
    info = _info(rows, sample, left_out, words + _LATE * bool(came_late.any()))
    return imported_runs(serving, left_out, sample.gpu, meant_for(models, info))


def _tokens_a_step(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(rows["system"], rows["backend"], strict=True)
    tokens = [_TOKENS_A_STEP.get(pair) for pair in pairs]
    return pd.DataFrame({"max_num_batched_tokens": tokens}, index=rows.index)


def _came_late(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Whose first token came with most of the others: vLLM 0.11 on H100 at the largest load."""
    return (
        (rows["system"] == "h100_sxm")
        & (rows["backend"] == "vllm")
        & (rows["model"] == "gpt-oss-120b")
        & (rows["concurrency"] >= _LATE_FROM)
    )


def _whole_time(serving: pd.DataFrame, rows: "pd.Series[bool]") -> pd.DataFrame:
    """The load points with the end-to-end time alone of some rows."""
    if not rows.any():
        return serving
    after_first = serving["itl_ms_mean"] * (serving["output_tokens_mean"] - 1.0)
    whole = (serving["ttft_ms_mean"] + after_first).round(4)
    parts = {name: serving[name].mask(rows) for name in ("ttft_ms_mean", "itl_ms_mean")}
    return serving.assign(**parts, e2e_ms_mean=whole.where(rows))


def _is_own(path: Path) -> bool:
    """Whether a source is what InferenceMAX publishes, not a table of the package."""
    return path.is_dir() or path.suffix in (".json", ".jsonl") or is_site_table(path)


_LAUNCHED = (
    "The launch scripts of those months, not the package, say: no prefix caching, an fp8 KV cache, "
    "max_num_batched_tokens as given; TensorRT-LLM at nominal 1024/1024 below TP 8 holds prompts back to batch "
    "them, which raises its TTFT."
)
_LAUNCHED_2026 = (
    "The launch scripts as they stood early in 2026, not the package, say kv_dtype (empty: 16 bits), "
    "max_num_batched_tokens (of SGLang the chunk of a prefill) and max_num_seqs; B300's are taken to be B200's. "
    "TensorRT-LLM there holds prompts back to batch them at some loads, which raises its TTFT. dtype and moe_dtype are "
    "those of the checkpoints that the scripts name; what the package calls DeepSeek-V3 is DeepSeek-R1 by its ids. "
    "The package's dumps of April 2026 write TP × EP for TP: it is put right where the TP stands beside it. They may "
    "write vLLM's EP as data parallelism, and such rows are left out with those. Rows of the other dumps do not say "
    "whether DeepSeek-R1 decoded speculatively; those measured on days when it did take 0.5 to 0.8 of the time a token."
)
_LATE = (
    " Of gpt-oss-120b at 512 in flight only the end-to-end time is taken, TTFT + time per output token × (output − 1): "
    "their tokens come faster than at an eighth of the load, after a TTFT of most of the run: they came together."
)


def _info(
    rows: pd.DataFrame, sample: Sample, left_out: tuple[str, ...], launched: str
) -> dict[str, object]:
    days = rows["silicon_data_source"].str.extract(_MEASURED)[0].dropna()
    dated = {"collected": datetime.date.fromisoformat(days.max())} if len(days) else {}
    models = ", ".join(sorted(set(rows["model"])))
    return {
        "title": f"InferenceMAX on {sample.gpu}: {models}",
        "source": f"{sample.origin}: rows of InferenceMAX (SemiAnalysis, github.com/InferenceMAX/InferenceMAX)",
        "licence": "Apache-2.0",
        **dated,
        "itl": "per-token",
        "notes": "Means over ten requests for each in flight: ttft_ms_mean is InferenceMAX's mean_ttft, itl_ms_mean "
        "its mean_tpot, (end-to-end − TTFT)/(output − 1). The package gives nominal lengths; the client draws each "
        "evenly between 0.8 and 1.0 of them and ignores end-of-sequence tokens, so the means here are 0.9 of the "
        f"nominal ones. {launched} Where the KV cache holds fewer requests than are in flight (TTFT of tens of "
        "seconds), TTFT is mostly their wait. Of this GPU's rows are left out, one reason after the other: "
        f"{'; '.join(left_out) or 'none'}.",
    }
