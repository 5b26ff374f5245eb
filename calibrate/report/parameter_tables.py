"""What the page says of every parameter: its row, other intervals, its prior, and the fit before this one."""

import dataclasses
import math
from collections.abc import Sequence

from calibrate.outcome.result import ParameterResult, Previous, PreviousParameter
from calibrate.records.interval import Interval, ends, overlap
from calibrate.report import texts

_WORDS = {None: "unknown", True: "overlap", False: "apart"}
_MOVED = ("fitted", "at-bound")
_AGREE = 1.25
_STRIP_MARGIN = 0.12


@dataclasses.dataclass(frozen=True)
class Strip:
    """Where guide, interval, old and new value lie on a strip that is 100 wide; an open interval runs to its end."""

    guide_low: float
    guide_high: float
    ci_low: float
    ci_high: float
    old: float
    new: float
    open_low: bool
    open_high: bool


@dataclasses.dataclass(frozen=True)
class ParameterRow:
    """A parameter, and what its row shows beside its numbers."""

    parameter: ParameterResult
    moved: bool
    unbounded: str
    outside_guide: bool
    change: str
    strip: Strip


@dataclasses.dataclass(frozen=True)
class IntervalRow:
    """A parameter with intervals, and in words how far those of the methods agree."""

    parameter: ParameterResult
    agreement: str


@dataclasses.dataclass(frozen=True)
class PreviousRow:
    """A parameter now and ``then``: how far it moved, and in words whether the intervals overlap."""

    parameter: ParameterResult
    then: PreviousParameter
    change: str
    overlap: str


def parameter_rows(parameters: Sequence[ParameterResult]) -> list[ParameterRow]:
    """Parameters with what their rows show beside their numbers."""
    return [_row(parameter) for parameter in parameters]


def _row(parameter: ParameterResult) -> ParameterRow:
    moved = parameter.status in _MOVED
    low, high = _ends(parameter)
    return ParameterRow(
        parameter=parameter,
        moved=moved,
        unbounded=texts.unbounded(parameter.ci90),
        outside_guide=moved and (low > parameter.guide[1] or high < parameter.guide[0]),
        change=texts.change(parameter.start, parameter.value) if moved else "",
        strip=_strip(parameter),
    )


def _strip(parameter: ParameterResult) -> Strip:
    marks = [parameter.value, parameter.start, *parameter.guide]
    low, high = min(marks), max(marks)
    margin = _STRIP_MARGIN * (high - low) or 1.0

    def place(value: float) -> float:
        share = (value - low + margin) / (high - low + 2 * margin) * 100
        return round(min(max(share, 0.0), 100.0), 2)

    ci_low, ci_high = _ends(parameter)
    return Strip(
        guide_low=place(parameter.guide[0]),
        guide_high=place(parameter.guide[1]),
        ci_low=place(ci_low),
        ci_high=place(ci_high),
        old=place(parameter.start),
        new=place(parameter.value),
        open_low=math.isinf(ci_low),
        open_high=math.isinf(ci_high),
    )


def _ends(parameter: ParameterResult) -> tuple[float, float]:
    """The ends of the interval, infinite where it is open; the value itself where there is none."""
    return ends(parameter.ci90 or (parameter.value, parameter.value))


def interval_methods(parameters: Sequence[ParameterResult]) -> list[str]:
    """The ways in which intervals were made, those of most parameters first; none if there was one way only."""
    used = [method for parameter in parameters for method in parameter.intervals]
    methods = sorted(dict.fromkeys(used), key=lambda method: -used.count(method))
    return methods if len(methods) > 1 else []


def interval_rows(parameters: Sequence[ParameterResult]) -> list[IntervalRow]:
    """Parameters with the intervals of every method, and in words how far those agree."""
    return [
        IntervalRow(p, _agreement(list(p.intervals.values()))) for p in parameters if p.intervals
    ]


def _agreement(intervals: Sequence[Interval]) -> str:
    sides = {tuple(end is None for end in interval) for interval in intervals}
    if len(sides) > 1:
        return "some are open on one side"
    widths = [high - low for low, high in map(ends, intervals)]
    if len(widths) < 2 or not all(0 < width < math.inf for width in widths):
        return texts.NOTHING
    ratio = max(widths) / min(widths)
    return "alike in width" if ratio < _AGREE else f"widest {ratio:.1f} × the narrowest"


def prior_rows(parameters: Sequence[ParameterResult]) -> list[ParameterResult]:
    """Parameters on which a prior was put."""
    return [parameter for parameter in parameters if parameter.prior is not None]


def previous_rows(
    previous: Previous | None, parameters: Sequence[ParameterResult]
) -> list[PreviousRow]:
    """Parameters that this fit or the one before it determined: value then and now, and whether intervals overlap."""
    if previous is None:
        return []
    rows = []
    for parameter in parameters:
        then = previous.parameters.get(parameter.name)
        if then is None or (parameter.status not in _MOVED and then.value == parameter.value):
            continue
        change = texts.change(then.value, parameter.value)
        rows.append(
            PreviousRow(parameter, then, change, _WORDS[overlap(then.ci90, parameter.ci90)])
        )
    return rows
