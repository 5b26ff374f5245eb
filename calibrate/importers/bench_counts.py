"""How many requests and tokens a result of vLLM's or SGLang's serving benchmark counts, and what tells against it.

Somebody may have taken sums out of a result; their columns are then left open.
"""

from collections.abc import Mapping
from typing import Any

from calibrate.importers.request_detail import RequestDetail
from calibrate.importers.run_folder import WARNING, Row, amount
from calibrate.importers.thresholds import CHUNK, STUCK

_RETOKENIZED = "total_output_tokens_retokenized"


def given(content: Mapping[str, Any], name: str) -> bool:
    """Whether an optional field is there and holds something."""
    return content.get(name) not in (None, "")


def optional(content: Mapping[str, Any], name: str, where: str) -> float | None:
    """The number of 0 or more of an optional field. Raises ImportFormatError if it holds something else."""
    return amount(content, name, where) if given(content, name) else None


def read_counts(content: Mapping[str, Any], where: str, detail: RequestDetail | None) -> Row:
    """Columns of requests, mean lengths and throughput, and a warning where tokens were counted that never came.

    Raises ImportFormatError if a field is negative or no number.
    """
    return {
        **_requests(content, where, detail),
        **_lengths(content, where),
        **_throughput(content, where),
        **_doubt(content, where),
    }


def _requests(content: Mapping[str, Any], where: str, detail: RequestDetail | None) -> Row:
    """How many requests were sent and how many failed, as far as the result says."""
    prompts = optional(content, "num_prompts", where)
    completed = optional(content, "completed", where)
    if completed is None:
        return {} if prompts is None else {"num_requests": prompts}
    if (failed := optional(content, "failed", where)) is not None:
        return {"num_requests": completed + failed, "failed_requests": failed}
    sent = detail.sent if detail else prompts
    if sent is None or sent < completed:
        return {"num_requests": completed}
    return {"num_requests": sent, "failed_requests": sent - completed}


def _lengths(content: Mapping[str, Any], where: str) -> Row:
    completed = optional(content, "completed", where)
    row: Row = {}
    for what in ("input", "output"):
        tokens = optional(content, f"total_{what}_tokens", where)
        if completed and tokens is not None:
            row[f"{what}_tokens_mean"] = tokens / completed
    return row


def _throughput(content: Mapping[str, Any], where: str) -> Row:
    """The client's own rates; where it has none, or its text holds fewer tokens than it counts, sums over duration."""
    requests = _rate(content, "request_throughput", "completed", where)
    tokens = _rate(content, "output_throughput", "total_output_tokens", where)
    if _in_text(content, where) < STUCK:
        tokens = _per_second(content, _RETOKENIZED, where)
    rates = {"output_tokens_per_s": tokens, "requests_per_s": requests}
    return {column: rate for column, rate in rates.items() if rate is not None}


def _rate(content: Mapping[str, Any], own: str, total: str, where: str) -> float | None:
    rate = optional(content, own, where)
    return _per_second(content, total, where) if rate is None else rate


def _per_second(content: Mapping[str, Any], total: str, where: str) -> float | None:
    count = optional(content, total, where)
    duration_s = optional(content, "duration", where)
    return count / duration_s if count is not None and duration_s else None


def _doubt(content: Mapping[str, Any], where: str) -> Row:
    """What to warn of: output tokens that, by what else the result says, did not come one by one."""
    in_text = _in_text(content, where)
    ratio = _tokens_a_chunk(content)
    stuck, chunks = in_text < STUCK, ratio > CHUNK
    if not stuck and not chunks:
        return {}
    text = f"its text holds {in_text:.0%} of the output tokens that it counts"
    times = f"its mean ITL is {ratio:.3g} × its mean TPOT"
    found = " and ".join([text] * stuck + [times] * chunks)
    if stuck:
        cause = "requests stopped early but count in full, so that its time per token is too short; measure again"
    else:
        cause = (
            "a chunk holds several tokens (speculative decoding, a stream interval), or tokens are counted that were "
            "not generated; find out which"
        )
    return {WARNING: f"{found}: {cause}"}


def _in_text(content: Mapping[str, Any], where: str) -> float:
    """The share of the output tokens that the text holds, tokenised anew; 1 where the client does not say."""
    counted = optional(content, "total_output_tokens", where)
    found = optional(content, _RETOKENIZED, where)
    return found / counted if found is not None and counted else 1.0


def _tokens_a_chunk(content: Mapping[str, Any]) -> float:
    """ITL over TPOT; 1 where one of them is not there or is nothing."""
    tpot_ms = content.get("mean_tpot_ms")
    itl_ms = content.get("mean_itl_ms")
    if not isinstance(tpot_ms, int | float) or not isinstance(itl_ms, int | float) or tpot_ms <= 0:
        return 1.0
    return itl_ms / tpot_ms if itl_ms > 0 else 1.0
