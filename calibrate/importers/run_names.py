"""What the names of a run's file and folders say of its degrees, held against the row's: ``run_TP4_DP2.json``."""

import re

import numpy as np
import pandas as pd

from calibrate.campaign.quality import Mask

_SIZE = r"(?:[-_]?(?:parallel|size|degree))*[-_=]?(\d+)(?!\d)"
_TP = re.compile(rf"(?<![a-z])(?:tp|tensor){_SIZE}", re.IGNORECASE)
_ENGINES = {
    "data-parallel replicas": re.compile(rf"(?<![a-z])(?:dp|data){_SIZE}", re.IGNORECASE),
    "pipeline stages": re.compile(rf"(?<![a-z])(?:pp|pipeline){_SIZE}", re.IGNORECASE),
}


def check_names(serving: pd.DataFrame, own_tp: Mask) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The rows whose names agree with them, why the others are left out, and what to warn of.

    ``own_tp`` are the rows (n,) whose source itself says their degree: a name that says another is then to be
    doubted, not the row.
    """
    if not {"run_id", "folder", "tp"} <= set(serving):
        return serving, [], []
    keep = np.ones(len(serving), dtype=bool)
    left_out, warnings = {}, {}
    rows = zip(serving["run_id"], serving["folder"], serving["tp"], own_tp, strict=True)
    for at, (run_id, folder, tp, own) in enumerate(rows):
        names = _names_of(run_id, folder)
        degree = _other_degree(names, tp)
        if reason := _other_engines(names):
            keep[at] = False
            left_out[f"{run_id}: {reason}"] = None
        elif degree and own:
            warnings[
                f"{run_id}: its name says TP {degree}, it itself {tp:g}; find out which it was"
            ] = None
        elif degree:
            keep[at] = False
            left_out[
                f"{run_id}: its name says TP {degree}, not {tp:g}; import it with --tp {degree}"
            ] = None
    return serving[keep].reset_index(drop=True), list(left_out), list(warnings)


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


def _names_of(run_id: object, folder: object) -> list[str]:
    """The names of a run, from its file's up: the parts of its ``run_id``, and its folder as it is called now."""
    parts = str(run_id).split("/")
    return [*reversed(parts), str(folder).partition(" (was ")[0]]


def _nearest(pattern: re.Pattern[str], names: list[str]) -> set[int]:
    """The sizes in the first of the names that has any."""
    found = ({int(size) for size in pattern.findall(name)} for name in names)
    return next(filter(None, found), set())
