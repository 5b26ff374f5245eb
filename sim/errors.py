"""Errors that a caller of :mod:`sim` can act on. Every message says what, where and the fix."""

import difflib
from collections.abc import Iterable


class SimError(Exception):
    """Base of every error that :mod:`sim` raises on purpose."""


class ArchitectureError(SimError):
    """A model description is missing, malformed, or beyond what a latency model can compute."""


class UnknownModelError(ArchitectureError):
    """A model that is neither in the registry nor a folder; the nearest name is looked for when the message is read."""

    def __init__(self, model: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(model)
        self._known = known
        self._hint = hint

    def __str__(self) -> str:
        """The message, with the nearest name."""
        model = str(self.args[0])
        return (
            f"model {model!r} is neither in the registry nor a folder with a config.json"
            f"{self._hint or nearest(model, self._known)} (`calibrate show models` lists the registry)"
        )


class HardwareError(SimError):
    """A hardware configuration is missing, malformed, or lacks what a latency model needs."""


class MfuTableError(SimError):
    """A benchmark database is missing, malformed, or lacks what a latency model must look up."""


class StepError(SimError):
    """A batch or a table of steps is malformed."""


class WorkloadError(SimError):
    """A workload or an engine's limits are malformed, or the engine could never serve the workload."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the valid name closest to ``name`` as a hint, such as ``"; did you mean 'H100'?"``, or ``""``."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
