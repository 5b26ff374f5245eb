"""Per-request times and lengths, as clients or spans list them, and their statistics."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from calibrate.importers.run_folder import Row, entries
from calibrate.records.errors import ImportFormatError
from sim.steps.batch import Floats
from sim.units import MS_PER_S

_LARGEST = 1e12
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}
_LISTS = ("ttfts", "itls", "input_lens", "output_lens")


@dataclasses.dataclass(frozen=True)
class RequestDetail:
    """The successful requests of a run, each array (n,), n ≥ 1, times in seconds; ``sent`` counts the others too."""

    ttft_s: Floats
    e2e_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    sent: int

    def columns(self) -> Row:
        """Columns of ``serving``: means and percentiles of the times, means and deviations of the lengths.

        The time per token is (end-to-end − TTFT)/(output − 1), over requests of more than one.
        """
        several = self.output_tokens > 1
        per_token_s = (self.e2e_s - self.ttft_s)[several] / (self.output_tokens[several] - 1.0)
        row: Row = {}
        for what, values in (("ttft", self.ttft_s), ("itl", per_token_s), ("e2e", self.e2e_s)):
            if values.any():  # what was not measured is all 0
                row[f"{what}_ms_mean"] = _ms(values.mean())
                row |= {
                    f"{what}_ms_{p}": _ms(np.percentile(values, at))
                    for p, at in _PERCENTILES.items()
                }
        for what, lengths in (("input", self.input_tokens), ("output", self.output_tokens)):
            row[f"{what}_tokens_mean"] = float(lengths.mean())
            row[f"{what}_tokens_std"] = round(float(lengths.std()), 4)
        return row


def read_detail(content: Mapping[str, Any], where: str) -> RequestDetail | None:
    """The requests that a detailed result lists; None where it lists none, or none succeeded.

    ``itls`` are each request's gaps between chunks: they add up to the time from its first chunk to its last. A
    request failed if it has an entry in ``errors`` or no output. Raises ImportFormatError if the lists differ in
    length or hold anything but numbers from 0 to 1e12.
    """
    if not all(content.get(name) for name in _LISTS):
        return None
    lists = {
        name: entries(content, name, where)
        for name in (*_LISTS, "errors", "latencies")
        if name in content
    }
    sent = len(lists["ttfts"])
    for name, values in lists.items():
        if len(values) != sent:
            raise ImportFormatError(
                f"{where}: {name} has {len(values)} entries but ttfts {sent}, one a request"
            )
    ttft_s, inputs, outputs = (
        _numbers(lists[name], name, where) for name in ("ttfts", "input_lens", "output_lens")
    )
    if "latencies" in lists:
        e2e_s = _numbers(lists["latencies"], "latencies", where)
    else:
        e2e_s = ttft_s + [
            _numbers(gaps, f"itls[{i}]", where).sum() for i, gaps in enumerate(lists["itls"])
        ]
    good = (outputs > 0) & [not error for error in lists.get("errors", [""] * sent)]
    return (
        RequestDetail(ttft_s[good], e2e_s[good], inputs[good], outputs[good], sent)
        if good.any()
        else None
    )


def _ms(seconds: float) -> float:
    return round(float(seconds) * MS_PER_S, 4)


def _numbers(values: Any, name: str, where: str) -> Floats:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImportFormatError(f"{where}: {name} must be a list of numbers: {error}") from error
    if numbers.ndim != 1:
        raise ImportFormatError(f"{where}: {name} must be a list of numbers")
    bad = ~((numbers >= 0) & (numbers < _LARGEST))
    if bad.any():
        first = int(bad.argmax())
        raise ImportFormatError(
            f"{where}: {name}[{first}] must be a number from 0 to {_LARGEST:g}, got {numbers[first]:g}"
        )
    return numbers
