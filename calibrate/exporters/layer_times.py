"""Step times as the parts that simulators of layers add up: what goes by a step's tokens, and attention.

A step is layers · (by its tokens + attention). By tokens goes what a step of so many takes that reads no cache: decodes
or one prompt, whichever is faster. Attention is the rest, whatever it is of. What runs once a step is shared out over
the layers.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from calibrate.exporters.step_times import StepTimes, Whole, doubling, finer
from calibrate.records.errors import CalibrateError
from sim.steps.batch import Floats

LEAST_US = 1e-3
"""The time of a part that our model does not know, for tools that take no 0."""


@dataclasses.dataclass(frozen=True)
class LayerTimes:
    """One layer of a served model, its times by part, tabled at ``tokens`` of a step."""

    steps: StepTimes
    tokens: Whole

    def by_tokens_us(self) -> Floats:
        """What a layer takes by the step's tokens alone, at each of the table's, shape (n,)."""
        decodes = self.steps.decode_us(self.tokens, 0.0)
        prompt = self.steps.prefill_us(1.0, self.tokens)
        layers: Floats = np.minimum(decodes, prompt) / self.steps.arch.num_layers
        return layers

    def gemms_us(self, others: int) -> tuple[Floats, ...]:
        """The part by tokens, shared out over a layer's four matrix products by their weights, in that order.

        Each of ``others`` further operations takes the least time of it.
        """
        sizes = np.array([n * k for n, k in self.steps.arch.layer_matrices(self.steps.tp)])
        rest = self.by_tokens_us() - others * LEAST_US
        return tuple(rest * share for share in sizes / sizes.sum())

    def attention_us(
        self, new: ArrayLike, cached: ArrayLike, decodes: ArrayLike, context: ArrayLike
    ) -> Floats:
        """What attention adds to a layer: one prompt's chunk (none where ``new`` is 0) beside decodes; broadcast."""
        whole = self.steps.mixed_us(new, cached, decodes, context) / self.steps.arch.num_layers
        return np.maximum(whole - self._read_us(new, decodes), LEAST_US)

    def step_us(
        self, new: ArrayLike, cached: ArrayLike, decodes: ArrayLike, context: ArrayLike
    ) -> Floats:
        """What the parts add up to for a whole step, as a tool that interpolates between tokens reads them."""
        layer_us = self._read_us(new, decodes) + self.attention_us(new, cached, decodes, context)
        return layer_us * self.steps.arch.num_layers

    def _read_us(self, new: ArrayLike, decodes: ArrayLike) -> Floats:
        read: Floats = np.interp(np.add(new, decodes), self.tokens, self.by_tokens_us())
        return read


def layer_times(steps: StepTimes, format_name: str) -> LayerTimes:
    """The parts of a model of equal dense layers. Raises CalibrateError for another one."""
    arch = steps.arch
    if arch.experts is not None or arch.groups:
        raise CalibrateError(
            f"{format_name} describes models of equal dense layers here: {arch.name} has experts, or layers of other "
            "kinds"
        )
    return LayerTimes(steps, finer(doubling(1, steps.serving.max_num_batched_tokens)))
