"""What a model's ``generation_config.json`` asks of a sampler."""

from collections.abc import Mapping
from typing import Any

from sim.architecture import ALL_TOKENS, Sampling
from sim.architecture_files.fields import shown
from sim.errors import ArchitectureError


def sampling_of(config: Mapping[str, Any], where: str) -> Sampling:
    """How tokens are drawn, as vLLM and SGLang read the file; ``where`` names it in messages.

    A temperature of 0 takes the likeliest token: nothing is cut off. Raises ArchitectureError, naming file and field.
    """
    if _number(config, "temperature", 1.0, where) == 0:
        return ALL_TOKENS
    top_k = int(_number(config, "top_k", 0, where))
    try:
        return Sampling(_number(config, "top_p", 1.0, where), max(top_k, 0))
    except ArchitectureError as error:
        raise ArchitectureError(f"{where}: {error}") from error


def _number(config: Mapping[str, Any], name: str, default: float, where: str) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ArchitectureError(f"{where}: {name} must be a number, got {shown(value)}")
    return float(value)
