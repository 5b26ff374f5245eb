"""The latency models by name, and the parameters of all of them."""

from typing import TypeVar

from sim.database.table import MfuTable
from sim.errors import SimError, nearest
from sim.models.latency_model import LatencyModel
from sim.models.parameter import Parameter
from sim.models.request_times import REQUEST_TIMES
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v2.model import RooflineV2
from sim.models.roofline_v2_interp.model import RooflineV2Interp
from sim.models.roofline_v3.model import RooflineV3
from sim.models.roofline_v4.model import RooflineV4

LATENCY_MODELS: dict[str, type[LatencyModel]] = {}
"""Every latency model by name."""

PARAMETERS: dict[str, Parameter] = {}
"""Every parameter by name, as the first model that has it reads it; bounds, unit and guide are the same in all."""

Model = TypeVar("Model", bound=type[LatencyModel])


def register(model: Model) -> Model:
    """Make a latency model known by its name: to fits, predictions, plans, configurations and the simulator.

    Serves as a decorator of a class. Raises SimError for a name that another model has, or a parameter that another
    model has with another unit or other bounds.
    """
    if LATENCY_MODELS.get(model.name, model) is not model:
        raise SimError(
            f"there is a latency model {model.name!r} already: give this one another name"
        )
    for parameter in model.parameter_set:
        known = PARAMETERS.get(parameter.name, parameter)
        if (known.unit, known.lower, known.upper) != (
            parameter.unit,
            parameter.lower,
            parameter.upper,
        ):
            raise SimError(
                f"parameter {parameter.name} of {model.name} has the unit {parameter.unit} and the bounds "
                f"{parameter.lower:g} to {parameter.upper:g}; it is known with {known.unit} and {known.lower:g} to "
                f"{known.upper:g}: give it another name"
            )
    LATENCY_MODELS[model.name] = model
    for parameter in model.parameter_set:
        PARAMETERS.setdefault(parameter.name, parameter)
    return model


for _model in (RooflineV1, RooflineV3, RooflineV4, RooflineV2, RooflineV2Interp):
    register(_model)
PARAMETERS.update({parameter.name: parameter for parameter in REQUEST_TIMES})


def parameter_in(model: LatencyModel, name: str) -> Parameter:
    """What a parameter, or a time around the engine, means in a model."""
    own = {parameter.name: parameter for parameter in model.parameter_set}
    return own[name] if name in own else PARAMETERS[name]


def configured_models() -> tuple[str, ...]:
    """Names of the latency models that need nothing but a configuration."""
    return tuple(name for name, model in LATENCY_MODELS.items() if not model.needs_mfu_table)


def needs_mfu_table(name: str) -> bool:
    """Whether the latency model of that name looks MFUs up in a benchmark database."""
    return name in LATENCY_MODELS and LATENCY_MODELS[name].needs_mfu_table


def model_named(name: str) -> type[LatencyModel]:
    """The class of the latency model of that name. Raises SimError, with the nearest valid name, for any other."""
    model = LATENCY_MODELS.get(name)
    if model is None:
        known = ", ".join(LATENCY_MODELS)
        raise SimError(
            f"latency model {name!r} is not known (known: {known}){nearest(name, LATENCY_MODELS)}"
        )
    return model


def latency_model(
    name: str, *, per_layer_overhead: bool = False, mfu_table: MfuTable | None = None
) -> LatencyModel:
    """The latency model of that name. Raises SimError, with the nearest valid name, for any other.

    ``per_layer_overhead`` makes roofline-v1 add ``perLayerOverhead`` for each layer; it ignores that key otherwise.
    roofline-v2 and roofline-v2-interp need ``mfu_table``.
    """
    model = model_named(name)
    if model is RooflineV1:
        return RooflineV1(per_layer_overhead)
    if not model.needs_mfu_table:
        return model()
    if mfu_table is None:
        raise SimError(
            f"{name} looks MFUs up in a benchmark database: give it one as mfu_table=load_mfu_table(…)"
        )
    return model(mfu_table)  # type: ignore[call-arg]  # such a model is made from one
