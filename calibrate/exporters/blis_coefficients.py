"""Coefficient sets, chip, scenario and deployment of BLIS since August 2026 (blis-schemas v0.2.2, blis-registry 0.1.1).

Its latency kernel reads constants of closed forms from a registry, chips from a catalog, and a scenario that lists
sets; of two sets that hold a name for a chip the later counts, so ours are listed after the registry's. A constant is
valid only for its form: those whose form the kernel tables show are fitted to it
(:mod:`calibrate.exporters.blis_laws`), those that mean the same here and there are taken over. The rest is the
registry's own, and named.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import yaml

from calibrate.campaign.campaign import Campaign
from calibrate.exporters.blis_laws import Constant, all_reduce, attention_decode, gemm
from calibrate.exporters.blis_rules import problems
from calibrate.exporters.blis_scenario import chip as chip_file
from calibrate.exporters.blis_scenario import chip_name, scenario
from calibrate.exporters.exported import Exported, Source, achieved_bandwidth
from calibrate.outcome.result import FitResult
from calibrate.records.errors import CalibrateError

LEFT_TO_THE_REGISTRY = (
    "host_completion",
    "host_launch_eager_per_layer",
    "host_replay_graph_per_step",
    "host_launch_per_kernel",
    "attention_prefill_floor",
    "attention_prefill_work_scale",
    "moe_routing_imbalance_median",
    "hbm_constant_latency",
)
"""Names that steps and serving results do not show by themselves: the registry's own values stand."""

_RANKS = (2, 4, 8)
_WIDER = (
    1.959963984540054 / 1.6448536269514722
)  # a normal distribution's 95% interval over its 90% one
_HOST = {
    "apiPromptTokenMicros": "host_admission_per_token",
    "apiOutputTokenMicros": "host_output_token",
}
"""Times around the engine that mean the same there, as fits to serving results find them."""

Entry = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """What an entry is made from: a constant, its law in words, and where the measurements are."""

    name: str
    units: str
    constant: Constant
    law: str


def write(source: Source) -> Exported:
    """The files of a folder. Raises CalibrateError where nothing can be filled or a rule of the format is broken;
    HardwareError without a peak.
    """
    chip = chip_name(source.gpu)
    sets = {
        "primitives": [*_gemm(source, chip), *_derate(source, chip)],
        "attention": _attention(source, chip),
        "collectives": _collectives(source, chip),
        "host-overheads": list(_host(source, chip)),
    }
    filled = {name: entries for name, entries in sets.items() if entries}
    if not filled:
        raise CalibrateError(
            "blis-coefficients: nothing to fill: give campaigns with kernel tables (gemm.csv, attention_decode.csv, "
            "allreduce.csv), BwEffConstant in the configuration, or a --run that was fitted to serving results"
        )
    files = {
        f"registry/coefficients/{_set_name(chip, name)}.yaml": _set(_set_name(chip, name), entries)
        for name, entries in filled.items()
    }
    files[f"catalog/hardware/{chip}.yaml"] = chip_file(source)
    files_of_scenario, said = scenario(source, chip, [_set_name(chip, name) for name in filled])
    count = sum(map(len, filled.values()))
    notes = (
        f"{count} constants in {len(filled)} sets ({', '.join(filled)}); each entry states the mean error of its law.",
        f"Left to the registry's own: {', '.join(LEFT_TO_THE_REGISTRY)}; the recurrent and memory sets.",
        said,
    )
    return Exported(files | files_of_scenario, notes)


def _set_name(chip: str, name: str) -> str:
    return f"calibrate-{chip}-{name}"


def _set(name: str, entries: Sequence[Entry]) -> str:
    content = {"kind": "CoefficientSet", "name": name, "coefficients": list(entries)}
    found = problems(content)
    if found:
        raise CalibrateError(f"blis-coefficients: {name}: {'; '.join(found[:3])}")
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _table(source: Source, name: str) -> pd.DataFrame:
    tables = [one.kernels[name] for one in _campaigns(source) if len(one.kernels.get(name, ()))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _campaigns(source: Source) -> Sequence[Campaign]:
    """The campaigns; none where there are none, for some entries need none."""
    return source.measured if source.has_campaigns else ()


def _cite(source: Source, table: str) -> list[dict[str, str]]:
    name = table.removesuffix(".csv")
    having = [one.name for one in _campaigns(source) if len(one.kernels.get(name, ()))]
    names = ", ".join(f"{campaign}/{table}" for campaign in having)
    return [{"kind": "model", "cite": f"campaigns of {source.gpu}: {names}", "role": "primary"}]


def _entry(fitted: _Fitted, chip: str, sources: list[dict[str, str]]) -> Entry:
    constant = fitted.constant
    fields: dict[str, Any] = {
        "value": constant.value,
        "units": fitted.units,
        "method": "measured",
        "fitted": constant.ci95 is not None,
        "scope": {"hardware": [chip]},
        "sources": sources,
        "rationale": f"{fitted.law}: mean error {constant.error:.1%} on {constant.rows:,} rows.",
    }
    if constant.ci95 is not None:
        fields["ci95"] = list(constant.ci95)
    return {fitted.name: fields}


def _gemm(source: Source, chip: str) -> list[Entry]:
    found = gemm(_table(source, "gemm"), source.peaks.positive("TFlopsPeak"))
    if found is None:
        return []
    law = "The best efficiency of each M is eps·M/(M + M_half) of the dense 16-bit peak"
    constants = (("gemm_eps_max_bf16", "dimensionless"), ("gemm_m_half_bf16", "tokens"))
    return [
        _entry(_Fitted(name, units, constant, law), chip, _cite(source, "gemm.csv"))
        for (name, units), constant in zip(constants, found, strict=True)
    ]


def _attention(source: Source, chip: str) -> list[Entry]:
    found = attention_decode(_table(source, "attention_decode"))
    if found is None:
        return []
    law = "A decode's attention takes floor + KV bytes of a rank / rate"
    constants = (
        ("attention_decode_floor", "us_per_transfer"),
        ("attention_decode_rate", "bytes_per_us"),
    )
    return [
        _entry(_Fitted(name, units, constant, law), chip, _cite(source, "attention_decode.csv"))
        for (name, units), constant in zip(constants, found, strict=True)
    ]


def _collectives(source: Source, chip: str) -> list[Entry]:
    rows, entries = _table(source, "allreduce"), []
    law = "An all-reduce takes max(floor + size / transition rate, size / peak rate)"
    constants = (
        ("collective_floor", "us_per_transfer"),
        ("collective_transition_rate", "bytes_per_us"),
        ("collective_peak_rate", "bytes_per_us"),
    )
    for ranks in _RANKS:
        found = all_reduce(rows, ranks)
        for (name, units), constant in zip(constants, found or (), strict=found is not None):
            full = f"{name}_all_reduce_fp16_{ranks}rank_{chip.replace('-', '_')}"
            fitted = _Fitted(full, units, constant, law)
            entries.append(_entry(fitted, chip, _cite(source, "allreduce.csv")))
    return entries


def _derate(source: Source, chip: str) -> Iterator[Entry]:
    """The share of the bandwidth, where the configuration has it; fitted and with its interval where a run has."""
    if "BwEffConstant" not in source.hardware.values:
        return
    yield _taken_over(
        source,
        chip,
        "BwEffConstant",
        "hbm_derate",
        "dimensionless",
        achieved_bandwidth(source.hardware),
    )


def _host(source: Source, chip: str) -> Iterator[Entry]:
    for key, name in _HOST.items():
        value = source.hardware.values.get(key, 0.0)
        if value > 0:
            yield _taken_over(source, chip, key, name, "us_per_token", value)


def _taken_over(source: Source, chip: str, key: str, name: str, units: str, value: float) -> Entry:
    """A parameter that means the same there: measured where a run fitted it, else no more than assumed."""
    fields: dict[str, Any] = {"value": value, "units": units}
    interval = _ci90(source.run, key)
    if source.run is None or interval is None:
        fields |= {
            "method": "assumed",
            "fitted": False,
            "scope": {"hardware": [chip]},
            "rationale": f"{key} of a configuration ({source.hardware.source}) that comes without a run: no "
            "measurement is cited, and a run of calibrate fit with an interval would replace it.",
        }
        return {name: fields}
    low, high = interval
    fields |= {
        "method": "measured",
        "fitted": True,
        "scope": {"hardware": [chip]},
        "ci95": [min(value, low), max(value, high)],
        "sources": [{"kind": "model", "cite": _run_cite(source), "role": "primary"}],
        "rationale": f"{key} of {source.run.latency_model}; its 90% interval widened to 95% as of a normal "
        "distribution of the logarithm.",
    }
    return {name: fields}


def _run_cite(source: Source) -> str:
    return f"calibrate run {source.hardware.source} of {source.gpu}"


def _ci90(run: FitResult | None, key: str) -> tuple[float, float] | None:
    """The interval of a parameter in a run, from steps or serving, widened to 95%; None where a side is open."""
    if run is None:
        return None
    intervals = {parameter.name: parameter.ci90 for parameter in run.parameters}
    if run.serving is not None:
        intervals |= {tuned.name: tuned.ci90 for tuned in run.serving.tuned if tuned.ci90}
    low, high = intervals.get(key) or (None, None)
    if low is None or high is None or low <= 0.0:
        return None
    middle, half = math.sqrt(low * high), math.sqrt(high / low) ** _WIDER
    return middle / half, middle * half
