"""What the axes of a plot mean, and where they lie in its picture: the page says it where the pointer rests."""

import dataclasses

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LOG = "each step of the scale is a factor"
AXES = {
    "measured step time (ms)": f"as the row has it; {_LOG}",
    "predicted step time (ms)": f"what the model says the step takes; on the diagonal it is right; {_LOG}",
    "predicted / measured − 1": "0 is right, above 0 the model is too slow, below 0 too fast",
    "new tokens per step": "tokens computed, of prompts and decodes together",
    "requests per step": "prompts and decodes together",
    "context tokens per request": "tokens of a request that the cache holds before the step",
    "tensor parallelism (GPUs)": "GPUs that share each layer",
    "ln(predicted / measured)": "near 0 it is the relative error: 0.1 is 10% too slow, −0.1 is 10% too fast",
    "steps": "how many steps have that error",
    "absolute relative error (%)": "how far off a prediction is, whichever way",
    "share of steps with at most that error (%)": "at 90, nine steps in ten are that good or better",
    "mean absolute relative error (%)": "mean over the steps of a slice, whichever way they are off",
    "normal quantile (σ)": "where the error would lie if errors were normal: points on a line are",
    "90% interval beside the estimate (% of it)": "how far the ends of the interval lie from the value",
    "direction": "combinations of parameters, the one that the data sees best first",
    "singular value": f"how strongly the data sees a combination; {_LOG}",
    "share of the steps (%)": "steps whose largest part is that",
    "arithmetic intensity (FLOP/byte)": "operations for each byte moved: left, memory limits; right, arithmetic",
    "achieved TFLOP/s per GPU": "operations of the step by its time; the roof is what the peaks allow",
    "measured": "as the server's results have it, in ms",
    "predicted": "what the simulated server says, in ms; on the diagonal it is right",
    "error (%)": "predicted against measured: above 0 the simulation is too slow",
    "start, by its final cost": "fits begun from other values, the best first",
    "final cost above the best (%)": "at 0 a start ended where the best did",
}
"""What the label of an axis means."""

_PERCENT = 100.0


@dataclasses.dataclass(frozen=True)
class Zone:
    """The strip beside a panel that belongs to an axis, in percent of the picture, and what the axis means."""

    left: float
    top: float
    width: float
    height: float
    text: str


def axis_zones(figure: Figure) -> tuple[Zone, ...]:
    """The strips of all axes with a label that :data:`AXES` knows."""
    return tuple(
        zone
        for axes in figure.axes
        for zone in (_below(figure, axes), _beside(figure, axes))
        if zone
    )


def _below(figure: Figure, axes: Axes) -> Zone | None:
    """Of the horizontal axis: from the panel to the next one below, or the picture's end."""
    box = axes.get_position()
    lower = [other.get_position().y1 for other in figure.axes]
    floor = max([y for y in lower if y <= box.y0], default=0.0)
    return _zone(box.x0, 1.0 - box.y0, box.width, box.y0 - floor, axes.get_xlabel())


def _beside(figure: Figure, axes: Axes) -> Zone | None:
    """Of the vertical axis: from the panel to the next one at its left, or the picture's edge."""
    box = axes.get_position()
    ends = [other.get_position().x1 for other in figure.axes]
    edge = max([x for x in ends if x <= box.x0], default=0.0)
    return _zone(edge, 1.0 - box.y1, box.x0 - edge, box.height, axes.get_ylabel())


def _zone(left: float, top: float, width: float, height: float, label: str) -> Zone | None:
    meaning = AXES.get(label)
    if meaning is None:
        return None
    places = (_PERCENT * side for side in (left, top, width, height))
    left, top, width, height = (round(place, 2) for place in places)
    return Zone(left, top, width, height, f"{label}: {meaning}")
