"""A recommendation as plain values: for JSON, and as a table with a row a candidate."""

import dataclasses
from typing import Any

import pandas as pd

from calibrate.capacity.recommendation import Choice, Fleet, Recommendation

_FLEET = [field.name for field in dataclasses.fields(Fleet)]
_FLEET_NAMES = {"sure": "sure_replicas", "mean": "mean_replicas"}


def as_json(found: Recommendation) -> dict[str, Any]:
    """The document of ``--json``."""
    return {
        "model": found.model,
        "slo": {
            "limits": {limit.name: limit.most_us / 1e3 for limit in found.slo.limits},
            "goodput": found.slo.goodput,
        },
        "demand": None if found.demand is None else dataclasses.asdict(found.demand),
        "ranked_by": found.ranked_by,
        "draws": found.draws,
        "candidates": [_plain(one) for one in found.choices],
        "excluded": [dataclasses.asdict(one) for one in found.excluded],
        "measure_next": found.next or None,
        "notes": list(found.notes),
    }


def as_table(found: Recommendation) -> pd.DataFrame:
    """One row a candidate, best first, then one for each that is excluded, with ``excluded`` saying why."""
    rows = [_flat(_plain(one)) for one in found.choices]
    rows += [_excluded(one) for one in map(dataclasses.asdict, found.excluded)]
    return pd.DataFrame(rows)


def _excluded(one: dict[str, Any]) -> dict[str, Any]:
    why = one.pop("why")
    return {**one, "excluded": why}


def _plain(one: Choice) -> dict[str, Any]:
    fleet = None if one.fleet is None else _fleet(one.fleet)
    return {
        "gpu": one.candidate.gpu,
        "tp": one.candidate.tp,
        "max_num_seqs": one.candidate.max_num_seqs,
        "max_num_batched_tokens": one.candidate.max_num_batched_tokens,
        "kv_cache_tokens": one.kv_cache_tokens,
        "rate_per_s": one.rate,
        "rate_low_per_s": one.band.low,
        "rate_high_per_s": one.band.high,
        "rate_per_s_per_gpu": one.rate_per_gpu,
        "tokens_per_s": one.tokens_per_s,
        "output_tokens_per_s": one.output_tokens_per_s,
        "output_tokens_per_s_per_gpu": one.output_tokens_per_s_per_gpu,
        "cost_per_million_tokens": one.cost_per_million_tokens,
        "cost_per_million_output_tokens": one.cost_per_million_output_tokens,
        "binds": one.binding.words,
        "missed_beyond": list(one.binding.limits),
        "waits_for": one.binding.waits_for,
        "fleet": fleet,
        **one.latencies,
        "curve": [dataclasses.asdict(point) for point in one.curve],
    }


def _fleet(fleet: Fleet) -> dict[str, Any]:
    return {_FLEET_NAMES.get(name, name): getattr(fleet, name) for name in _FLEET}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Nested figures as columns: ``ttft_ms_p99``; those of the fleet under their own names."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            prefix = "" if name == "fleet" else f"{name}_"
            flat |= {f"{prefix}{key}": figure for key, figure in value.items()}
        elif isinstance(value, list):
            flat |= {} if name == "curve" else {name: " ".join(value)}
        elif name != "fleet":
            flat[name] = value
    return flat
