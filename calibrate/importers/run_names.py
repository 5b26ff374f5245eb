"""What the names of a run's file and folders say of its degrees, held against the row's: ``run_TP4_DP2.json``."""

import re

import numpy as np
import pandas as pd

from calibrate.campaign.rows import Mask

_SIZE = r"(?:[-_]?(?:size|degree))?[-_=]?(\d+)(?!\d)"
_TP = re.compile(rf"(?<![a-z])(?:tp|tensor[-_]?parallel){_SIZE}", re.IGNORECASE)
_ENGINES = {
    "data-parallel replicas": re.compile(
        rf"(?<![a-z])(?:dp|data[-_]?parallel){_SIZE}", re.IGNORECASE
    ),
    "pipeline stages": re.compile(rf"(?<![a-z])(?:pp|pipeline[-_]?parallel){_SIZE}", re.IGNORECASE),
}
_LARGEST = 64
"""Degrees above are none: pp512 is a prompt of 512 tokens."""


def check_names(serving: pd.DataFrame, own_tp: Mask) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The rows whose names agree with them, why the others are left out, and what to warn of.

    ``own_tp`` are the rows (n,) whose source itself says their degree: a name that says another is then to be
    doubted, not the row.
    """
    if not {"run_id", "folder", "tp"} <= set(serving):
        return serving, [], []
    rows = zip(serving["run_id"], serving["folder"], serving["tp"], own_tp, strict=True)
    verdicts = [_verdict(str(run_id), str(folder), tp, own=own) for run_id, folder, tp, own in rows]
    keep = np.array([not reason for reason, _ in verdicts], dtype=bool)
    left_out, warnings = (
        list(dict.fromkeys(filter(None, texts))) for texts in zip(*verdicts, strict=True)
    )
    return serving[keep].reset_index(drop=True), left_out, warnings


def _verdict(run_id: str, folder: str, tp: float, *, own: bool) -> tuple[str, str]:
    """Why a row is left out, and what to warn of it; both empty where its names agree with it."""
    names = [*reversed(run_id.split("/")), folder.partition(" (was ")[0]]
    if reason := _other_engines(names):
        return f"{run_id}: {reason}", ""
    degree = _other_degree(names, tp)
    if degree is None:
        return "", ""
    says = f"{run_id}: its name says TP {degree}"
    if own:
        return "", f"{says}, the run itself {tp:g}; find out which it was"
    return f"{says}, not {tp:g}; import it with --tp {degree}", ""


def _other_engines(names: list[str]) -> str:
    """Which parts besides one engine the names speak of, in words; empty where they speak of none."""
    for what, pattern in _ENGINES.items():
        sizes = _nearest(pattern, names)
        if sizes and min(sizes) > 1:
            return f"its name says {min(sizes)} {what}: the table is of one engine"
    return ""


def _other_degree(names: list[str], tp: float) -> int | None:
    """The tensor-parallel degree that the names say, where it is not ``tp``."""
    sizes = _nearest(_TP, names)
    return None if not sizes or int(tp) in sizes else min(sizes)


def _nearest(pattern: re.Pattern[str], names: list[str]) -> set[int]:
    """The sizes in the first of the names that has any."""
    found = ({int(size) for size in pattern.findall(name)} for name in names)
    degrees = ({size for size in sizes if 0 < size <= _LARGEST} for sizes in found)
    return next(filter(None, degrees), set())
