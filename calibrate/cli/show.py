"""``calibrate show``: what there is to name."""

from enum import StrEnum
from typing import Annotated

import typer

from calibrate.cli.choices import LATENCY_MODELS, complete_latency_model, listed
from calibrate.cli.console import JsonOption
from calibrate.cli.show_lists import show_formats, show_gpus, show_models
from calibrate.cli.show_model import show_model
from calibrate.cli.show_parameters import show_parameters
from calibrate.records.errors import CalibrateError


class Topic(StrEnum):
    """What can be listed."""

    gpus = "gpus"
    models = "models"
    parameters = "parameters"
    formats = "formats"
    model = "model"


def command(
    topic: Annotated[Topic, typer.Argument(help="What to show.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="For model: a name, a folder with a config.json, or such a file.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="For model: the weight type, such as fp8; else the model's own."),
    ] = None,
    latency_model: Annotated[
        str | None,
        typer.Option(
            "--latency-model",
            help=f"For parameters: only those of one, as it reads them: {listed(LATENCY_MODELS)}.",
            metavar="NAME",
            autocompletion=complete_latency_model,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the known GPUs, models, parameters or formats; or describe one model."""
    _check(topic, source, dtype, latency_model)
    if topic is Topic.parameters:
        show_parameters(latency_model, json=json)
    elif topic is Topic.model:
        show_model(str(source), dtype, json=json)
    else:
        lists = {Topic.gpus: show_gpus, Topic.models: show_models, Topic.formats: show_formats}
        lists[topic](json=json)


def _check(topic: Topic, source: str | None, dtype: str | None, latency_model: str | None) -> None:
    """Raise CalibrateError for a model that is not named, and for what the topic does not take."""
    if topic is Topic.model and source is None:
        raise CalibrateError(
            "name the model: calibrate show model llama-3.1-8b, or a folder with a config.json"
        )
    if topic is not Topic.model and (source is not None or dtype is not None):
        raise CalibrateError(
            f"show {topic} takes nothing more; `calibrate show model NAME` describes a model"
        )
    if topic is not Topic.parameters and latency_model is not None:
        raise CalibrateError(
            f"show {topic} takes no --latency-model; `calibrate show parameters` does"
        )
