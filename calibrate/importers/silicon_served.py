"""How a row of the package's ``silicon_sample.csv`` says that its model is served: in which types, on how many GPUs.

The package has been filled from dumps of several days, which do not write the same server alike. Where one measurement
stands in several of them, they tell how each is to be read.
"""

import pandas as pd

from sim.units import DTYPE_BYTES

_OF_APRIL = r"db-dump/|source_file=2026-04"

_AS_STORED = {
    ("gpt-oss-120b", "fp4"): ("mxfp4", ""),
    ("gpt-oss-120b", "fp8"): ("mxfp4", ""),
    ("deepseek-r1", "fp8"): ("fp8_block", ""),
    ("deepseek-v3", "fp8"): ("fp8_block", ""),
    ("minimax-m2.5", "fp8"): ("fp8_block", ""),
    ("minimax-m2.5", "fp4"): ("bf16", "nvfp4"),
    ("kimi-k2.5", "fp4"): ("bf16", "nvfp4"),
    ("qwen3-235b-a22b", "fp8"): ("fp8_block", ""),
}
"""Weight type and that of the experts in the checkpoints meant, where it is not the precision that a row states.

Sources: ``config.json`` and ``hf_quant_config.json`` of openai/gpt-oss-120b (of one type),
deepseek-ai/DeepSeek-R1, MiniMaxAI/MiniMax-M2.5, Qwen/Qwen3-235B-A22B-FP8 (blocks of 128 × 128), and of
nvidia/MiniMax-M2.5-NVFP4 and
nvidia/Kimi-K2.5-NVFP4 (attention stays in 16 bits).
"""


def with_parallelism(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``tp``, ``ep`` and ``dp``: GPUs that share a layer, those that share its experts whole, replicas.

    The dumps of April write TP × EP for the TP of a server that shares its experts, and its TP as ``moe_tp_size``:
    what the dump of March has as TP 8, EP 8 is 64, 8 × 8 there, in 88 measurements that both have. Where attention's
    replicas are not stated they follow from the experts, which lie on all GPUs.
    """
    tp, replicas = rows["tp_size"], rows["attention_dp_size"]
    experts_tp, ep = _given(rows, "moe_tp_size"), _given(rows, "moe_ep_size")
    is_product = (
        rows["silicon_data_source"].str.match(_OF_APRIL)
        & (experts_tp > 1)
        & (ep > 1)
        & ~(replicas > 1)
    )
    implied = (experts_tp * ep / tp).where(replicas.isna(), replicas)
    return rows.assign(
        tp=tp.where(~is_product, experts_tp),
        ep=ep,
        dp=implied.fillna(1.0).clip(lower=1.0),
    )


def with_weight_types(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``dtype`` and ``moe_dtype`` as campaigns spell them; an unknown one stays."""
    pairs = list(zip(rows["model"], rows["precision"], strict=True))
    types = [_AS_STORED.get(pair, _usual(pair[1])) for pair in pairs]
    return rows.assign(
        dtype=[dtype for dtype, _ in types], moe_dtype=[experts for _, experts in types]
    )


def has_known_type(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows have a weight type that is known, or none."""
    return rows["dtype"].isin([*DTYPE_BYTES, ""])


def _usual(precision: str) -> tuple[str, str]:
    return ("nvfp4" if precision == "fp4" else precision, "")


def _given(rows: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A degree of the experts; 1 where the file has no such column, and where a model has no experts."""
    degrees = rows[name] if name in rows else pd.Series(1.0, index=rows.index)
    return degrees.fillna(1.0).clip(lower=1.0)
