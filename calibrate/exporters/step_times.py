"""Times of a served model's engine steps by our latency model: what tables of other tools are filled from.

Every time is of one whole step. Steps have requests of equal length: so many, with so many new tokens each, behind so
many cached ones.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrate.records.errors import CalibrateError
from calibrate.trust.metrics import errors
from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.roofline_v1.model import RooflineV1
from sim.steps.batch import Floats, StepTable

Whole = NDArray[np.int64]
"""Numbers of requests or of tokens, shape (n,)."""

_FIRST_LENGTH = 128  # tokens: a shorter step takes as long, for it reads the weights once


@dataclasses.dataclass(frozen=True)
class Serving:
    """Which models are served and how, for formats that describe that: by names, on ``tps`` GPUs each.

    ``latency_model`` gives the times. Tables go up to so many requests, new tokens a step, and tokens of one request;
    formats that know one load take prompts and outputs of the mean lengths.
    """

    models: tuple[str, ...] = ()
    tps: tuple[int, ...] = (1,)
    latency_model: LatencyModel = dataclasses.field(default_factory=RooflineV1)
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_context: int = 32768
    prompt_tokens: int = 1024
    output_tokens: int = 256

    @property
    def mean_context(self) -> float:
        """Tokens that a decode of the one load has cached, on average over its output."""
        return self.prompt_tokens + self.output_tokens / 2.0


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """One model on ``tp`` GPUs, timed."""

    name: str
    arch: Architecture
    tp: int
    hardware: Hardware
    serving: Serving

    def prefill_us(
        self, requests: ArrayLike, new_tokens: ArrayLike, cached_tokens: ArrayLike = 0.0
    ) -> Floats:
        """Durations of prefills; all arguments broadcast, tokens are of one request."""
        count, new, cached = np.broadcast_arrays(
            *map(_floats, (requests, new_tokens, cached_tokens))
        )
        return self._predict_us(
            num_prefill_requests=count,
            sum_prefill_tokens=count * new,
            sum_prefill_kv_tokens=count * cached,
        )

    def decode_us(self, requests: ArrayLike, cached_tokens: ArrayLike) -> Floats:
        """Durations of decodes; both arguments broadcast, tokens are of one request."""
        count, cached = np.broadcast_arrays(_floats(requests), _floats(cached_tokens))
        return self._predict_us(num_decode_requests=count, sum_decode_kv_tokens=count * cached)

    def mixed_us(
        self,
        new_tokens: ArrayLike,
        cached_tokens: ArrayLike,
        decodes: ArrayLike,
        context: ArrayLike,
    ) -> Floats:
        """Durations of one prompt's chunk beside decodes of equal context; all arguments broadcast."""
        parts = map(_floats, (new_tokens, cached_tokens, decodes, context))
        new, cached, count, read = np.broadcast_arrays(*parts)
        return self._predict_us(
            num_prefill_requests=(new > 0).astype(float),
            sum_prefill_tokens=new,
            sum_prefill_kv_tokens=cached,
            num_decode_requests=count,
            sum_decode_kv_tokens=count * read,
        )

    def prompt_us(self, tokens: ArrayLike) -> Floats:
        """Durations of one prompt alone, in as many steps as the limit of tokens a step makes of it, shape (n,)."""
        limit = float(self.serving.max_num_batched_tokens)
        lengths = _floats(tokens)
        total_us = np.zeros_like(lengths)
        cached = np.zeros_like(lengths)
        while (cached < lengths).any():
            new = np.minimum(lengths - cached, limit)
            rows = new > 0
            total_us[rows] += self.prefill_us(1.0, new[rows], cached[rows])
            cached += new
        return total_us

    def _predict_us(self, **columns: Floats) -> Floats:
        shape = next(iter(columns.values())).shape
        flat = {name: values.ravel() for name, values in columns.items()}
        size = int(np.prod(shape))
        table = StepTable.from_columns(
            {"model": [self.name] * size, "tp": np.full(size, self.tp), **flat}, self._load
        )
        predicted: Floats = self.serving.latency_model.predict_us(table, self.hardware)
        return predicted.reshape(shape)

    def _load(self, name: str, dtype: str | None) -> Architecture:  # noqa: ARG002  # a loader's arguments
        return self.arch


def step_times(hardware: Hardware, serving: Serving, format_name: str) -> Iterator[StepTimes]:
    """The served models, each on each degree of tensor parallelism, checked to be computable.

    Raises CalibrateError where no model is named, ArchitectureError for one that is not known, that the latency model
    cannot compute to the longest context, or whose heads a degree does not divide; HardwareError for a missing
    parameter.
    """
    if not serving.models:
        raise CalibrateError(
            f"{format_name} describes served models: name them with --models, such as --models llama-3.1-8b --tp 1"
        )
    serving.latency_model.parameters(hardware)
    for name in serving.models:
        arch = load_architecture(name, None)
        serving.latency_model.limits(arch)
        serving.latency_model.check_length(arch, serving.max_context)
        for tp in serving.tps:
            arch.check_tp(tp)
            yield StepTimes(name, arch, tp, hardware, serving)


def one_step_times(hardware: Hardware, serving: Serving, format_name: str) -> StepTimes:
    """The one served model. Raises CalibrateError where several are named, and what :func:`step_times` raises."""
    found = list(step_times(hardware, serving, format_name))
    if len(found) > 1:
        raise CalibrateError(
            f"{format_name} describes one model on one number of GPUs, got {len(found)}: give one --models and one --tp"
        )
    return found[0]


def doubling(first: int, last: int) -> Whole:
    """``first``, its doubles below ``last``, and ``last``."""
    steps = [first]
    while steps[-1] * 2 < last:
        steps.append(steps[-1] * 2)
    if steps[-1] < last:
        steps.append(last)
    return np.array(steps, dtype=np.int64)


def lengths(last: int) -> Whole:
    """Lengths of prompts or contexts up to ``last`` tokens, each twice the one before."""
    return doubling(min(_FIRST_LENGTH, last), last)


def between(values: Whole) -> Whole:
    """The whole numbers halfway between neighbours, those that lie strictly between them."""
    middle = (values[1:] + values[:-1]) // 2
    return middle[(middle > values[:-1]) & (middle < values[1:])]


def finer(values: Whole) -> Whole:
    """The values and those halfway between them."""
    return np.union1d(values, between(values))


@dataclasses.dataclass(frozen=True)
class Deviation:
    """How far a file's times are off our model's: relative, over ``steps``."""

    mean: float
    largest: float
    steps: int

    @classmethod
    def of(cls, stated: ArrayLike, ours: ArrayLike) -> "Deviation":
        """That of times, shape (n,), against ours in the same unit."""
        stated_times, our_times = _floats(stated).ravel(), _floats(ours).ravel()
        largest = float(np.abs(stated_times / our_times - 1.0).max())
        return cls(errors(stated_times, our_times).mape, largest, len(our_times))

    def __str__(self) -> str:
        return f"mean {self.mean:.2%}, largest {self.largest:.2%} on {self.steps:,} steps"


_floats = functools.partial(np.asarray, dtype=np.float64)
