"""Options of what is served, which ``simulate`` and ``recommend`` share: the model, and how long requests are."""

from typing import Annotated

import typer

ServedOption = Annotated[
    str, typer.Option("--model", help="Model served: a name or a folder with a config.json.")
]
PromptTokensOption = Annotated[int | None, typer.Option(min=1, help="Mean length of prompts.")]
PromptStdOption = Annotated[float | None, typer.Option(min=0, help="Their standard deviation.")]
OutputTokensOption = Annotated[int | None, typer.Option(min=1, help="Mean length of outputs.")]
OutputStdOption = Annotated[float | None, typer.Option(min=0, help="Their standard deviation.")]
LengthsOption = Annotated[
    str, typer.Option(help="normal (cut at four times the mean) or lognormal.")
]
ArrivalsOption = Annotated[
    str, typer.Option(help="poisson, constant, gamma, or stage (as inference-perf).")
]
CvOption = Annotated[
    float | None, typer.Option(help="Of gamma: the gaps' standard deviation over their mean.")
]
SharedTokensOption = Annotated[
    int, typer.Option(min=0, help="Tokens of a system prompt before every prompt.")
]
DtypeOption = Annotated[
    str | None, typer.Option(help="Weight type, such as fp8; else the model's own.")
]
KvDtypeOption = Annotated[
    str | None, typer.Option(help="Type of cached keys and values, such as fp8; else 16 bits.")
]
