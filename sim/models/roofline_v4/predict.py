"""Durations alone, without the parts that derivatives need: a few vector operations in a core's cache."""

from collections.abc import Mapping

import numpy as np

from sim.models.roofline_v4.columns import Columns
from sim.models.roofline_v4.mixed import mixed_us
from sim.models.roofline_v4.rates import Rates
from sim.models.roofline_v4.reduces import WAYS
from sim.steps.batch import Floats

_HOST = ("hostLayerMicros", "hostPrefillMicros")
_ADDED = ("requestMicros", "promptMicros", "prefillLayerMicros")


class Predictor:
    """The durations of blocks of at most ``rows`` rows; see :func:`sim.models.roofline_v4.terms.block_terms`."""

    def __init__(self, c: Columns, values: Mapping[str, float], rate: Rates, rows: int) -> None:
        self._c, self._values, self._rate = c, values, rate
        self._part, self._other = np.empty((2, rows))
        self._has_experts = bool(c.pairs.expert_layers.any())
        self._has_linear = bool(c.pairs.linear_layers.any())
        moved_us = rate.moved + rate.quantised + rate.token_moved
        self._token_us = rate.reduced + moved_us.repeat(len(WAYS))
        self._fixed_us = rate.reduces + rate.fixed.repeat(len(WAYS))

    def predict(self, block: slice, out: Floats) -> None:
        """Write the durations of ``block`` in µs into ``out``."""
        c, values, rate = self._c, self._values, self._rate
        pair, tokens = c.pair[block], c.tokens[block]
        self._part, self._other = self._part[: len(out)], self._other[: len(out)]
        part, other = self._part, self._other
        np.take(self._token_us, c.reduce[block], out=out, mode="clip")
        out *= tokens
        out += np.take(self._fixed_us, c.reduce[block], out=part, mode="clip")
        self._add_ring(block, out)
        self._add_gemm(block, out)
        for flops, moved in zip(c.attention_flops_cubed, c.attention_bytes_cubed, strict=True):
            np.multiply(flops[block], rate.attention_cubed[0], out=part)
            np.multiply(moved[block], rate.attention_cubed[1], out=other)
            self._add_root(out)
        self._add_mixed(block, out)
        if self._has_linear:
            self._add_linear(block, out)
        self._add_scaled(c.sampled[block], rate.head_flops, part, block)
        np.take(rate.head_bytes, pair, out=other, mode="clip")
        _cube(other)
        self._add_root(out)
        if self._has_experts:
            self._add_experts(block, out)
        if values["allReduceLargeMicrosPerMB"]:
            out += c.large_megabytes[block] * values["allReduceLargeMicrosPerMB"]
        if any(values[name] for name in (*_HOST, *_ADDED)):
            self._add_engine(block, out)

    def _add_ring(self, block: slice, out: Floats) -> None:
        """By how much more or less than at their usual rate all-reduces around a ring take for their size."""
        c, exponent = self._c, self._values["allReduceSizeExponent"]
        rows = np.flatnonzero(c.log_ring[block])
        if not exponent or not len(rows):
            return
        rows += block.start
        usual_us = c.tokens[rows] * self._rate.reduced[c.reduce[rows]]
        out[rows - block.start] += usual_us * np.expm1(exponent * c.log_ring[rows])

    def _add_gemm(self, block: slice, out: Floats) -> None:
        c, rate, part, other = self._c, self._rate, self._part, self._other
        np.multiply(c.log_gemm_work[block], -self._values["gemmMfuExponent"], out=part)
        np.exp(part, out=part)
        part *= np.take(rate.gemm_flops, c.pair[block], out=other, mode="clip")
        if padded := self._values["gemmPadTokens"]:
            np.multiply(c.any_token[block], padded, out=other)
            other += c.tokens[block]
            part *= other
        else:
            part *= c.tokens[block]
        _cube(part)
        self._add_scaled(c.any_token[block], rate.gemm_bytes, other, block)
        self._add_root(out)

    def _add_mixed(self, block: slice, out: Floats) -> None:
        mixed = self._c.mixed
        here = mixed.of_block(block)
        if here.start == here.stop:
            return
        rows = mixed.rows[here] - block.start
        out[rows] += mixed_us(mixed, self._values, self._rate.attention_cubed, here)

    def _add_linear(self, block: slice, out: Floats) -> None:
        c, rate, part, other = self._c, self._rate, self._part, self._other
        out += np.multiply(c.state_bytes[block], rate.state, out=part)
        walk = self._values["linearWalkMicros"]
        np.multiply(c.linear_flops_cubed[block], rate.linear_flop_cubed, out=part)
        np.multiply(c.linear_walked_cubed[block], walk**3, out=other)
        self._add_root(out)

    def _add_experts(self, block: slice, out: Floats) -> None:
        c, rate, part, other = self._c, self._rate, self._part, self._other
        rows, touched, pair = c.rows[block], c.touched[block], c.pair[block]
        out += np.multiply(rows, np.take(rate.row_moved, pair, out=part, mode="clip"), out=part)
        np.multiply(touched, self._values["padTokens"], out=part)
        part += rows
        part *= np.take(rate.expert_row, pair, out=other, mode="clip")
        _cube(part)
        self._add_scaled(touched, rate.expert_bytes, other, block)
        self._add_root(out)

    def _add_scaled(self, column: Floats, by_pair: Floats, out: Floats, block: slice) -> None:
        np.take(by_pair, self._c.pair[block], out=out, mode="clip")
        out *= column
        _cube(out)

    def _add_root(self, out: Floats) -> None:
        self._part += self._other
        out += np.cbrt(self._part, out=self._part)

    def _add_engine(self, block: slice, out: Floats) -> None:
        c, values = self._c, self._values
        layers = c.pairs.layers[c.pair[block]]
        host = layers * values["hostLayerMicros"] + c.prefill[block] * values["hostPrefillMicros"]
        np.maximum(out, host, out=out)
        out += c.decodes[block] * values["requestMicros"]
        out += c.prompts[block] * values["promptMicros"]
        out += c.prefill[block] * layers * values["prefillLayerMicros"]


def _cube(values: Floats) -> None:
    """In place."""
    values *= values * values
