"""A PEtab parameter table (version 2, ``parameters.tsv``): parameters with bounds, values and priors.

Columns of the specification (petab.readthedocs.io, "Parameter table"): a prior of a run's parameter has the run's 90%
interval, a log-normal one where the parameter counts on a logarithmic scale. Without an interval, and for what was not
fitted, the column is empty, which PEtab reads as uniform between the bounds.
"""

import csv
import io
import math

from calibrate.exporters.exported import Exported, Source
from calibrate.outcome.result import ParameterResult
from calibrate.records.errors import CalibrateError, ImportFormatError
from sim.models.parameter import Parameter
from sim.models.registry import PARAMETERS

_COLUMNS = (
    "parameterId",
    "lowerBound",
    "upperBound",
    "nominalValue",
    "estimate",
    "priorDistribution",
    "priorParameters",
)
_OF_90_PERCENT = (
    1.6448536269514722  # standard deviations of a normal distribution on either side that hold 90%
)
_WHAT = "PEtab parameter table"


def write(source: Source) -> Exported:
    """Raises CalibrateError where nothing of the configuration is a parameter."""
    values = source.hardware.values
    known = [PARAMETERS[key] for key in values if key in PARAMETERS]
    if not known:
        raise CalibrateError("petab: the configuration holds no parameter of a latency model")
    fitted = {} if source.run is None else {result.name: result for result in source.run.parameters}

    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(_COLUMNS)
    for parameter in known:
        rows.writerow(_row(parameter, values[parameter.name], fitted.get(parameter.name)))
    notes = [
        f"{len(known)} parameters to the last digit; the table is no model, so none can be off by it."
    ]
    if source.run is None:
        notes.append("Without priors: give the folder of a run with --run.")
    return Exported(text.getvalue(), tuple(notes))


def read(text: str) -> dict[str, float]:
    """The values by parameter. Raises ImportFormatError for another text."""
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    if not rows or not set(_COLUMNS[:5]) <= set(rows[0]):
        raise ImportFormatError(
            f"not a {_WHAT}: it must have the columns {', '.join(_COLUMNS[:5])}"
        )
    try:
        return {row["parameterId"]: float(row["nominalValue"]) for row in rows}
    except (TypeError, ValueError) as error:
        raise ImportFormatError(
            f"not a {_WHAT}: nominalValue must be a number ({error})"
        ) from error


def _row(parameter: Parameter, value: float, result: ParameterResult | None) -> tuple[str, ...]:
    distribution, numbers = ("", "") if result is None else _prior(parameter, result)
    free = result is not None and result.ci90 is not None
    low, high = min(parameter.lower, value), max(parameter.upper, value)
    return (
        parameter.name,
        repr(low),
        repr(high),
        repr(value),
        "true" if free else "false",
        distribution,
        numbers,
    )


def _prior(parameter: Parameter, result: ParameterResult) -> tuple[str, str]:
    """Name and numbers of the distribution whose 90% are the interval; empty where that is open."""
    low, high = result.ci90 or (None, None)
    if low is None or high is None:
        return "", ""
    if parameter.is_linear or low <= 0.0:
        return "normal", f"{(high + low) / 2.0!r};{(high - low) / 2.0 / _OF_90_PERCENT!r}"
    middle = (math.log(high) + math.log(low)) / 2.0
    return "log-normal", f"{middle!r};{(math.log(high) - math.log(low)) / 2.0 / _OF_90_PERCENT!r}"
