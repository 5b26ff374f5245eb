"""The columns of every table that a campaign may hold: which are required, and what a value must be."""

import dataclasses
from typing import Literal

Kind = Literal["text", "count", "amount", "positive"]


@dataclasses.dataclass(frozen=True)
class Column:
    """``count``: whole, ≥ 0. ``amount``: ≥ 0. ``positive``: > 0. ``text``: anything. ``largest``: the sane maximum.

    A required column must be there and, unless its cells ``may_be_empty``, have a value in every row.
    """

    name: str
    kind: Kind = "amount"
    required: bool = False
    largest: float = 1e12
    may_be_empty: bool = False


def _columns(
    kind: Kind, *names: str, required: bool = False, largest: float = 1e12
) -> tuple[Column, ...]:
    return tuple(Column(name, kind, required, largest) for name in names)


_LATENCY = Column("latency_us", "positive", required=True)
_MFU = Column("mfu", "amount", largest=1.0)
_REPEATED = (
    Column("latency_std_us"),
    Column("replicates", "count"),
    Column("noise"),
    Column("batch_us"),
    Column("sm_clock_mhz"),
)
_RUN = _columns("text", "step_id", "run_id")
_MODEL = Column("model", "text", required=True)
_TP = Column("tp", "count", required=True, largest=4096)
_SERVED_AS = (
    *_columns("text", "dtype", "kv_dtype", "moe_dtype"),
    *_columns("count", "ep", "dp", largest=4096),
)

COLLECTIVES = "allreduce", "allgather", "alltoall"
"""Tables of collectives by message size."""

_MESSAGE = (
    _TP,
    Column("bytes", "positive", required=True),
    Column("dtype", "text"),
    _LATENCY,
    *_REPEATED,
)


def _latent_attention(length: str) -> tuple[Column, ...]:
    """Columns of latent attention, whose tokens of a request stand in ``length``."""
    sizes = ("num_heads", "cache_rank", "nope_dim", "rope_dim", "value_dim", "batch_size", length)
    return (
        *_columns("count", *sizes, required=True),
        *_columns("text", "dtype", "backend"),
        _LATENCY,
        *_REPEATED,
    )


NAMED_MODELS = ("model_in_log", "model_in_config", "model_in_client")
"""What the server's log, the experiment's configuration and the client of a serving run call its model."""

GREEDY, RANDOM = "greedy", "random"
"""What ``sampling`` of a serving row may say: the likeliest token always, or drawn as ``top_p`` and ``top_k`` say."""

TABLES: dict[str, tuple[Column, ...]] = {
    "steps": (
        _MODEL,
        _TP,
        *_SERVED_AS,
        *_columns("count", "num_prefill_requests", "num_decode_requests", largest=1e7),
        *_columns("amount", "sum_prefill_tokens", "sum_prefill_kv_tokens", "sum_decode_kv_tokens"),
        *_columns(
            "amount",
            "sum_prefill_qk_pairs",
            "var_prefill_length",
            "var_decode_kv_tokens",
            largest=1e20,
        ),
        _LATENCY,
        *_REPEATED,
        *_columns("text", "execution", "backend"),
        *_RUN,
    ),
    "requests": (
        Column("step_id", "text", required=True),
        Column("phase", "text", required=True),
        Column("context_tokens", "count", required=True),
        Column("new_tokens", "count"),
        Column("count", "count", largest=1e7),
    ),
    "serving": (
        _MODEL,
        _TP,
        *_SERVED_AS,
        *_columns("text", "engine", "load", "run_id", "stage"),
        *_columns("text", "folder", *NAMED_MODELS),
        *_columns("positive", "concurrency", "request_rate", "arrival_cv"),
        *_columns("count", "num_requests", "failed_requests", "distinct_prompts"),
        *(
            Column(f"{what}_tokens_{stat}")
            for what in ("input", "output")
            for stat in ("mean", "std")
        ),
        Column("cached_input_tokens_mean"),
        *_columns(
            "count", "max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens", "block_size"
        ),
        *(
            Column(f"{what}_ms_{s}")
            for what in ("ttft", "itl")
            for s in ("mean", "p50", "p90", "p99")
        ),
        *(Column(f"e2e_ms_{s}", "positive") for s in ("mean", "p50", "p90", "p99")),
        *_columns("amount", "output_tokens_per_s", "requests_per_s"),
        Column("sampling", "text"),
        Column("top_p", "positive", largest=1.0),
        Column("top_k", "count"),
    ),
    "gemm": (
        *_columns("count", "m", "n", "k", required=True),
        Column("dtype", "text"),
        _LATENCY,
        _MFU,
        *_REPEATED,
    ),
    "attention_prefill": (
        *_columns(
            "count", "num_heads", "num_kv_heads", "head_dim", "batch_size", "seq_len", required=True
        ),
        *_columns("text", "dtype", "backend"),
        _LATENCY,
        _MFU,
        *_REPEATED,
    ),
    "attention_decode": (
        *_columns(
            "count", "num_heads", "num_kv_heads", "head_dim", "batch_size", "kv_len", required=True
        ),
        *_columns("text", "dtype", "kv_dtype", "backend"),
        Column("tp", "count"),
        _LATENCY,
        _MFU,
        *_REPEATED,
    ),
    "memory": (
        Column("op", "text", required=True),
        Column("bytes", "positive", required=True),
        _LATENCY,
        *_REPEATED,
    ),
    "moe": (
        *_columns(
            *("count", "num_tokens", "hidden_size", "intermediate_size", "num_experts"),
            "experts_per_token",
            required=True,
        ),
        Column("active_experts", "count"),
        *_columns("text", "dtype", "backend"),
        _LATENCY,
        *_REPEATED,
    ),
    "mla_prefill": _latent_attention("seq_len"),
    "mla_decode": _latent_attention("kv_len"),
    **dict.fromkeys(COLLECTIVES, _MESSAGE),
}

STEPS_TO_PREDICT = tuple(
    dataclasses.replace(column, required=False) if column is _LATENCY else column
    for column in TABLES["steps"]
)
"""A steps table whose latencies need not be known."""

SPREAD = tuple(column.name for column in (_LATENCY, _MFU, *_REPEATED))
"""Columns that measuring a point again may change."""
