"""What tells the rows of a fit apart: their campaign, phase, model, TP, run, and sizes."""

import numpy as np
import pandas as pd

from calibrate.campaign.campaign import Campaign
from calibrate.records.cells import categories
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
    coded = coded_labels(campaign)
    columns = {
        name: pd.Series(np.asarray(cells, dtype=object), dtype=object)
        if isinstance(cells.dtype, pd.CategoricalDtype)
        else cells
        for name, cells in coded.items()
    }
    return pd.DataFrame(columns, copy=False)


def coded_labels(campaign: Campaign) -> pd.DataFrame:
    """The same with texts as categories."""
    table, steps = campaign.table, campaign.steps
    moments = table.moments
    requests = moments[0] + moments[6]
    columns = {
        "campaign": categories(np.zeros(len(steps), np.int8), np.array([campaign.name], object)),
        "line": steps["line"].to_numpy(),
        "phase": _phases(table),
        "model": _distinct(steps["model"]),
        "tp": table.tp,
        "dtype": _served_as(table, "dtype"),
        "ep": np.array([a.ep for a in table.architectures])[table.arch_index],
        "kv_dtype": _served_as(table, "kv_dtype"),
        "layers": _served_as(table, "kind"),
        "run": _runs(campaign),
        "batch": requests,
        "new_tokens": moments[1] + moments[3] + moments[6],
        "context_tokens": (moments[2] + moments[4] + moments[7]) / np.maximum(requests, 1),
        "prefill_tokens": moments[1] + moments[3],
        "latency_us": steps["latency_us"].to_numpy(),
        "composed": campaign.info.kind == "kernel-composed",
        "set_aside": False,
    }
    if "node" in steps:
        columns["node"] = _distinct(steps["node"])
    if "latency_std_us" in steps:
        columns["latency_std_us"] = steps["latency_std_us"].to_numpy()
    return pd.DataFrame(columns, copy=False)


def _distinct(cells: pd.Series) -> pd.Categorical:
    """A column of texts, one string for all cells that say the same."""
    if isinstance(cells.dtype, pd.CategoricalDtype):
        coded: pd.Categorical = cells.array
        return coded
    return categories(*pd.factorize(cells.to_numpy(dtype=object)))


def _served_as(table: StepTable, name: str) -> pd.Categorical:
    """A text of every step's model."""
    code, words = pd.factorize(
        np.array([getattr(arch, name) for arch in table.architectures], dtype=object)
    )
    return categories(code[table.arch_index], words)


def _phases(table: StepTable) -> pd.Categorical:
    """The phase of every step."""
    kind = 2 * (table.moments[0] > 0) + (table.moments[6] > 0)
    _, first, which = np.unique(kind, return_index=True, return_inverse=True)
    return categories(which, table.take(first).phases.astype(object))


def _runs(campaign: Campaign) -> pd.Categorical:
    """The run of every step, with the campaign's name; a row without one is a run of its own."""
    if "run_id" in campaign.steps:
        cells = _distinct(campaign.steps["run_id"])
        code, names = cells.codes.astype(np.intp), cells.categories
    else:
        code, names = np.full(len(campaign.steps), -1), pd.Index([])
    words = [f"{campaign.name}/{name}" for name in names]
    alone = (code < 0) | np.append(names == "", False)[code]
    code[alone] = len(words) + np.arange(alone.sum())
    words += [f"{campaign.name}/line {row}" for row in np.flatnonzero(alone)]
    return categories(code, np.array(words, dtype=object))
