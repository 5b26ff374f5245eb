"""Errors of serving results: time to first token, inter-token and end-to-end latency, through the simulator.

Device parameters are those fitted to the steps of the same GPU, composed of its kernels; on top of them the defaults
of ``calibrate fit --serving`` are tuned to one campaign of serving results at a time.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.datasets import ROOT, Absent
from benchmarks.accuracy.evaluation import Evaluation, guide_hardware
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.job.calibration import fit
from calibrate.records.errors import CalibrateError
from calibrate.serving.summary import Served, ServingSummary
from sim.hardware import Hardware

MODELS = ("roofline-v1", "roofline-v3")
_TREATMENTS = {
    "model": "tuned, one model out",
    "run": "tuned, one run out",
    "folds": "tuned, a fifth of the runs out",
}
_SHARED = {
    "inference-perf (vLLM)": ("inference-perf", "ground_truth/inference-perf"),
    "GuideLLM sweep (vLLM 0.11)": ("guidellm", "ground_truth/guidellm"),
    "OpenTelemetry spans (vLLM)": ("otel", "ground_truth/otel"),
}
_TUNED_TO = "inference-perf (vLLM)"
_FEW = 20  # load points: fewer, and they are predicted with what was tuned to the larger runs beside them
_NOT_COMPARABLE = {
    (
        "H200",
        "inferencemax-style-sglang-0.5.6.post2",
    ): "its ITL is the same at any TP and load: a host or client set it"
}


@dataclasses.dataclass(frozen=True)
class ServingRow:
    """Mean absolute relative errors over the load ``points`` of a data set, as fractions; None where not measured."""

    dataset: str
    latency_model: str
    treatment: str
    points: int
    ttft: float | None
    itl: float | None
    e2e: float | None


def serving_rows(
    evaluations: Sequence[Evaluation], shared: Path, folder: Path, progress: Callable[[str], None]
) -> tuple[list[ServingRow], list[Absent]]:
    """A row for each data set, latency model and treatment, and what is left out.

    ``evaluations`` of steps give the device parameters; runs in ``shared`` are imported into ``folder``.
    """
    rows: list[ServingRow] = []
    absent = [Absent(f"{gpu} {name}", why) for (gpu, name), why in _NOT_COMPARABLE.items()]
    for one in (
        one
        for one in evaluations
        if one.contender.label in MODELS and one.data.name == one.data.gpu
    ):
        device = _device(one)
        tuned: dict[str, Hardware] = {}
        for name, campaign in _campaigns(one.data.gpu, device, shared, folder, absent):
            if not campaign.info.is_for((one.contender.model,)):
                continue
            progress(f"{name} · {one.contender.model}")
            start = (
                tuned.get(_TUNED_TO, device)
                if name in _SHARED and len(campaign.serving) < _FEW
                else device
            )
            result = _fitted(campaign, start, one.contender.model)
            if result is None:
                absent.append(
                    Absent(f"{name}, {one.contender.model}", "no row that this model can compute")
                )
                continue
            summary, values = result
            if name == _TUNED_TO:
                tuned[name] = device.with_values(values)
            told = f"tuned to {_TUNED_TO}" if start is not device else "nothing tuned"
            rows += _rows(name, one.contender.model, summary, told, only_before=start is not device)
        rows += _together(rows, one.data.gpu, one.contender.model)
    return rows, list(dict.fromkeys(absent))


def _device(one: Evaluation) -> Hardware:
    start = guide_hardware(one.data.gpu, one.contender.model)
    return start if one.result is None else start.with_values(one.result.values)


def _campaigns(
    gpu: str, hardware: Hardware, shared: Path, folder: Path, absent: list[Absent]
) -> Iterator[tuple[str, Campaign]]:
    """The campaigns of a GPU that hold serving results, those beside the project first (all of H100)."""
    for name, (importer, source) in _SHARED.items() if gpu == "H100" else ():
        if not (shared / source).is_dir():
            absent.append(Absent(name, "its result files are not there"))
            continue
        where = folder / gpu / importer
        if not where.is_dir():
            write_campaign(read_source(importer, str(shared / source), gpu), where)
        yield name, load_campaigns(folder, gpu, [importer], hardware)[0]
    for path in sorted((ROOT / "ground_truth" / gpu).iterdir()):
        if (path / "serving.csv").is_file() and (gpu, path.name) not in _NOT_COMPARABLE:
            yield (
                f"{gpu} {_short(path.name)}",
                load_campaigns(ROOT / "ground_truth", gpu, [path.name], hardware)[0],
            )


def _short(campaign: str) -> str:
    """``inferencemax-2025-10-29`` as InferenceMAX 2025-10-29, ``inferencemax-style-vllm-0.12.0`` as vllm-0.12.0."""
    return campaign.replace("inferencemax-style-", "").replace("inferencemax-", "InferenceMAX ")


def _fitted(
    campaign: Campaign, start: Hardware, model: str
) -> tuple[ServingSummary, dict[str, float]] | None:
    try:
        result = fit([campaign], start, latency_model=model, skip_bad_rows=True)
    except CalibrateError:
        return None
    return None if result.serving is None else (result.serving, result.values)


def _rows(
    name: str, model: str, summary: ServingSummary, told: str, *, only_before: bool
) -> Iterator[ServingRow]:
    treatments: Mapping[str, Served] = {told: summary.before}
    if not only_before:
        held_out = {_TREATMENTS[kind]: errors for kind, errors in summary.held_out.items()}
        treatments = {told: summary.before, "tuned": summary.after, **held_out}
    for treatment, errors in treatments.items():
        ttft, itl, e2e = (
            errors[metric]["all"].mape if metric in errors else None
            for metric in ("ttft", "itl", "e2e")
        )
        yield ServingRow(name, model, treatment, summary.points, ttft, itl, e2e)


def _together(rows: Sequence[ServingRow], gpu: str, model: str) -> Iterator[ServingRow]:
    """The mean over all shipped load points of a GPU, each campaign tuned by itself."""
    for treatment in ("nothing tuned", "tuned"):
        mine = [
            row
            for row in rows
            if row.dataset.startswith(f"{gpu} ")
            and (row.latency_model, row.treatment) == (model, treatment)
        ]
        if len(mine) > 1:
            points = [row.points for row in mine]
            ttft, itl = (
                float(np.average([getattr(row, name) for row in mine], weights=points))
                for name in ("ttft", "itl")
            )
            yield ServingRow(f"{gpu}, all of these", model, treatment, sum(points), ttft, itl, None)
