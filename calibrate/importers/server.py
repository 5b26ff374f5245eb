"""What a run's own server says of itself: its experiment configuration and vLLM's log."""

import re
from pathlib import Path
from typing import Any

from calibrate.errors import ImportFormatError
from calibrate.importers.run_folder import Row, read_yaml
from sim.architecture import architecture_names, canonical_model
from sim.units import DTYPE_BYTES

_CONFIG, _LOG = "exp-config.yaml", "vllm.log"
_IN_CONFIG = {
    "model_in_config": "model",
    "tp": "tensor_parallelism",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_num_seqs": "max_num_seqs",
}
_IN_LOG = {
    "version": r"LLM engine \(v([^)\s]+)\)",
    "model_in_log": r"served_model_name=([^,\s]+)",
    "tp": r"tensor_parallel_size=(\d+)",
    "dtype": r"dtype=torch\.(\w+)",
    "quantization": r"quantization=(\w+)",
    "max_num_batched_tokens": r"max_num_batched_tokens'?[=:] ?(\d+)",
    "max_num_seqs": r"max_num_seqs'?[=:] ?(\d+)",
    "kv_cache_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "num_gpu_blocks": r"num_gpu_blocks is: (\d+)",
}
_HIT_RATE = re.compile(r"Prefix cache hit rate: ([\d.]+)%")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_COUNTS = ("tp", "max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "num_gpu_blocks")


def read_server(folder: Path, client_model: object) -> Row:
    """Columns of ``serving`` that a run's ``exp-config.yaml`` and ``vllm.log`` give; the log prevails.

    ``model`` is the first that is named by the log, the configuration or the client, under the registry's name; one
    that the registry does not know is left open, and so is a degree that nobody says. ``prefix_hit_rate`` is no
    column: the share of prompt tokens the server found in its cache, where it says so. Raises ImportFormatError if a
    file cannot be read or a count is none.
    """
    said = {**_read_config(folder / _CONFIG), **_read_log(folder / _LOG)}
    for name in _COUNTS:
        if name in said:
            said[name] = _count(said[name], name, folder)
    blocks, tokens = said.pop("num_gpu_blocks", 0), said.get("kv_cache_tokens", 0)
    if blocks and tokens % blocks == 0:
        said["block_size"] = tokens // blocks
    if client_model:
        said["model_in_client"] = str(client_model)
    named = [said[key] for key in ("model_in_log", "model_in_config", "model_in_client") if key in said]
    model = canonical_model(str(named[0])) if named else ""
    return {**({"model": model} if model in architecture_names() else {}), **said}


def weight_type(dtype: object, quantization: object) -> Row:
    """The column ``dtype`` that a server's options of these names mean; a quantization prevails.

    Empty for what names no weight type (``auto``, a scheme that leaves it open).
    """
    names = [str(name).lower() for name in (quantization, dtype) if str(name).lower() not in ("", "none")]
    name = _DTYPES.get(names[0], names[0]) if names else ""
    return {"dtype": name} if name in DTYPE_BYTES else {}


def _read_config(path: Path) -> dict[str, Any]:
    content = read_yaml(path) if path.exists() else {}
    return {column: content[key] for column, key in _IN_CONFIG.items() if content.get(key) is not None}


def _read_log(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise ImportFormatError(f"{path}: cannot be read: {error.strerror}") from error
    found: dict[str, Any] = {name: match[1] for name, how in _IN_LOG.items() if (match := re.search(how, text))}
    version, dtype, quantization = (found.pop(name, "") for name in ("version", "dtype", "quantization"))
    if version:
        found["engine"] = f"vllm {version}"
    if dtype:
        found["dtype"] = quantization if quantization not in ("", "None") else _DTYPES.get(dtype, dtype)
    if rates := _HIT_RATE.findall(text):
        found["prefix_hit_rate"] = float(rates[-1]) / 100.0
    return found


def _count(value: object, name: str, folder: Path) -> int:
    digits = str(value).replace(",", "")
    if not digits.isdecimal():
        raise ImportFormatError(f"{folder}: {name} must be a whole number, got {value!r}")
    return int(digits)
