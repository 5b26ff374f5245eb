"""``calibrate show parameters``: every parameter with its bounds, in as many lines as fit any terminal."""

import dataclasses
from typing import TYPE_CHECKING, Any

from calibrate.cli.console import number, print_json, stdout
from calibrate.cli.entries import print_entry, print_heads

if TYPE_CHECKING:
    from sim.models.parameter import Parameter

_ROW = "{:<27} {:<16} {:<17} {}"


def show_parameters(latency_model: str | None, *, json: bool) -> None:
    """List the parameters of a latency model, as it reads them, or of all. Raises SimError for an unknown model."""
    listed = _parameters(latency_model)
    if json:
        print_json({"parameters": [describe(parameter) for parameter in listed]})
    else:
        _print(listed, latency_model)


def describe(parameter: "Parameter") -> dict[str, Any]:
    """All that is known of a parameter, and the latency models that read it."""
    from calibrate.outcome.result_json import to_plain

    plain: dict[str, Any] = to_plain(dataclasses.asdict(parameter))
    return {**plain, "latency_models": _readers(parameter.name)}


def _parameters(latency_model: str | None) -> "list[Parameter]":
    """The model's own, then the times around the engine, which go with every model."""
    from sim.models.registry import PARAMETERS, model_named
    from sim.models.request_times import REQUEST_TIMES

    if latency_model is None:
        return list(PARAMETERS.values())
    return [*model_named(latency_model).parameter_set, *REQUEST_TIMES]


def _readers(name: str) -> list[str]:
    """The latency models that have the parameter; none for a time around the engine."""
    from sim.models.registry import LATENCY_MODELS

    return [
        model.name
        for model in LATENCY_MODELS.values()
        if name in {parameter.name for parameter in model.parameter_set}
    ]


def _print(listed: "list[Parameter]", latency_model: str | None) -> None:
    console = stdout()
    console.print(f"Parameters of {latency_model or 'every latency model'}", style="bold")
    print_heads(console, _ROW.format("parameter", "unit", "bounds", "guide"))
    for one in listed:
        bounds, guide = (f"{number(low)} – {number(high)}" for low, high in _ranges(one))
        facts = _ROW.format(one.name, one.unit, bounds, guide)
        print_entry(console, facts, _about(one, with_models=latency_model is None))


def _ranges(parameter: "Parameter") -> tuple[tuple[float, float], tuple[float, float]]:
    return (parameter.lower, parameter.upper), parameter.guide


def _about(parameter: "Parameter", *, with_models: bool) -> str:
    """What it means, where it is seen, and which models read it."""
    readers = ", ".join(_readers(parameter.name)) or "every model"
    seen = f"{parameter.meaning}; seen in: {parameter.seen_in}"
    return f"{seen} ({readers})" if with_models else seen
