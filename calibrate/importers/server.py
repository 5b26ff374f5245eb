"""What a run's own server says of itself: its experiment configuration and vLLM's log."""

import re
from pathlib import Path

from calibrate.importers.model_names import named_model
from calibrate.importers.one_engine import split_in_log
from calibrate.importers.run_folder import Row, read_yaml
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import read_log_text

_CONFIG, _LOG = "exp-config.yaml", "vllm.log"
_IN_CONFIG = {
    "tp": "tensor_parallelism",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_num_seqs": "max_num_seqs",
}
_IN_ENGINE = {
    "model": r"served_model_name=([^,\s]+)",
    "tp": r"tensor_parallel_size=(\d+)",
    "dtype": r"\bdtype=torch\.(\w+)",
    "quantization": r"quantization=(\w+)",
}
_IN_LOG = {
    "max_num_batched_tokens": r"max_num_batched_tokens'?[=:] ?(\d+)",
    "max_num_seqs": r"max_num_seqs'?[=:] ?(\d+)",
    "block_size": r"\bblock_size'?[=:] ?(\d+)\b(?! ?bytes)",  # the weight loader reads in blocks too
    "kv_cache_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "num_gpu_blocks": r"(?:num_gpu_blocks is|# GPU blocks): (\d+)",
    "longest": r"Maximum concurrency for ([\d,]+) tokens per request",
}
_ENGINE = re.compile(r"LLM engine \(v([^)\s]+)\)(.*)")
_ARGUMENTS = re.compile(r"API server version|non-default args: |args: Namespace\(")
_AT_ONCE = r"tokens per request: (\d+(?:\.\d+)?)x"
_HIT_RATE = r"Prefix cache hit rate: (?:GPU: )?(\d+(?:\.\d+)?)%"
_WEIGHTS = {
    **{"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32"},
    **{"fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "awq": "int4", "awq_marlin": "int4"},
}
_NO_TYPE = ("", "none", "auto")
_MOST_DIGITS = 15
_COUNTS = ("tp", "max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size")


def read_server(folder: Path, client_model: object, log: Path | None = None) -> Row:
    """Columns of ``serving`` that a run's ``exp-config.yaml`` and ``log`` (``vllm.log``) give; the log prevails.

    ``model`` is the first that the registry knows of those which log, configuration and client name; without one it is
    left open, and so is a degree that nobody says. ``prefix_hit_rate`` is no column: the share of prompt tokens the
    server found in its cache, where it says so. Raises ImportFormatError if a file cannot be read or a count is none.
    """
    log = log or folder / _LOG
    said: Row = named_model(str(client_model)) if client_model else {}
    said |= {**_read_config(folder / _CONFIG), **(read_log(log) if log.exists() else {})}
    for name in _COUNTS:
        if name in said:
            said[name] = count(said[name], name, folder)
    return said


def with_cached(row: Row, hit_rate: object) -> Row:
    """The row with the prompt tokens that a server with this ``prefix_hit_rate`` found in its cache; None: not said."""
    tokens = row["input_tokens_mean"]
    if not isinstance(hit_rate, float) or not isinstance(tokens, float):
        return row
    return {**row, "cached_input_tokens_mean": round(hit_rate * tokens, 1)}


def weight_type(dtype: object, quantization: object) -> Row:
    """The column ``dtype`` that a server's options of these names mean; a quantization prevails.

    A scheme that leaves the type open (``compressed-tensors``) stands under its own name: the model's own type it is
    not. Empty where neither names anything (``auto``).
    """
    names = [
        str(name).lower() for name in (quantization, dtype) if str(name).lower() not in _NO_TYPE
    ]
    return {"dtype": _WEIGHTS.get(names[0], names[0])} if names else {}


def _read_config(path: Path) -> Row:
    content = read_yaml(path) if path.exists() else {}
    said = {
        column: content[key] for column, key in _IN_CONFIG.items() if content.get(key) is not None
    }
    model = content.get("model")
    return said if model is None else {**named_model(str(model), "model_in_config"), **said}


def read_log(path: Path) -> Row:
    """Columns of ``serving`` that the log of a vLLM server gives (0.6 to 0.22), and ``prefix_hit_rate``.

    ``model`` is left open where the server served it under a name that the registry does not know: that may be any.
    Where it was started several times, the last engine counts. Engines before 0.8 state the KV cache in blocks; how
    many tokens a block holds is then an argument, or follows from the most requests at once. Raises ImportFormatError
    if the file cannot be read, or the server was more than one engine or decoded speculatively.
    """
    text, engine = _last_engine(read_log_text(path))
    if engine and (split := split_in_log(text, engine[2])):
        raise ImportFormatError(f"{path}: {split}")
    said: Row = _of_engine(engine, path) if engine else {}
    counts = {
        name: count(value, name, path)
        for name, how in _IN_LOG.items()
        if (value := _last(how, text))
    }
    longest = counts.pop("longest", 0)
    at_once = _last(_AT_ONCE, text)
    said |= _with_cache_sizes(counts, longest * _amount(at_once or "0", "concurrency", path))
    if rate := _last(_HIT_RATE, text):
        said["prefix_hit_rate"] = _amount(rate, "prefix cache hit rate", path) / 100.0
    return said


def _of_engine(engine: "re.Match[str]", path: Path) -> Row:
    found = {name: _last(how, engine[2]) for name, how in _IN_ENGINE.items()}
    said: Row = (
        named_model(found["model"], "model_in_log") if found["model"] not in ("", "None") else {}
    )
    if found["tp"]:
        said["tp"] = count(found["tp"], "tp", path)
    return {
        **said,
        **weight_type(found["dtype"], found["quantization"]),
        "engine": f"vllm {engine[1]}",
    }


def _last_engine(text: str) -> tuple[str, "re.Match[str] | None"]:
    """The log from the last engine's arguments on, and the line that says what engine it is."""
    engines = list(_ENGINE.finditer(text))
    if not engines:
        return text, None
    arguments = list(_ARGUMENTS.finditer(text, 0, engines[-1].start()))
    return text[arguments[-1].start() if arguments else engines[-1].start() :], engines[-1]


def _last(how: str, text: str) -> str:
    """What the pattern's group is where it occurs last."""
    found = re.findall(how, text)
    return str(found[-1]) if found else ""


def _with_cache_sizes(counts: dict[str, int], about_tokens: float) -> dict[str, int]:
    """With the KV cache in tokens and a block's tokens, of which a log may state one, both or only blocks."""
    blocks = counts.pop("num_gpu_blocks", 0)
    if blocks:
        if "kv_cache_tokens" in counts and counts["kv_cache_tokens"] % blocks == 0:
            counts["block_size"] = counts["kv_cache_tokens"] // blocks
        elif about_tokens:
            counts.setdefault("block_size", round(about_tokens / blocks))
        if "block_size" in counts:
            counts.setdefault("kv_cache_tokens", blocks * counts["block_size"])
    return counts


def _amount(digits: str, name: str, path: Path) -> float:
    if len(digits.partition(".")[0]) > _MOST_DIGITS:
        raise ImportFormatError(f"{path}: {name} = {digits[:20]}… is too large: correct it")
    return float(digits)


def count(value: object, name: str, folder: Path | str) -> int:
    """A whole number that a client or server says of itself. Raises ImportFormatError for anything else."""
    digits = str(value).replace(",", "")
    if not digits.isdecimal():
        raise ImportFormatError(f"{folder}: {name} must be a whole number, got {str(value)[:60]!r}")
    if len(digits) > _MOST_DIGITS:
        raise ImportFormatError(f"{folder}: {name} = {digits[:20]}… is too large: correct it")
    return int(digits)
