"""A run as a report may get it: a real fit of made-up steps, with every part that a fit may add filled in plausibly."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from calibrate import load_campaigns
from calibrate.job.calibration import fit
from calibrate.outcome.identifiability import GroupSensitivity
from calibrate.outcome.result import FitResult
from sim import load_hardware
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

TRUTH = {
    "BwEffConstant": 0.8,
    "mfuPrefill": 0.58,
    "mfuDecode": 0.2,
    "TOverheadMicros": 90.0,
    "allReduceLatency": 31.0,
}
HOSTILE = f"<script>alert(\"1\")</script> 'q' \u202e\u05d0\u05d1\u05d2 {'long' * 70}"
"""A name with markup, quotes, letters from right to left, and more than 300 characters."""


def plain_run(folder, rows=240, models=("llama-3.1-8b", "llama-2-13b")):
    """A fit to synthetic steps in two campaigns."""
    hardware = load_hardware({"H100": {**GUIDE_H100, **TRUTH}}, gpu="H100")
    for seed, name in enumerate(("first", "second")):
        write_campaign(
            folder,
            "H100",
            synthetic_steps(hardware, rows // 2, models=models, noise=0.05, seed=seed),
            name,
        )
    start = load_hardware({"H100": GUIDE_H100}, gpu="H100")
    campaigns = load_campaigns(folder, "H100", hardware=start)
    result = fit(campaigns, start, starts=4, skip_bad_rows=True, command="calibrate fit --gpu H100")
    return dataclasses.replace(result, predictions=result.predictions.reset_index(drop=True))


def bare(result: FitResult) -> FitResult:
    """The same run without what a shorter fit leaves out."""
    parameters = tuple(
        dataclasses.replace(p, intervals={}, informed_by=(), prior=None) for p in result.parameters
    )
    nothing = GroupSensitivity((), (), {})
    return dataclasses.replace(
        result,
        parameters=parameters,
        identifiability=dataclasses.replace(
            result.identifiability, singular_values=(), sensitivity=nothing
        ),
        lack_of_fit=None,
        structure=(),
        outliers=(),
        profiles={},
        bands=None,
        predictions=result.predictions.drop(
            columns=["low_us", "high_us", "before_regime", "cause"]
        ),
    )


def enrich(run: FitResult, seed: int = 0) -> FitResult:
    """The same run with every part of schema version 2, plausible and the same every time."""
    rng = np.random.default_rng(seed)
    result = run.to_dict()
    frame = run.predictions
    moved = [
        p
        for p in result["parameters"]
        if p["status"] == "fitted" and p["ci90"] and None not in p["ci90"]
    ]
    names = [p["name"] for p in moved]
    groups = sorted(
        f"{phase} tp {tp}" for phase, tp in set(zip(frame["phase"], frame["tp"], strict=True))
    )
    for parameter in result["parameters"]:
        _enrich_parameter(parameter, groups, rng)
    seen = result["identifiability"]
    seen["collinearity_index"] = 4.2
    seen["singular_values"] = np.geomspace(2.1, 0.06, len(names)).tolist()
    seen["start"] = {
        "rank": len(names) + 1,
        "condition_number": 310.0,
        "collinearity_index": 38.0,
        "singular_values": np.geomspace(2.3, 0.007, len(names) + 2).tolist(),
    }
    seen["sensitivity"] = {
        "groups": groups,
        "n": [int(rng.integers(5, 60)) for _ in groups],
        "rms": {name: rng.beta(0.6, 1.4, len(groups)).round(4).tolist() for name in names},
    }
    held_out = result["metrics"]["held_out"]
    held_out.setdefault(
        "run", {k: {**v, "mape": v["mape"] * 1.1} for k, v in held_out["folds"].items()}
    )
    result |= _findings(frame, result) | {
        "profiles": {p["name"]: _profile(p, one_sided=i == 1) for i, p in enumerate(moved)},
        "bootstrap": {
            "samples": 200,
            "failed": 3,
            "values": {p["name"]: _draws(p, 197, rng) for p in moved},
        },
        "mcmc": {
            "samples": 400,
            "acceptance": 0.31,
            "autocorrelation": 42.0,
            "note": "",
            "values": {p["name"]: _draws(p, 400, rng) for p in moved},
        },
        "bands": {
            "level": 0.9,
            "coverage": {k: 0.91 - 0.02 * i for i, k in enumerate(result["metrics"]["after"])},
        },
        "previous": {
            "run": "20261019-101500",
            "created": "2026-10-19T10:15:00+00:00",
            "latency_model": result["latency_model"],
            "parameters": {
                p["name"]: {
                    "value": p["value"] * 1.07,
                    "ci90": [p["value"] * 1.04, p["value"] * 1.1],
                }
                for p in moved
            },
            "mape_after": 0.093,
            "mape_held_out": 0.101,
        },
        "config_diff": _diff(result),
    }
    return FitResult.from_dict(result, _enrich_rows(frame, rng))


def with_hostile_names(result: FitResult) -> FitResult:
    """The same run with :data:`HOSTILE` for one model and for one campaign, wherever these are named."""
    frame = result.predictions
    model = frame["model"].iloc[0]
    campaign = frame["campaign"].iloc[0]
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    for name in (model, campaign):
        for mark in (':{}"', '"{}"'):
            text = text.replace(
                mark.format(name), mark.format(json.dumps(HOSTILE, ensure_ascii=False)[1:-1])
            )
    hostile = json.loads(text)
    hostile["warnings"] = [*hostile["warnings"], HOSTILE]
    hostile["config_diff"] = [*hostile["config_diff"], f"+{HOSTILE}"]
    return FitResult.from_dict(
        hostile, frame.replace({"model": {model: HOSTILE}, "campaign": {campaign: HOSTILE}})
    )


def _enrich_parameter(
    parameter: dict[str, Any], groups: list[str], rng: np.random.Generator
) -> None:
    parameter |= {"intervals": {}, "informed_by": [], "prior": None}
    if parameter["status"] != "fitted" or not parameter["ci90"] or None in parameter["ci90"]:
        return
    value, (low, high) = parameter["value"], parameter["ci90"]
    wider = (high - low) * 0.3
    parameter["intervals"] = {
        parameter["ci90_method"]: [low, high],
        "profile likelihood": [
            low - wider / 2,
            None if parameter["name"] == "mfuPrefill" else high + wider,
        ],
        "bootstrap by run": [low - wider, high + wider / 2],
    }
    shares = np.sort(rng.dirichlet(np.ones(4)))[::-1][:3]
    picked = rng.choice(groups, size=3, replace=False)
    parameter["informed_by"] = [
        {"rows": str(rows), "n": int(rng.integers(5, 60)), "share": round(float(share), 3)}
        for rows, share in zip(picked, shares, strict=True)
    ]
    if parameter["name"] == "mfuPrefill":
        parameter["ci90"], parameter["ci90_method"] = [low, None], "profile likelihood"
    if parameter["name"] == "mfuDecode":
        parameter["prior"] = {
            "source": "guide",
            "mean": 0.12,
            "sd": 0.03,
            "data": value * 1.02,
            "data_sd": (high - low) / 3.3,
            "pull": 0.08,
        }


def _profile(parameter: dict[str, Any], *, one_sided: bool) -> dict[str, list[float]]:
    value, (low, high) = parameter["value"], parameter["ci90"]
    half = (high if high is not None else 2 * value - low) - value
    offsets = np.linspace(-1.6, 1.6, 17)
    rise = np.where(one_sided & (offsets > 0), 0.25 * (1 - np.exp(-offsets)), offsets**2)
    return {"values": (value + offsets * half).tolist(), "rise": rise.tolist()}


def _draws(parameter: dict[str, Any], count: int, rng: np.random.Generator) -> list[float]:
    draws: Iterable[float] = parameter["value"] + (
        parameter["stderr"] or 0.0
    ) * rng.standard_normal(count)
    return list(map(float, draws))


def _findings(frame: pd.DataFrame, result: dict[str, Any]) -> dict[str, Any]:
    worst = frame.loc[frame["residual"].abs().sort_values(ascending=False, kind="stable").index[:3]]
    name = result["latency_model"]
    return {
        "lack_of_fit": {
            "f": 21.4,
            "p": 1e-12,
            "dof_model": 60,
            "dof_replicates": 120,
            "spread_model": 0.061,
            "spread_replicates": 0.012,
            "text": f"Replicates agree to 1.2%, {name} misses them by 6.1%: the model lacks a term.",
        },
        "structure": [
            {
                "phase": "decode",
                "where": "tp 8",
                "along": "batch",
                "slope": -0.032,
                "p": 2e-7,
                "text": "Decode steps at tp 8: the error falls by 3.2% with every doubling of the batch.",
            }
        ],
        "outliers": [
            {
                **{
                    key: row[key]
                    for key in (
                        "campaign",
                        "line",
                        "model",
                        "tp",
                        "phase",
                        "measured_us",
                        "influence",
                    )
                },
                "predicted_us": row["after_us"],
                "cause": cause,
            }
            for cause, row in zip(
                ("first steps of its run", "off its replicates", "no cause found"),
                worst.to_dict("records"),
                strict=False,
            )
        ],
    }


def _diff(result: dict[str, Any]) -> list[str]:
    changed = [p for p in result["parameters"] if p["value"] != p["start"]]
    return [
        "--- hardware_config.json (before)",
        "+++ hardware_config.json (after)",
        "@@ -1,20 +1,20 @@",
        "     {",
        *(f'-        "{p["name"]}": {p["start"]:g},' for p in changed),
        *(f'+        "{p["name"]}": {p["value"]:g},' for p in changed),
        '         "note": "<b>kept</b>"',
        "     }",
    ]


def _enrich_rows(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    before = np.where(rng.random(len(frame)) < 0.1, "host", frame["regime"])
    large = frame["residual"].abs() > frame["residual"].abs().quantile(0.98)
    return frame.assign(
        low_us=frame["after_us"] * 0.88,
        high_us=frame["after_us"] * 1.14,
        before_regime=before,
        cause=np.where(large, "off its replicates", ""),
    )
