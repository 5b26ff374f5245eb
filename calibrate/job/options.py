"""How a fit is made: one set of options for the command line, :func:`calibrate.fit` and the job."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.records.errors import CalibrateError
from sim.errors import nearest


def _option(default: Any, text: str, **limits: Any) -> Any:
    """A field with its help, and its least and largest value."""
    metadata = {"help": text, "limits": limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a fit may be asked.

    ``fix`` holds parameters: at a value, or at the start's where it is None. ``free`` fits parameters that would be
    held. ``cv`` says what is held out (empty: one model, one tp and one campaign at a time; see
    :func:`calibrate.trust.crossval.splits`), ``prior`` what was known before
    (see :func:`calibrate.job.priors.read_priors`). Intervals are those of profiles; ``bootstrap`` and ``mcmc`` ask for
    more. A fit to steps goes on to a draw of the serving results of each engine; with ``serving``, and where there are
    no steps, to all of them, in full; not at all where it is False.

    Raises CalibrateError for a number out of range.
    """

    latency_model: str = _option(
        "roofline-v1", "Latency model, or auto: the one with the least held-out error."
    )
    fix: Mapping[str, float | None] = _option({}, "Hold NAME, or NAME=VALUE; may be repeated.")
    free: Sequence[str] = _option((), "Fit NAME though it would be held.")
    starts: int = _option(32, "Starts of the search.", min=1, max=10_000)
    loss: str = _option("soft_l1", "soft_l1, linear, huber or cauchy.")
    floor: float = _option(0.05, "Relative error expected of the model itself.")
    seed: int = _option(0, "Seed of starts and folds, of serving results too.", min=0)
    cv: Sequence[str] = _option(
        (), "Leave out one model, tp, campaign, node or run at a time, or give a number of folds."
    )
    prior: str | None = _option(
        None, "What was known before: guide, or the folder of an earlier run or profile."
    )
    prior_strength: float = _option(1.0, "How many times the prior counts.")
    bootstrap: int = _option(
        0, "Samples of a bootstrap by run; 200 is a good number.", min=0, max=100_000
    )
    mcmc: bool = _option(False, "Also draw from the parameters' joint distribution (extra mcmc).")
    jobs: int = _option(1, "Processes for held-out fits, bootstrap and data sets.", min=1)
    scheduler: str = _option(
        "", "Dask in place of --jobs: a scheduler's address, local or threads (extra dask)."
    )
    serving: bool | None = _option(
        None,
        "All serving results, simulated in full: tunes what an engine adds to TTFT, ITL, E2E. By default a draw of "
        "each engine's says what it adds; --no-serving leaves all out.",
    )
    engine: str = _option(
        "", "Of serving results only those of this engine, with or without its version: vllm."
    )
    skip_bad_rows: bool = _option(False, "Leave bad rows out instead of stopping.")

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        for field in dataclasses.fields(self):
            _check_limits(field.name, getattr(self, field.name), field.metadata["limits"])
        if not 0 < self.floor < 1:
            raise CalibrateError(f"floor must be between 0 and 1, got {self.floor}")

    def changed(self, changes: Mapping[str, Any]) -> "Options":
        """The same options with some changed, by name. Raises CalibrateError for one that does not exist."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise CalibrateError(
                    f"a fit has no option {name!r} (it has {', '.join(names)}){nearest(name, names)}"
                )
        return dataclasses.replace(self, **changes)


def _check_limits(name: str, value: Any, limits: Mapping[str, float]) -> None:
    if "min" in limits and value < limits["min"]:
        raise CalibrateError(f"{name} must be {limits['min']} or more, got {value}")
    if "max" in limits and value > limits["max"]:
        raise CalibrateError(f"{name} must be {limits['max']} or less, got {value}")
