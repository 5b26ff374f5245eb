"""What tells the rows of a fit apart: their campaign, phase, model, TP, run, and sizes."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrate.campaign.campaign import Campaign
from sim.steps.batch import StepTable

POINT = [
    "campaign",
    "phase",
    "model",
    "tp",
    "dtype",
    "ep",
    "kv_dtype",
    "batch",
    "new_tokens",
    "context_tokens",
    "prefill_tokens",
]
"""Columns that are the same for replicates of one point."""


SLICE = ["phase", "model", "tp"]
"""Columns that are the same for the rows of a slice."""


def labels_of_steps(campaign: Campaign) -> pd.DataFrame:
    """The labels of a campaign's steps, a row each, beside what the reports show of them."""
    moments = campaign.table.moments
    requests = moments[0] + moments[6]
    columns = {
        "campaign": np.full(len(campaign.steps), campaign.name, dtype=object),
        "line": campaign.steps["line"].to_numpy(),
        "phase": _phases(campaign.table),
        "model": campaign.steps["model"].to_numpy(),
        "tp": campaign.table.tp,
        "dtype": _served_as(campaign.table, "dtype"),
        "ep": np.array([a.ep for a in campaign.table.architectures])[campaign.table.arch_index],
        "kv_dtype": _served_as(campaign.table, "kv_dtype"),
        "layers": _served_as(campaign.table, "kind"),
        "run": _runs(campaign),
        "batch": requests,
        "new_tokens": moments[1] + moments[3] + moments[6],
        "context_tokens": (moments[2] + moments[4] + moments[7]) / np.maximum(requests, 1),
        "prefill_tokens": moments[1] + moments[3],
        "latency_us": campaign.steps["latency_us"].to_numpy(),
        "composed": campaign.info.kind == "kernel-composed",
        "set_aside": False,
    }
    if "node" in campaign.steps:
        columns["node"] = campaign.steps["node"].to_numpy(dtype=object)
    if "latency_std_us" in campaign.steps:
        columns["latency_std_us"] = campaign.steps["latency_std_us"].to_numpy()
    texts = {
        name: pd.Series(values, dtype=object)
        for name, values in columns.items()
        if isinstance(values, np.ndarray) and values.dtype == object
    }
    return pd.DataFrame({**columns, **texts}, copy=False)


def _served_as(table: StepTable, name: str) -> NDArray[np.object_]:
    """A text of every step's model, one string for all of a model."""
    texts = np.array([getattr(arch, name) for arch in table.architectures], dtype=object)
    return texts[table.arch_index]


def _phases(table: StepTable) -> NDArray[np.object_]:
    """The phase of every step, one string for all of a phase."""
    kind = 2 * (table.moments[0] > 0) + (table.moments[6] > 0)
    _, first, which = np.unique(kind, return_index=True, return_inverse=True)
    return table.take(first).phases.astype(object)[which]


def _runs(campaign: Campaign) -> NDArray[np.object_]:
    """The run of every step, with the campaign's name; a row without one is a run of its own."""
    if "run_id" not in campaign.steps:
        alone, runs = (
            np.ones(len(campaign.steps), dtype=bool),
            np.empty(len(campaign.steps), object),
        )
    else:
        code, names = pd.factorize(campaign.steps["run_id"].to_numpy(dtype=object))
        alone = (names == "")[code]
        runs = np.array([f"{campaign.name}/{name}" for name in names], dtype=object)[code]
    runs[alone] = [f"{campaign.name}/line {row}" for row in np.flatnonzero(alone)]
    return runs
