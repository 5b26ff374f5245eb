"""How the report writes numbers: fractions as percent, µs as ms, and no more digits than mean something."""

import datetime
import math
from collections.abc import Sequence
from typing import TypeGuard

from calibrate.trust.thresholds import FAIR, GOOD
from sim.units import US_PER_MS

NOTHING = "–"
"""What stands for a number that is not known."""
_PRACTICALLY_ZERO = 1e-9
_SMALL_CHANGE = 0.0095


def percent(fraction: float | None) -> str:
    """0.0777 as ``7.8%``; ``–`` for what is not known."""
    if not is_known(fraction):
        return NOTHING
    return f"{fraction:.0%}" if abs(fraction) >= 1 else f"{fraction:.1%}"


def signed_percent(fraction: float | None) -> str:
    """As :func:`percent`, with the sign always there."""
    if not is_known(fraction):
        return NOTHING
    text = percent(abs(fraction))
    if text == "0.0%":
        return text
    return f"−{text}" if fraction < 0 else f"+{text}"


def milliseconds(microseconds: float | None) -> str:
    """A time in µs as ms with three digits at the least: ``0.0123``, ``1.70``, ``93.2``, ``3,615``."""
    if not is_known(microseconds):
        return NOTHING
    value = microseconds / US_PER_MS
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:#.3g}"
        if abs(value) < 10
        else f"{value:.1f}"
    )


def number(value: float | None) -> str:
    """Four digits; what is zero but for rounding is written as zero."""
    if not is_known(value):
        return NOTHING
    if abs(value) < _PRACTICALLY_ZERO:
        return "0"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def count(value: float | None) -> str:
    """A whole number with thousands separated, else one decimal."""
    if not is_known(value):
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def rounded(value: float | None) -> str:
    """Two decimals."""
    return f"{value:.2f}" if is_known(value) else NOTHING


def correlation(value: float | None) -> str:
    """Two decimals and a sign: ``+0.47``, ``−0.82``, ``0.00``."""
    if not is_known(value):
        return NOTHING
    text = f"{abs(value):.2f}"
    return text if text == "0.00" else f"−{text}" if value < 0 else f"+{text}"


def moment(text: str) -> str:
    """An ISO time as ``20 November 2026, 21:29 UTC``; anything else as it is."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".strip()


def rating(fraction: float | None) -> str:
    """``good`` up to 10%, ``fair`` up to 20%, else ``poor``: the verdict's own limits."""
    if not is_known(fraction):
        return "unknown"
    return "good" if fraction <= GOOD else "fair" if fraction <= FAIR else "poor"


def change(old: float, new: float) -> str:
    """How far a value moved: ``+6%`` below a doubling, else ``× 5.1``; nothing from or to zero."""
    if abs(old) < _PRACTICALLY_ZERO or abs(new) < _PRACTICALLY_ZERO:
        return ""
    ratio = new / old
    if 0.5 <= ratio < 2:
        return f"{ratio - 1:+.{0 if abs(ratio - 1) >= _SMALL_CHANGE else 1}%}".replace("-", "−")
    return f"× {ratio:.2g}" if ratio < 99.5 else f"× {ratio:,.0f}"


def interval(ends: Sequence[float | None] | None) -> str:
    """``0.71 to 0.76``; ``≥ 0.7`` or ``≤ 3`` where the data bounds one side only."""
    if ends is None:
        return NOTHING
    low, high = ends
    if low is None and high is None:
        return "not bounded"
    if high is None:
        return f"≥ {number(low)}"
    return f"≤ {number(high)}" if low is None else f"{number(low)} to {number(high)}"


def unbounded(ends: Sequence[float | None] | None) -> str:
    """In words, on which side the data does not bound a value; empty where it bounds both."""
    if ends is None:
        return ""
    sides = [name for name, end in zip(("below", "above"), ends, strict=True) if end is None]
    return f"not bounded {' or '.join(sides)}" if sides else ""


def likely_cause(text: str) -> tuple[str, str]:
    """A cause and what speaks for it, of ``its replicates took 12 ms: a disturbed measurement``."""
    evidence, _, cause = text.rpartition(": ")
    return cause[:1].upper() + cause[1:], evidence


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number, and a finite one."""
    return value is not None and math.isfinite(value)
