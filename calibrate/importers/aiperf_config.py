"""What the ``input_config`` of an AIPerf or GenAI-Perf export says of model and load, in each version's layout."""

import math
from collections.abc import Mapping
from typing import Any

from calibrate.importers.client_load import load_columns
from calibrate.importers.run_folder import Row, amount, section

_ARRIVALS = {"poisson": "poisson", "constant": "constant", "gamma": "gamma"}


def read_models(config: Mapping[str, Any]) -> list[str]:
    """The models that were asked for, by the client's names; none where the configuration is not there."""
    models = config.get("models", config.get("model_names", config.get("model")))
    if models is None:
        models = section(config, "endpoint").get("model_names")
    if isinstance(models, Mapping):
        models = models.get("items")
    listed = models if isinstance(models, list) else [models]
    return [str(item.get("name") if isinstance(item, Mapping) else item) for item in listed if item]


def read_load(config: Mapping[str, Any], where: str, row: Row) -> Row:
    """The columns of the load that was asked for; ``row`` holds the run's others. Empty where none is stated."""
    plan = {name: value for name, value in _plan(config).items() if value not in (None, "")}
    where = f"{where}: input_config"
    limit = amount(plan, "concurrency", where) if "concurrency" in plan else None
    if "request_rate" in plan:
        return load_columns(
            row,
            amount(plan, "request_rate", where),
            limit,
            _ARRIVALS.get(str(plan.get("mode")), ""),
            amount(plan, "smoothness", where) if "smoothness" in plan else 1.0,
        )
    return load_columns(row, math.inf, limit, "") if limit is not None else {"load": ""}


def _plan(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """``concurrency``, ``request_rate``, ``mode`` and ``smoothness`` of arrivals, where each version keeps them."""
    if isinstance(config.get("phases"), list):  # AIPerf, as 0.13 writes it
        return _phase(config["phases"])
    if loadgen := section(config, "loadgen"):  # AIPerf, as 0.2 wrote it
        fixed = section(config, "input").get("fixed_schedule")
        arrivals = loadgen.get("request_rate_mode") or loadgen.get("arrival_pattern")
        smoothness = {"smoothness": loadgen.get("arrival_smoothness")}
        return {} if fixed else {"mode": "poisson", **loadgen, **smoothness, **_mode(arrivals)}
    # GenAI-Perf
    return {**(section(config, "perf_analyzer.stimulus") or config), "mode": "constant"}


def _phase(phases: list[Any]) -> Mapping[str, Any]:
    """The last phase that is measured; a rate that changes within it is none."""
    measured = [phase for phase in phases if isinstance(phase, Mapping) and not _is_warmup(phase)]
    if not measured or measured[-1].get("rate_series") or measured[-1].get("rate_ramp"):
        return {}
    phase = measured[-1]
    return {
        "concurrency": phase.get("concurrency"),
        "request_rate": phase.get("rate"),
        "smoothness": phase.get("smoothness"),
        **_mode(phase.get("type")),
    }


def _is_warmup(phase: Mapping[str, Any]) -> bool:
    return "warmup" in (phase.get("kind"), phase.get("name")) or bool(
        phase.get("exclude_from_results")
    )


def _mode(arrivals: object) -> Mapping[str, Any]:
    return {} if arrivals is None else {"mode": arrivals}
