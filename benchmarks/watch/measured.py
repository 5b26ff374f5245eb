"""Steps that were measured, drawn in random order into logs: how often a slow-down of the second half is found."""

import dataclasses

import numpy as np
import pandas as pd

from benchmarks.accuracy.datasets import ROOT, SHARED
from benchmarks.watch.setting import AFTER, BASELINE, LATENCY_MODEL, SLOWER, WITHIN, new_watch
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.importers import read_source
from calibrate.watch.rows import LABELS, Rows
from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware, gpu_specs

_CAMPAIGNS = (
    ("H100", "aiconfigurator-vllm-0.24.0", "decode"),
    ("H100", "aiconfigurator-vllm-0.24.0", "prefill"),
    ("RTX-PRO-6000-Server", "llmservingsim-vllm-0.19.0", "mixed"),
)


def real_rows() -> dict[str, Rows]:
    """Measured steps of one phase, by what they are of."""
    root, specs = ROOT / "ground_truth", gpu_specs()
    found = {}
    for gpu, campaign, phase in _CAMPAIGNS:
        hardware = Hardware(gpu, dict(specs[gpu].values))
        (one,) = load_campaigns(root, gpu, (campaign,), hardware)
        found[f"{phase} of {gpu}, {campaign}"] = _rows_of(one, phase)
    splitwise = SHARED / "ground_truth" / "splitwise" / "perf_model_h100_llama2-70b.csv"
    if splitwise.exists():
        imported = read_source("splitwise", str(splitwise), "H100")
        one = Campaign.from_frame(imported.tables["steps"], "H100")
        found["decode of H100, Splitwise's replicates"] = _rows_of(one, "decode")
    return found


def _rows_of(campaign: Campaign, phase: str) -> Rows:
    rows = np.flatnonzero(campaign.table.phases == phase)
    known = np.array([_is_computed(arch) for arch in campaign.table.architectures])
    rows = rows[known[campaign.table.arch_index[rows]]]
    rows = rows[~LATENCY_MODEL.beyond(campaign.table)[rows]]
    labels = pd.DataFrame({name: pd.Categorical([""] * len(rows)) for name in LABELS})
    measured = campaign.steps["latency_us"].to_numpy(dtype=np.float64)[rows]
    return Rows(campaign.table.take(rows), measured, np.zeros(len(rows)), labels)


def _is_computed(arch: Architecture) -> bool:
    try:
        LATENCY_MODEL.limits(arch)
    except ArchitectureError:
        return False
    return True


def real(rows: Rows, logs: int) -> dict[str, float]:
    """Measured steps drawn into logs, cut in two, of which the second half is 3% slower: found within 1,000 steps."""
    delays, early = [], 0
    for seed in range(logs):
        rng = np.random.default_rng(seed)
        begin = BASELINE + 2000
        drawn = rows.take(rng.integers(0, len(rows), begin + AFTER))
        at = np.arange(len(drawn), dtype=np.float64)
        slower = np.where(at >= begin, SLOWER, 1.0)
        watch = new_watch(by=("model",))
        watch.take_in(dataclasses.replace(drawn, at=at, measured_us=drawn.measured_us * slower))
        after = [alarm.at - begin + 1 for alarm in watch.alarms if alarm.at >= begin]
        early += sum(alarm.at < begin for alarm in watch.alarms)
        delays += after[:1]
    noise = next(iter(watch.slices.values())).noise
    return {
        "logs": logs,
        "steps_measured": len(rows),
        "spread": noise.step if noise else float("nan"),
        "found_within_1000": sum(delay <= WITHIN for delay in delays) / logs,
        "found_within_3000": len(delays) / logs,
        "false_alarms": early,
    }
