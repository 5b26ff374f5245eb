"""What a coefficient set of BLIS goes with: the chip of its catalog, and a scenario with its deployment."""

from typing import Any

import yaml

from calibrate.exporters.exported import Source
from calibrate.exporters.step_times import one_step_times
from sim.architecture_files import architecture_names
from sim.hardware import canonical_gpu, check_gpu_name

REGISTRY_SETS = (
    "cost-model-primitives",
    "cost-model-collectives",
    "cost-model-host-overheads",
    "cost-model-attention",
    "cost-model-recurrent",
    "cost-model-memory",
)
_CHIPS = {"GB200": "gb200-nvl72"}
_MODELS = (
    *("llama-2-70b-hf", "llama-2-7b-hf", "llama-3.1-70b-instruct", "llama-3.1-8b-instruct"),
    *("codellama-34b-instruct-hf", "gpt-oss-120b", "qwen2.5-7b-instruct", "qwen3-14b"),
    *("qwen3-30b-a3b", "qwen3.5-397b-a17b", "mixtral-8x7b-v0.1", "mixtral-8x22b-v0.1"),
    *("deepseek-v3", "kimi-k2.5", "minimax-m2.5", "minimax-m2.7", "mistral-nemo-instruct-2407"),
)
"""Models of the catalog that our registry knows too."""

_ENGINE_VERSION = "0.29.0"
_CHIP_KEYS = ("TFlopsPeak", "TFlopsFP8", "BwPeakTBs", "MemoryGiB", "IntraNodeBwGBps")


def chip_name(gpu: str) -> str:
    """What the catalog calls a GPU. Raises HardwareError for what is no GPU's name."""
    return _CHIPS.get(canonical_gpu(gpu), check_gpu_name(gpu).lower())


def chip(source: Source) -> str:
    """The chip's file, of what is known of its peaks, memory and link."""
    values = source.peaks.values
    content: dict[str, Any] = {"Provenance": "vendor_spec"}
    content |= {key: values[key] for key in _CHIP_KEYS if values.get(key, 0.0) > 0}
    return yaml.safe_dump(content, sort_keys=False)


def scenario(source: Source, chip: str, sets: list[str]) -> tuple[dict[str, str], str]:
    """Scenario and deployment of the one model that was named; none, and why, where none or an unknown one was."""
    if not source.serving.models:
        return {}, "No scenario: name a model with --models."
    times = one_step_times(source.hardware, source.serving, "blis-coefficients")
    paths = [path.rpartition("/")[2].lower() for path in _aliases(times.arch.name)]
    model = next((path for path in paths if path in _MODELS), None)
    if model is None:
        return {}, f"No scenario: the catalog has no {times.arch.name}."
    name = f"{model}-on-{chip}"
    content = {
        "kind": "Scenario",
        "name": name,
        "model": model,
        "coefficients": [*REGISTRY_SETS, *sets],
        "engine_version": _ENGINE_VERSION,
        "workload": {"shape": "chatbot"},
        "cluster": {"hardware": chip, "nodes": 1, "gpus_per_node": max(8, times.tp)},
    }
    engine = {
        "block_size": 16,
        "max_num_seqs": times.serving.max_num_seqs,
        "max_num_batched_tokens": times.serving.max_num_batched_tokens,
        "gpu_memory_utilization": 0.9,
    }
    pool = {
        "role": "colocated",
        "nodes": 1,
        "parallel": {"tp": times.tp, "pp": 1, "dp": 1},
        "engine": engine,
    }
    deployment = {"kind": "Deployment", "name": f"tp{times.tp}", "pools": [pool]}
    files = {
        f"scenarios/{name}.yaml": yaml.safe_dump(content, sort_keys=False),
        f"scenarios/deployments/tp{times.tp}.yaml": yaml.safe_dump(deployment, sort_keys=False),
    }
    return (
        files,
        f"Scenario {name}: the registry's sets, then ours, which count where both hold a name.",
    )


def _aliases(name: str) -> tuple[str, ...]:
    return (name, *architecture_names().get(name, ()))
