"""Step tables of AISimulate (ai-dynamo/aisimulate, once AIConfigurator): what its scheduler and planner run on.

``systems/<system>.yaml`` and under ``systems/data/<system>/<backend>/<version>/`` ``fpm_forward_perf.parquet`` with its
metadata: one row a step, by the model's path, how it is split and quantised, and sums over the batch (tokens computed,
tokens read of the cache). Its engine looks a step up, interpolates inside the table and refuses what lies outside; so
the table starts at one request and one token. The one measurement policy that it takes names a measurement; cell_id
and ``calibrate_source`` say that these rows are modelled.
"""

import hashlib
import io
from typing import Any

import numpy as np
import pandas as pd
import yaml

from calibrate.exporters.aiconfigurator import write as system_file
from calibrate.exporters.exported import Exported, Source
from calibrate.exporters.step_times import StepTimes, doubling, step_times
from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.outcome.result_json import dump_json
from calibrate.records.distribution import DISTRIBUTION, VERSION
from calibrate.records.errors import CalibrateError
from sim.architecture import Architecture
from sim.architecture_files import architecture_names
from sim.hardware import canonical_gpu, check_gpu_name
from sim.units import US_PER_MS

BACKEND = "vllm"
BACKEND_VERSION = "9.9.9"
"""No engine's: rows of ours must never pass for those of a release."""

SCHEMA_VERSION = 7
_FORMAT = "aisimulate"
_SIXTEEN_BITS = ("bf16", "fp16")
_LEAST_CONTEXT = 16  # tokens of a block of vLLM's cache
_CONDITIONS = {
    "execution_profile": "full",
    "engram_residency": "none",
    "input_modality": "text",
    "partition_policy": "balanced_v1",
    "kv_seed_regime": "none",
}
_PINNED = {
    "schema_name": "aic_fpm_forward_perf",
    "schema_version": SCHEMA_VERSION,
    "coordinate_system": "iteration_totals_balanced_v1",
    "measurement_policy": "dynamo_native_single_sample_v1",
}


def write(source: Source) -> Exported:
    """The files of a folder. Raises CalibrateError without a model, or for weights that are not of 16 bits;
    HardwareError without what a system file needs; and what the times raise.
    """
    gpu = check_gpu_name(source.gpu)
    system = SYSTEMS.get(canonical_gpu(gpu), gpu.lower())
    served = list(step_times(source.hardware, source.serving, _FORMAT))
    for times in served:
        times.serving.latency_model.check_length(times.arch, 2 * times.serving.max_context)
    tables = [_rows(times, system) for times in served]
    parquet = _parquet(pd.concat(tables, ignore_index=True))
    rows = sum(map(len, tables))
    data = f"systems/data/{system}/{BACKEND}/{BACKEND_VERSION}/fpm_forward_perf"
    return Exported(
        {
            f"systems/{system}.yaml": str(system_file(source).text),
            f"{data}.parquet": parquet,
            f"{data}.metadata.json": dump_json(_metadata(served, system, rows, parquet)),
            "predict.yaml": yaml.safe_dump(_query(served[0], system), sort_keys=False),
        },
        _notes(served, rows),
    )


def model_paths(times: StepTimes) -> list[str]:
    """The paths under which the model's rows can be asked for: those of Hugging Face, else its name."""
    aliases = architecture_names().get(times.arch.name, ())
    return [alias for alias in aliases if "/" in alias] or [times.name]


def _rows(times: StepTimes, system: str) -> pd.DataFrame:
    """Prefills and decodes of one served model, under each of its paths."""
    steps = pd.concat([_prefills(times), _decodes(times)], ignore_index=True)
    fixed = _identity(times, system) | _CONDITIONS | {"calibrate_source": _source(times)}
    rows = steps.assign(**fixed)
    rows["cell_id"] = f"calibrate-modelled-{times.arch.name}-tp{times.tp}-" + rows["workload_kind"]
    return pd.concat([rows.assign(model_path=path) for path in model_paths(times)])


def _prefills(times: StepTimes) -> pd.DataFrame:
    serving = times.serving
    limit = serving.max_num_batched_tokens
    cached = [0, *doubling(_LEAST_CONTEXT, serving.max_context).tolist()]
    shapes = [
        (count, new, context)
        for count in doubling(1, min(serving.max_num_seqs, limit)).tolist()
        for new in doubling(1, limit // count).tolist()
        for context in cached
    ]
    count, new, context = np.array(shapes, dtype=np.int64).T
    return _steps("prefill", count, new, context, times.prefill_us(count, new, context))


def _decodes(times: StepTimes) -> pd.DataFrame:
    """Counts in pairs (k, k + 1), and contexts to half and twice the limits.

    Between counts the engine goes in a straight line from the row after the last pair to the first row of the next,
    at the same tokens in total, which both must hold; without pairs it takes the largest count for every other.
    """
    serving = times.serving
    rungs = doubling(1, serving.max_num_seqs)
    counts = np.union1d(rungs, rungs[:-1] + 1)
    contexts = doubling(_LEAST_CONTEXT // 2, 2 * serving.max_context)
    count, context = (axis.ravel() for axis in np.meshgrid(counts, contexts, indexing="ij"))
    return _steps("decode", count, np.zeros_like(count), context, times.decode_us(count, context))


def _steps(kind: str, count: Any, new: Any, context: Any, us: Any) -> pd.DataFrame:
    """Rows by the sums over the batch, the coordinates of that table."""
    return pd.DataFrame(
        {
            "workload_kind": kind,
            "batch_size": count,
            "total_prefill_tokens": count * new,
            "total_kv_read_tokens": count * context,
            "latency_ms": us / US_PER_MS,
        }
    )


def _identity(times: StepTimes, system: str) -> dict[str, Any]:
    """The columns by which the engine finds a cell: where, how quantised, how split."""
    arch = times.arch
    if arch.dtype not in _SIXTEEN_BITS:
        raise CalibrateError(
            f"{_FORMAT}: {arch.name} has weights in {arch.dtype}, and rows name the type of every operation, which a "
            "weight type does not tell: give a model in 16 bits"
        )
    types = dict.fromkeys(
        (
            "weight_quantization",
            "gemm_quant_mode",
            "moe_quant_mode",
            "fmha_quant_mode",
            "kv_cache_dtype",
        ),
        "bfloat16",
    )
    return {
        "system": system,
        "backend": BACKEND,
        "backend_version": BACKEND_VERSION,
        **types,
        "comm_quant_mode": "half",
        "tp": times.tp,
        "pp": 1,
        "dp": 1,
        "moe_tp": times.tp if arch.experts is not None else 1,
        "moe_ep": 1,
        "cp": 1,
        "moe_backend": "auto",
        "attention_backend": "auto",
        "enable_wideep": False,
        "enable_eplb": False,
        "model_config_sha256": _config_sha256(arch),
    }


def _config_sha256(arch: Architecture) -> str:
    """Of the sizes that the times were made of, for the file of the model itself is not here."""
    return hashlib.sha256(repr(arch).encode()).hexdigest()


def _source(times: StepTimes) -> str:
    return f"modelled by {DISTRIBUTION} {VERSION}, {times.serving.latency_model.name}"


def _parquet(rows: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    rows.to_parquet(content, index=False, compression="zstd")
    return content.getvalue()


def _metadata(served: list[StepTimes], system: str, rows: int, parquet: bytes) -> dict[str, Any]:
    return {
        **_PINNED,
        "system": system,
        "backend": BACKEND,
        "backend_version": BACKEND_VERSION,
        "row_count": rows,
        "parquet_sha256": hashlib.sha256(parquet).hexdigest(),
        "note": _error(served, rows),
        "calibrate_source": _source(served[0]),
    }


def _query(times: StepTimes, system: str) -> dict[str, Any]:
    """A question to ``aisimulate predict`` about the first model, to start from."""
    experts = times.arch.experts is not None
    parallelism = {
        "replicas": 1,
        "tensor": times.tp,
        "pipeline": 1,
        "attention_data": 1,
        "moe_tensor": times.tp if experts else 1,
        "moe_expert": 1,
    }
    timing = {"type": "default", "forward_model": "fpm", "systems_paths": ["systems"]}
    return {
        "traffic": {
            "source": {
                "type": "synthetic",
                "input_tokens": times.serving.prompt_tokens,
                "output_tokens": times.serving.output_tokens,
            },
            "load": {"type": "concurrency", "concurrency": 8},
            "stop": {"requests": 64},
        },
        "engine": {
            "mode": "aggregated",
            "model": model_paths(times)[0],
            "hardware": system,
            "backend": BACKEND,
            "backend_version": BACKEND_VERSION,
            "workers": {"aggregated": {"parallelism": parallelism, "timing": timing}},
        },
    }


def _error(served: list[StepTimes], rows: int) -> str:
    model = served[0].serving.latency_model.name
    return (
        f"{rows:,} rows modelled by {DISTRIBUTION} {VERSION}, none measured: times of {model} to the last digit on the "
        "table's points; the engine interpolates between them"
    )


def _notes(served: list[StepTimes], rows: int) -> tuple[str, ...]:
    return (
        f"{_error(served, rows)}.",
        "In the folder: AIC_ALLOW_UNLISTED_VERSIONS=1 aisimulate predict -c predict.yaml --output-dir out",
    )
