"""What a moved parameter may be a sign of: a question for whoever looks, never an answer."""

_GPU_SLOWER = {
    "memory": ("memory clock?", "another memory clock, or less beside it?"),
    "compute": ("power cap, heat or SM clock?", "another SM clock, or better kernels?"),
    "attention": ("another attention backend, or SM clock?", "another attention backend?"),
    "host": ("host busier, or another engine version?", "another engine version?"),
    "link": ("link, NCCL or topology?", "link, NCCL or topology?"),
}
"""By what a parameter is of: the question where steps take longer, and where they take less."""

_OF = {
    "BwEffConstant": "memory",
    "prefillBwFactor": "memory",
    "decodeBwFactor": "memory",
    "kvBwFraction": "memory",
    "mfuPrefill": "compute",
    "mfuDecode": "compute",
    "vectorPeakFraction": "attention",
    "allReduceLatency": "link",
    "tpScalingExponent": "link",
    "decodeTpScalingExponent": "link",
}
_BY_PART = (
    ("attention", "attention"),
    ("allreduce", "link"),
    ("commun", "link"),
    ("bw", "memory"),
    ("mfu", "compute"),
    ("micros", "host"),
    ("overhead", "host"),
)


def question(name: str, *, slower: bool) -> str:
    """What a parameter that moved so that steps take longer, or less, may be a sign of; empty if that is not known."""
    kind = _OF.get(name) or next((kind for part, kind in _BY_PART if part in name.lower()), None)
    return "" if kind is None else _GPU_SLOWER[kind][0 if slower else 1]
