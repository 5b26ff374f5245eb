"""Transformers as latency models read them: their sizes, and what they store and compute by them.

In: sizes. Out: weights, bytes and FLOPs.
Uses: errors, units.
"""

from sim.architecture.layers import Experts, LayerGroup
from sim.architecture.model import Architecture
from sim.architecture.sampling import ALL_TOKENS, Sampling
from sim.architecture.weights import WeightBytes

__all__ = ["ALL_TOKENS", "Architecture", "Experts", "LayerGroup", "Sampling", "WeightBytes"]
