"""The options of a fit on the command line, made of :class:`calibrate.job.options.Options`: none is listed twice."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer

from calibrate.cli.choices import AUTO, LATENCY_MODELS, complete_latency_model_or_auto
from calibrate.cli.console import name_values
from calibrate.job.options import Options

_REPEATED = ("fix", "free", "cv")
_NAMED: dict[str, dict[str, Any]] = {
    "latency_model": {
        "help": f"{', '.join(LATENCY_MODELS)}, or {AUTO}: the one with the least held-out error.",
        "metavar": "NAME",
        "autocompletion": complete_latency_model_or_auto,
    },
}
"""Options whose names are listed, and completed by the shell."""


def with_fit_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every option of a fit in its signature, in place of ``**chosen``."""
    own = inspect.signature(command).parameters.values()
    named = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*named, *_parameters()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as inspect reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def read_fit_options(chosen: Mapping[str, Any]) -> Options:
    """The options as they were given; what was not keeps its default. Raises CalibrateError for one out of range."""
    given = {name: value for name, value in chosen.items() if name not in _REPEATED or value}
    if "fix" in given:
        given["fix"] = name_values(given["fix"], "--fix")
    return Options(**given)


def _parameters() -> Iterator[inspect.Parameter]:
    types = typing.get_type_hints(Options)
    for field in dataclasses.fields(Options):
        is_repeated = field.name in _REPEATED
        flag = _flag(field.name, types[field.name])
        more = _NAMED.get(field.name, {"help": field.metadata["help"]})
        option = typer.Option(flag, **more, **field.metadata["limits"])
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if is_repeated else field.default,
            annotation=Annotated[list[str] | None if is_repeated else types[field.name], option],
        )


def _flag(name: str, kind: object) -> str:
    """``--jobs``; where it may be asked for, forbidden, or neither, ``--serving/--no-serving``."""
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if kind == bool | None else f"--{flag}"
