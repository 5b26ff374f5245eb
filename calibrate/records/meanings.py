"""What the columns of steps and serving rows mean, and in which unit: for the documents and for template tables."""

import dataclasses
from collections.abc import Iterator

from calibrate.records.schema import TABLES


@dataclasses.dataclass(frozen=True)
class Meaning:
    """Columns that are told of together. ``needed`` says what :class:`~calibrate.records.schema.Column` does not."""

    names: tuple[str, ...]
    unit: str
    text: str
    needed: str = ""


def _of(names: str, unit: str, text: str, needed: str = "") -> Meaning:
    return Meaning(tuple(names.split()), unit, text, needed)


_ONE = "no (1)"
_PHASE = "\\*"
"""Of steps: where the step has that phase. Of serving: for a fit. The documents say so below their tables."""
_FIT = _PHASE
_MODEL = (
    "a name or alias (`calibrate show models`), or a folder with a Hugging Face `config.json`, relative to the "
    "campaign and inside the ground truth"
)
_SERVED_AS = (
    _of(
        "dtype",
        "",
        "weight type: bf16, fp16, fp8, fp8_block, mxfp8, int8, int4, mxfp4, nvfp4; the model's own without it, and "
        "nothing of that is read with it",
    ),
    _of(
        "kv_dtype",
        "",
        "type of the cached keys and values, as an engine's `--kv-cache-dtype` sets it: bf16, fp16, fp8, int8 …",
    ),
    _of("moe_dtype", "", "weight type of the routed experts, where it is not that of the rest"),
    _of(
        "ep",
        "",
        "GPUs that share the experts whole; it divides `tp`, whose other part splits each expert",
        _ONE,
    ),
    _of(
        "dp",
        "",
        "attention data-parallel degree: no latency model computes more than 1, such rows are refused",
        _ONE,
    ),
)

MEANINGS: dict[str, tuple[Meaning, ...]] = {
    "steps": (
        _of("model", "", _MODEL),
        _of("tp", "", "tensor-parallel degree"),
        *_SERVED_AS,
        _of("num_prefill_requests", "", "requests that compute prompt tokens in this step", _PHASE),
        _of(
            "sum_prefill_tokens",
            "tokens",
            "new tokens computed in this step, over all requests",
            _PHASE,
        ),
        _of("sum_prefill_kv_tokens", "tokens", "tokens of those requests already in the KV cache"),
        _of(
            "sum_prefill_qk_pairs",
            "pairs",
            "Σ n·(s + (n − 1)/2); without it the requests are taken as equally long",
        ),
        _of("num_decode_requests", "", "requests that each compute one token", _PHASE),
        _of("sum_decode_kv_tokens", "tokens", "context of all decode requests", _PHASE),
        _of(
            "var_prefill_length var_decode_kv_tokens",
            "tokens²",
            "variances, as Forward Pass Metrics publish them; kept, and not used",
        ),
        _of("latency_us", "µs", "duration of the step"),
        _of("latency_std_us replicates", "µs, –", "spread, where a row is already a summary"),
        _of(
            "noise batch_us",
            "–, µs",
            "relative standard deviation of the samples; time of a run that follows others, its cache warm",
        ),
        _of("sm_clock_mhz", "MHz", "the GPU's clock while it was measured"),
        _of(
            "execution",
            "",
            "eager (kernel by kernel) or graph (one CUDA graph); where a step was measured both ways, fits take the "
            "graph",
        ),
        _of("backend", "", "what computed attention"),
        _of(
            "step_id run_id",
            "",
            "rows of one run are correlated: folds never split a `run_id`",
        ),
    ),
    "serving": (
        _of("model", "", _MODEL),
        _of("tp", "", "tensor-parallel degree"),
        *_SERVED_AS,
        _of("engine", "", "name and version, such as `vllm 0.12.0`: how it schedules and samples"),
        _of("load", "", "closed, constant, poisson or gamma: what keeps requests coming"),
        _of("run_id", "", "load points of one run are correlated: folds never split one"),
        _of("stage", "", "which part of the run the row is"),
        _of("folder", "", "name of the run's folder, to be compared with `model`"),
        _of(
            "model_in_log model_in_config model_in_client",
            "",
            "what the server's log, the experiment's configuration and the client call the model, to be compared too",
        ),
        _of("concurrency", "", "requests in flight of a closed load", _FIT),
        _of("request_rate", "1/s", "requests that arrive under any other load", _FIT),
        _of(
            "arrival_cv",
            "–",
            "of gamma gaps: their standard deviation over their mean",
        ),
        _of("num_requests", "", "requests sent"),
        _of("failed_requests", "", "those of them that failed: a tenth is an overload"),
        _of("distinct_prompts", "", "how many different prompts were asked, in turn"),
        _of("input_tokens_mean", "tokens", "prompt of a request, with what is cached of it", _FIT),
        _of("input_tokens_std", "tokens", "its standard deviation; 0 without it"),
        _of("output_tokens_mean", "tokens", "generated of a request", _FIT),
        _of("output_tokens_std", "tokens", "its standard deviation"),
        _of(
            "cached_input_tokens_mean", "tokens", "of a prompt, what the prefix cache already held"
        ),
        _of("max_num_batched_tokens", "tokens", "the engine's limit of new tokens a step"),
        _of("max_num_seqs", "", "its limit of requests a step"),
        _of("kv_cache_tokens", "tokens", "what its KV cache holds"),
        _of("block_size", "tokens", "a block of that cache"),
        _of("ttft_ms_mean ttft_ms_p50 ttft_ms_p90 ttft_ms_p99", "ms", "time to the first token"),
        _of(
            "itl_ms_mean itl_ms_p50 itl_ms_p90 itl_ms_p99",
            "ms",
            "inter-token latency, as the client counts it (`itl` in `campaign.toml`)",
        ),
        _of("e2e_ms_mean e2e_ms_p50 e2e_ms_p90 e2e_ms_p99", "ms", "from arrival to the last token"),
        _of("output_tokens_per_s", "1/s", "tokens generated, of all requests"),
        _of("requests_per_s", "1/s", "requests finished"),
        _of(
            "sampling",
            "",
            "greedy or random: how tokens were drawn; else as the model's `generation_config.json` says",
        ),
        _of("top_p", "–", "of random sampling: the share of probability that is drawn from"),
        _of("top_k", "", "of random sampling: the number of tokens that is drawn from"),
    ),
}
"""Every column of :data:`calibrate.records.schema.TABLES` once, in the order in which it is told of."""


def documented_rows(table: str) -> Iterator[str]:
    """The rows of the table in ``docs/campaigns.md``: columns, unit, whether required, meaning."""
    required = {column.name for column in TABLES[table] if column.required}
    for one in MEANINGS[table]:
        names = ", ".join(f"`{name}`" for name in one.names)
        needed = "yes" if required & set(one.names) else one.needed or "no"
        yield f"| {names} | {one.unit} | {needed} | {one.text} |".replace("|  |", "| |")
