"""Service-level objectives: limits of latency as people write them, and whether served requests keep them."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.records.errors import CalibrateError
from sim.errors import nearest
from sim.serving.result import ServingResult
from sim.steps.runs import Floats
from sim.units import S_PER_MIN, US_PER_MS, US_PER_S

METRICS = ("ttft", "itl", "e2e")
MEAN = "mean"
_UNITS_US = {"us": 1.0, "µs": 1.0, "ms": US_PER_MS, "s": US_PER_S, "min": S_PER_MIN * US_PER_S}
_OTHER_NAMES = {"tpot": "itl", "tbt": "itl", "latency": "e2e"}
_FORM = "give METRIC_STATISTIC=TIME, such as ttft_p99=2s, itl_p99=50ms or e2e_mean=8s"
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_TIME = re.compile(r"([0-9.]+(?:e[+-]?\d+)?)\s*([a-zµμ]*)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Limit:
    """The most that a ``statistic`` (``mean``, ``p99`` …) of a ``metric`` over requests may be, in µs."""

    metric: str
    statistic: str
    most_us: float

    @property
    def name(self) -> str:
        """As it is written: ``ttft_p99``."""
        return f"{self.metric}_{self.statistic}"

    @property
    def judges_requests(self) -> bool:
        """Whether a single request can be beyond it; a mean is of all."""
        return self.statistic != MEAN

    def figure_us(self, times_us: Floats) -> float:
        """The statistic of times (n,); NaN where none is known, as ITL of outputs of one token."""
        known = times_us[~np.isnan(times_us)]
        if not len(known):
            return float("nan")
        if self.statistic == MEAN:
            return float(known.mean())
        return float(np.percentile(known, float(self.statistic[1:])))

    def scaled(self, factor: float) -> "Limit":
        """The same limit, ``factor`` times as long."""
        return dataclasses.replace(self, most_us=self.most_us * factor)

    def __str__(self) -> str:
        return f"{self.metric.upper()} {self.statistic} ≤ {_readable(self.most_us)}"


@dataclasses.dataclass(frozen=True)
class Slo:
    """All ``limits`` hold, and, where ``goodput`` is given, so large a share of requests is within every one.

    A request is held against each limit of a percentile, whichever it is; a limit of a mean judges no single request.
    """

    limits: tuple[Limit, ...]
    goodput: float | None = None

    def __str__(self) -> str:
        share = [] if self.goodput is None else [f"{self.goodput:.4g} of requests within all"]
        return ", ".join([*map(str, self.limits), *share])


def parse_slo(texts: Sequence[str], goodput: float | None = None) -> Slo | None:
    """The objective in options such as ``ttft_p99=2s``; None where there is none.

    Raises CalibrateError for an unknown metric or statistic, a time without a unit or not above 0, a limit given
    twice, and a ``goodput`` that is no share or has nothing to judge a request by.
    """
    limits = [_limit(text) for text in texts]
    names = [limit.name for limit in limits]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CalibrateError(f"--slo {twice}: is given twice; keep one of the two")
    _check_goodput(goodput, limits)
    return Slo(tuple(limits), goodput) if limits else None


def _check_goodput(goodput: float | None, limits: Sequence[Limit]) -> None:
    if goodput is None:
        return
    if not 0 < goodput <= 1:
        raise CalibrateError(
            f"--goodput {goodput:g}: must be a share of the requests above 0 and up to 1, such as 0.99"
        )
    if not any(limit.judges_requests for limit in limits):
        raise CalibrateError(
            f"--goodput {goodput:g}: is the share of requests within the limits of --slo, and there is none that "
            "judges a request; add one of a percentile, such as --slo ttft_p99=2s"
        )


def _limit(text: str) -> Limit:
    name, given, time = text.partition("=")
    metric, parted, statistic = name.strip().lower().partition("_")
    if metric not in METRICS:
        raise CalibrateError(
            f"--slo {text!r}: {metric!r} is no metric (known: {', '.join(METRICS)}){_meant(metric)}; {_FORM}"
        )
    if not (parted and given):
        raise CalibrateError(
            f"--slo {text!r}: the {'statistic' if given else 'time'} is missing; {_FORM}"
        )
    return Limit(metric, _statistic(statistic, text), _time_us(time.strip(), text))


def _meant(metric: str) -> str:
    called = _OTHER_NAMES.get(metric)
    return f"; it is called {called} here" if called else nearest(metric, METRICS)


def _statistic(statistic: str, text: str) -> str:
    found = _PERCENTILE.fullmatch(statistic)
    if statistic != MEAN and (found is None or not 0 < float(found[1]) < 100):
        raise CalibrateError(
            f"--slo {text!r}: {statistic!r} is no statistic; give mean, or a percentile above p0 and below p100, "
            "such as p50, p99 or p99.9"
        )
    return statistic


def _time_us(time: str, text: str) -> float:
    found = _TIME.fullmatch(time)
    number = _number(found[1]) if found else float("nan")
    if found is None or np.isnan(number):
        raise CalibrateError(f"--slo {text!r}: {time!r} is no time; {_FORM}")
    unit = found[2].lower().replace("μ", "µ")
    if not unit:
        raise CalibrateError(
            f"--slo {text!r}: the unit is missing; say {time}ms or {time}s (known: {', '.join(_UNITS_US)})"
        )
    if unit not in _UNITS_US:
        raise CalibrateError(
            f"--slo {text!r}: {found[2]!r} is no unit of time (known: {', '.join(_UNITS_US)})"
        )
    if not 0 < number < float("inf"):
        raise CalibrateError(f"--slo {text!r}: the time must be above 0, and finite")
    return number * _UNITS_US[unit]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _readable(time_us: float) -> str:
    seconds = time_us >= US_PER_S
    return f"{time_us / US_PER_S:.4g} s" if seconds else f"{time_us / US_PER_MS:.4g} ms"


@dataclasses.dataclass(frozen=True)
class Figure:
    """What a limited statistic came to, in µs; NaN where no request has such a time."""

    limit: Limit
    value_us: float

    @property
    def met(self) -> bool:
        """Whether it is within its limit; nothing that could not be measured is beyond one."""
        return not self.value_us > self.limit.most_us

    def __str__(self) -> str:
        return f"{self.limit.metric.upper()} {self.limit.statistic} {_readable(self.value_us)}"


@dataclasses.dataclass(frozen=True)
class Attainment:
    """How served requests stand to an objective: each of the ``figures``, and the ``share`` within all limits."""

    slo: Slo
    figures: tuple[Figure, ...]
    share: float

    @property
    def met(self) -> bool:
        """Whether all limits and the share that was asked for are kept."""
        return not self.missed

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of what is not kept, ``goodput`` for the share."""
        names = [figure.limit.name for figure in self.figures if not figure.met]
        wanted = self.slo.goodput
        return (*names, *(["goodput"] if wanted is not None and self.share < wanted else []))

    def to_dict(self, requests_per_s: float) -> dict[str, object]:
        """Plain values, for JSON; times in ms. Goodput is the share of ``requests_per_s`` within all limits."""
        return {
            "met": self.met,
            "missed": list(self.missed),
            "attainment": self.share,
            "goodput_target": self.slo.goodput,
            "goodput_requests_per_s": self.share * requests_per_s,
            "limits": [_plain(figure) for figure in self.figures],
        }


def judge(result: ServingResult, slo: Slo, skipped: int = 0) -> Attainment:
    """How the requests of ``result`` but for the first ``skipped`` stand to ``slo``."""
    times = {
        "ttft": result.ttft_us[skipped:],
        "itl": result.itl_us[skipped:],
        "e2e": result.e2e_us[skipped:],
    }
    figures = [Figure(limit, limit.figure_us(times[limit.metric])) for limit in slo.limits]
    within: NDArray[np.bool_] = np.ones(len(result) - skipped, dtype=bool)
    for limit in slo.limits:
        if limit.judges_requests:
            within &= ~(times[limit.metric] > limit.most_us)
    return Attainment(slo, tuple(figures), float(within.mean()))


def _plain(figure: Figure) -> dict[str, object]:
    known = not np.isnan(figure.value_us)
    return {
        "name": figure.limit.name,
        "limit_ms": figure.limit.most_us / US_PER_MS,
        "value_ms": figure.value_us / US_PER_MS if known else None,
        "met": figure.met,
    }
