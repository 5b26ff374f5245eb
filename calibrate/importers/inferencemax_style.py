"""Load points that others measured as InferenceMAX does, in the package aiconfigurator-core (NVIDIA, Apache-2.0).

They stand in the same ``systems/silicon_sample.csv`` as InferenceMAX's. The package says neither who measured them nor
with which client, how many requests or which statistic. What the rows themselves tell of that, by the spread of
their TTFT over concurrency and output, stands in ``_SEEN``. One engine and version at a time: they differ.
"""

import dataclasses

import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.importers.run_folder import imported_runs
from calibrate.importers.silicon_sample import (
    Reason,
    Sample,
    in_order,
    kept,
    load_points,
    meant_for,
    of_inferencemax,
    read_sample,
    unusable,
)
from calibrate.records.errors import ImportFormatError
from sim.errors import nearest


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What the rows of an engine tell of client and engine, in words and as cells."""

    words: str
    requests_each: int | None = None
    one_waits: tuple[str, ...] = ()  # models whose engine ran one request fewer than were in flight


_NOTHING = _Seen("num_requests is not known.")

_SEEN = {
    ("H100", "vllm 0.12.0"): _Seen(
        "num_requests is inferred from the rows: simulated with whatever hardware fits best, and outputs that spread "
        "by a tenth, 10 requests for each in flight leave a median error of TTFT of 13% and of ITL of 4% (TTFT 22% "
        "with 3, 20% with 5, 17% with 7, 14% with 14, 21% with 20). Requests of one length, which stay in step, leave "
        "26% and 15%: these ended out of step. Whether by length or by arrival cannot be told, nor how far (a "
        "twentieth to a half does alike; a spread of prompts does nothing), so lengths stand without spread. Nor can "
        "max_num_batched_tokens: 4608, 8192 and 16384 do alike.",
        requests_each=10,
    ),
    ("H100", "tensorrt-llm 1.0.0rc3"): _Seen(
        "num_requests is inferred from the rows: simulated with whatever hardware fits best, and outputs that spread "
        "by a tenth, 10 requests for each in flight leave a median error of Qwen3-32B's TTFT of 18% and of ITL of 4% "
        "(29% and 13% with 3, 24% and 8% with 5, 20% and 5% with 7, 17% and 5% with 14, 17% and 9% with 20). Requests "
        "of one length, which stay in step, leave 34% and 11%: these ended out of step. Whether by length or by "
        "arrival cannot be told, nor how far, so lengths stand without spread. max_num_seqs of Llama-3.1-8B is "
        "inferred too: to 32 in flight its TTFT grows with the output by 0.8 to 0.9 of a request's time over "
        "(concurrency − 1), as where the engine runs one request fewer than are in flight; Qwen3-32B's does not. So "
        "simulated, the median error of its TTFT is 13%, else 35%. Neither max_num_batched_tokens nor chunked prefill "
        "can be told.",
        requests_each=10,
        one_waits=("llama-3.1-8b",),
    ),
    ("H100", "sglang 0.5.1.post1"): _Seen(
        "num_requests cannot be told: an engine that computes prompts before decodes keeps requests of one length in "
        "step, wave after wave. They were so: simulated with whatever hardware fits best, the median error of TTFT is "
        "7% and of ITL 4%; outputs that spread by a tenth put ITL off by 22% with 2 requests for each in flight, and "
        "by more with more.",
    ),
    ("H200", "vllm 0.12.0"): _Seen(
        "num_requests cannot be told: 10 and 20 for each in flight do alike, fewer worse.",
    ),
    ("H200", "sglang 0.5.6.post2"): _Seen(
        "ITL is 23 to 40 ms whatever the TP and at 20 to 512 in flight: host or client set it, not the GPU. No "
        "simulation comes near (median error of TTFT above a third), so these rows say nothing about step time.",
    ),
}
# By GPU and engine. The errors are of roofline-v3 in the serving simulator, with gemmMfu, layerMicros, allReduceBwGBps,
# promptMicros and apiMicros fitted anew for each hypothesis, on the rows whose requests the KV cache holds.

_ALL = "all"  # engines


def _reasons(models: str) -> tuple[Reason, ...]:
    return (
        ("of InferenceMAX itself", of_inferencemax),
        *unusable(models),
        ("that do not state their concurrency", lambda rows: rows["concurrency"].isna()),
        (
            "of quantised GEMMs without a weight type",
            lambda rows: (rows["precision"] == "") & (rows["gemm_quant_mode"] != ""),
        ),
    )


def read(source: str, gpu: str, *, models: str = "") -> Imported:
    """Models on ``gpu``, aggregated; ``source`` is ``package`` or a ``silicon_sample.csv``, a colon, an engine.

    The engine is its name and version as campaigns have them, with a hyphen: ``package:vllm-0.12.0``; ``all`` stands
    for every one. Models are dense, or as ``models`` says
    (:func:`~calibrate.importers.silicon_sample.unusable`). Raises ImportFormatError if it, the package, a column or the
    GPU is missing, a cell is bad, ``models`` is not known, or no row is left.
    """
    file, _, engine = source.rpartition(":")
    sample = read_sample(file or source, gpu)
    rows, left_out = kept(sample, _reasons(models))
    named = rows["engine"].str.replace(" ", "-")
    if not file or engine != _ALL:
        _check_engine(source, named)
        left_out += _of_others(named, engine)
        rows = rows[named == engine]
    return imported_runs(
        in_order(_serving(rows, sample)),
        left_out,
        sample.gpu,
        meant_for(models, _info(rows, sample, left_out)),
    )


def _check_engine(source: str, named: "pd.Series[str]") -> None:
    file, _, engine = source.rpartition(":")
    counts = _counts(named)
    if file and engine in counts:
        return
    close = nearest(engine, counts) if file else ""
    raise ImportFormatError(
        f"{source}: say which engine after a colon, as in {file or source}:{next(iter(counts))} "
        f"(there are {', '.join(counts.values())}){close}"
    )


def _of_others(named: "pd.Series[str]", engine: str) -> tuple[str, ...]:
    others = [words for name, words in _counts(named).items() if name != engine]
    count = int((named != engine).sum())
    return (f"{count} rows of other engines and versions: {', '.join(others)}",) if others else ()


def _counts(named: "pd.Series[str]") -> dict[str, str]:
    """The engines by name, each in words with the number of its rows."""
    counts = named.value_counts().sort_index()
    return {str(name): f"{name} ({count} rows)" for name, count in counts.items()}


def _serving(rows: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    seen = [_SEEN.get((sample.gpu, engine), _NOTHING) for engine in rows["engine"]]
    each = pd.Series([told.requests_each for told in seen], index=rows.index, dtype=float)
    waits = [model in told.one_waits for model, told in zip(rows["model"], seen, strict=True)]
    serving = load_points(rows, sample.path).assign(
        num_requests=each * rows["concurrency"],
        input_tokens_mean=rows["isl"],
        output_tokens_mean=rows["osl"],
        max_num_seqs=(rows["concurrency"] - 1).where(pd.Series(waits, index=rows.index)),
    )
    return serving.dropna(axis="columns", how="all")


def _info(rows: pd.DataFrame, sample: Sample, left_out: tuple[str, ...]) -> dict[str, object]:
    models = ", ".join(sorted(set(rows["model"])))
    engines = sorted(set(rows["engine"]))
    seen = " ".join(_words(sample.gpu, engine, alone=len(engines) == 1) for engine in engines)
    return {
        "title": f"Load points in the style of InferenceMAX on {sample.gpu}, {', '.join(engines)}: {models}",
        "source": f"{sample.origin}: rows that are not InferenceMAX's",
        "licence": "Apache-2.0",
        "itl": "unknown",
        "notes": "Not InferenceMAX's: measured by others in the same form, a TTFT and a time per output token at a "
        "concurrency. The package names neither the client, the number of requests, a warm-up, nor the statistic; "
        "both are taken as means. Lengths are the nominal ones, without spread. An empty dtype is the model's own "
        "16-bit type: the package gives such rows no precision and no quantised GEMM. Where the KV cache holds fewer "
        "requests than are in flight (TTFT of tens of seconds), TTFT is mostly their wait. "
        f"{seen} Of this GPU's rows are left out, one reason after the other: "
        f"{'; '.join(left_out) or 'none'}.",
    }


def _words(gpu: str, engine: str, *, alone: bool) -> str:
    """What is seen of an engine, named where a campaign has several."""
    words = _SEEN.get((gpu, engine), _NOTHING).words
    return words if alone else f"Of {engine}: {words}"
