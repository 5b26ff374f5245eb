"""What the ``config.yaml`` of an inference-perf run says of a stage: its load, and lengths that had to be kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibrate.importers.run_folder import Row, amount, entries, section
from calibrate.records.errors import ImportFormatError

_DISTINCT = (
    ("num_groups", "num_unique_system_prompts"),
    ("num_prompts_per_group", "num_users_per_system_prompt"),
)
"""The factors of the number of distinct prompts, each under the names that the client's versions give it."""


def asked_load(
    config: Mapping[str, Any], stage: int, where: Path, summary: Mapping[str, Any], path: Path
) -> Row:
    """The load of a stage; from the ``summary`` in its own file, ``path``, where the configuration lists no stages.

    It lists none of a sweep, whose rates the client finds as it goes. Raises ImportFormatError if neither says it, or
    the configuration lists stages but not this one.
    """
    load = section(config, "load")
    if not load.get("stages") or load.get("sweep"):
        return _load(summary, path, "concurrency", "requested_rate")
    stages = entries(config, "load.stages", where)
    if stage >= len(stages):
        raise ImportFormatError(
            f"{where}: load.stages has no stage {stage}, of which there is a result"
        )
    return _load(stages[stage], where, "concurrency_level", "rate")


def asked_lengths(config: Mapping[str, Any], where: Path) -> Row:
    """How many prompts were distinct, and the output length that was asked for where the server had to keep to it.

    Raises ImportFormatError if prompts were shared and the number of distinct ones is not there.
    """
    shared = section(config, "data.shared_prefix")
    asked = section(config, "data.output_distribution")
    row: Row = {"distinct_prompts": _distinct(shared, where)} if shared else {}
    if not section(config, "server").get("ignore_eos"):
        return row
    if "output_len" in shared:
        length = amount(shared, "output_len", where)
        return {**row, "output_tokens_mean": length, "output_tokens_std": 0.0}
    return {**row, "output_tokens_mean": amount(asked, "mean", where)} if "mean" in asked else row


def _load(asked: object, where: Path, concurrency: str, rate: str) -> Row:
    if isinstance(asked, Mapping) and asked.get(concurrency) is not None:
        return {"load": "closed", "concurrency": amount(asked, concurrency, where)}
    return {"load": "poisson", "request_rate": amount(asked, rate, where)}


def _distinct(shared: Mapping[str, Any], where: Path) -> float:
    count = 1.0
    for names in _DISTINCT:
        name = next((name for name in names if shared.get(name) is not None), names[0])
        count *= amount(shared, name, where)
    return count
