"""Which of the steps that a profile of LLMServingSim makes are kept."""

import dataclasses
import math

import pandas as pd

from sim.architecture import Architecture


@dataclasses.dataclass(frozen=True)
class Kept:
    """One in ``every`` mixed steps, of those that fit in ``memory_bytes`` a GPU."""

    memory_bytes: float = math.inf
    every: int = 1

    def fits(self, steps: pd.DataFrame, arch: Architecture, tp: int) -> "pd.Series[bool]":
        """Whether weights and cache of a step have room in the memory that an engine takes."""
        tokens = steps["sum_prefill_tokens"] + steps["sum_prefill_kv_tokens"]
        tokens = tokens + steps["num_decode_requests"] + steps["sum_decode_kv_tokens"]
        needed = arch.weight_bytes + arch.kv_bytes_per_token(1, 2.0) * tokens
        return needed <= self.memory_bytes * tp

    def thins(self, steps: pd.DataFrame) -> "pd.Series[bool]":
        """Which steps go: all but every so many of the mixed ones, in the order of the file."""
        is_mixed = (steps["num_prefill_requests"] > 0) & (steps["num_decode_requests"] > 0)
        return is_mixed & ((is_mixed.cumsum() - 1) % self.every != 0)
