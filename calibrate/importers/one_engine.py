"""Why a run tells nothing of one engine's steps: it had several engines, or its tokens did not come one a step."""

import re
from collections.abc import Mapping
from typing import Any

SPECULATIVE = "it decoded speculatively: its time per token is not that of a step"
_ONE_ENGINE = "the table is of one engine"
_APART = f"its server was disaggregated, prefill and decode in engines of their own: {_ONE_ENGINE}"
_SPLIT = {
    "data_parallel_size": "data-parallel replicas",
    "dp_size": "data-parallel replicas",
    "pipeline_parallel_size": "pipeline stages",
    "pp_size": "pipeline stages",
}
_PHASES = ("prefill", "decode")
_WORKERS = ("workers", "servers", "backends")
_ROLE_IN_LOG = re.compile(r"kv_role['\"]?[=:] ?['\"]kv_(?:producer|consumer)\b")
_SPECULATIVE_IN_LOG = re.compile(r"speculative_config=(?!None)\w")


def split_server(options: Mapping[str, Any]) -> str:
    """Why a server with these options was more than one engine; empty where it was one."""
    split = [name for name in _SPLIT if str(options.get(name) or "1") != "1"]
    return f"its server had {options[split[0]]} {_SPLIT[split[0]]}: {_ONE_ENGINE}" if split else ""


def split_sglang(said: object) -> str:
    """The same of what an SGLang server, or a router before several, said of itself."""
    if isinstance(said, list):
        return _routed(len(said)) if len(said) > 1 else split_sglang(said[0] if said else {})
    if not isinstance(said, Mapping):
        return ""
    if any(said.get(phase) for phase in _PHASES) or said.get("disaggregation_mode") in _PHASES:
        return _APART
    workers = [said[name] for name in _WORKERS if isinstance(said.get(name), list)]
    if workers and len(workers[0]) > 1:
        return _routed(len(workers[0]))
    return split_server(said)


def split_in_log(log: str, engine: str) -> str:
    """The same of a vLLM server's ``log``, and of the configuration of its ``engine``, as the log states it."""
    if _ROLE_IN_LOG.search(log):
        return _APART
    if _SPECULATIVE_IN_LOG.search(engine):
        return SPECULATIVE
    sizes = {name: re.search(rf"\b{name}=(\d+)", engine) for name in _SPLIT}
    return split_server({name: found[1] for name, found in sizes.items() if found})


def _routed(engines: int) -> str:
    return f"it was routed to {engines} engines: {_ONE_ENGINE}"
