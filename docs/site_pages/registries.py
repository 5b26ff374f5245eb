"""Pages of the registries: what latency models read, what is imported and exported."""

from calibrate.exporters import EXPORTERS
from calibrate.importers import IMPORTERS
from sim.models.parameter import Parameter
from sim.models.registry import LATENCY_MODELS
from sim.models.request_times import REQUEST_TIMES
from site_pages.tables import table

_PARAMETER_HEADS = (
    "parameter",
    "unit",
    "bounds",
    "plausible range",
    "default",
    "meaning",
    "seen in",
)


def parameters_page() -> str:
    """The parameters of each latency model."""
    own = [_parameters(model.name, model.parameter_set) for model in LATENCY_MODELS.values()]
    around = _parameters("Times around the engine", REQUEST_TIMES)
    return "\n\n".join(
        [
            "# Parameters by latency model",
            "[Parameters](../parameters.md) says more of them. `calibrate show parameters` prints the same list.",
            *own,
            around,
            "",
        ]
    )


def _parameters(title: str, parameters: tuple[Parameter, ...]) -> str:
    return f"## {title}\n\n{table(_PARAMETER_HEADS, map(_parameter, parameters))}"


def _parameter(one: Parameter) -> tuple[str, ...]:
    default = "required" if one.default is None else f"{one.default:g}"
    bounds = f"{one.lower:g} – {one.upper:g}"
    plausible = f"{one.guide[0]:g} – {one.guide[1]:g}"
    return (f"`{one.name}`", one.unit, bounds, plausible, default, one.meaning, one.seen_in)


def formats_page() -> str:
    """What is imported and exported."""
    imports = [(f"`{name}`", one.source, one.summary) for name, one in IMPORTERS.items()]
    exports = [
        (f"`{name}`", one.tool, one.version, one.status, one.summary)
        for name, one in EXPORTERS.items()
    ]
    return "\n\n".join(
        [
            "# Formats",
            "`calibrate show formats` prints the same lists.",
            "## Imported",
            "How each is read: [campaigns](../campaigns.md#importers).",
            table(("format", "source", "what it is"), imports),
            "## Exported",
            "How each is written, and how far it is off: [exports](../exports.md).",
            table(("format", "tool", "version", "status", "what it is"), exports),
            "",
        ]
    )
