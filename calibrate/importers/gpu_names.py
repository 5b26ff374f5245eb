"""Whether two names are one GPU's."""

import re

from sim.hardware import canonical_gpu

_SIGN = re.compile(r"[^a-z0-9]")


def same_gpu(name: str, other: str) -> bool:
    """Whether two names are of one GPU: by the registry's aliases, else the same but for case and signs.

    A file may call a GPU ``NVIDIA L4`` or ``rtx_4090``, which no folder and no option can.
    """
    return _bare(name) == _bare(other)


def _bare(name: str) -> str:
    return _SIGN.sub("", canonical_gpu(name.strip()).lower())
