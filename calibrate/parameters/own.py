"""Values that one engine has of a parameter beside others' in the same fit: ``layerMicros of vllm 0.12.0``."""

from collections.abc import Mapping
from typing import TypeVar

from sim.hardware import Hardware
from sim.models.parameter import Parameter
from sim.models.registry import PARAMETERS

_OF = " of "
_Value = TypeVar("_Value")


def own_name(name: str, engine: str) -> str:
    """What an engine's own value of a parameter is called."""
    return f"{name}{_OF}{engine}"


def plain_name(name: str) -> str:
    """The parameter that a name stands for, whosever value it is."""
    return name.partition(_OF)[0]


def is_own(name: str) -> bool:
    """Whether a name is that of an engine's own value."""
    return _OF in name


def facts(name: str) -> Parameter:
    """What is known of the parameter that a name stands for."""
    return PARAMETERS[plain_name(name)]


def own_values(values: Mapping[str, _Value], engine: str) -> dict[str, _Value]:
    """An engine's own among some values, by the names of the parameters."""
    own = {name: value for name, value in values.items() if name.endswith(f"{_OF}{engine}")}
    return {plain_name(name): value for name, value in own.items()}


def as_of(hardware: Hardware, engine: str) -> Hardware:
    """A GPU as an engine uses it: its own values in the place of those of all, and no other engine's."""
    shared = {name: value for name, value in hardware.values.items() if not is_own(name)}
    own = own_values(hardware.values, engine)
    return Hardware(hardware.gpu, {**shared, **own}, hardware.source, hardware.engines)
