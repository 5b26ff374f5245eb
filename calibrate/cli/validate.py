"""``calibrate validate``: every error and warning about the campaigns."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import (
    GROUND_TRUTH,
    HARDWARE_CONFIG,
    BenchOption,
    CampaignOption,
    ConfigOption,
    GroundTruthOption,
    JsonOption,
    gpu_option,
    name_numbers,
    print_json,
    stdout,
)
from calibrate.cli.findings import show_findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibrate.campaign.campaign import Campaign
    from calibrate.records.errors import Problem
    from sim.hardware import Hardware


def command(
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    gpu: Annotated[str | None, gpu_option("Only this GPU; all of them without it.")] = None,
    campaign: CampaignOption = None,
    hardware_config: ConfigOption = HARDWARE_CONFIG,
    bench_data_path: BenchOption = None,
    spec: Annotated[
        list[str] | None,
        typer.Option("--spec", help="KEY=VALUE of a new GPU, such as TFlopsPeak=362; with --gpu."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check campaigns and name every bad row: file, line, column, value and the fix. Exit 1 if there is an error."""
    from calibrate.campaign.campaign import load_campaigns
    from calibrate.campaign.folders import campaign_folders
    from calibrate.campaign.peaks import check_peaks, unchecked
    from calibrate.campaign.quality import check_coverage, check_runs
    from calibrate.records.errors import CalibrateError
    from sim.hardware import check_gpu_name

    given = name_numbers(spec or [], "--spec")
    if given and gpu is None:
        raise typer.BadParameter("say of which GPU, with --gpu", param_hint="--spec")
    if gpu is not None:
        check_gpu_name(gpu)
    elif not ground_truth.is_dir():
        raise CalibrateError(
            f"{ground_truth}: no such ground-truth folder. Give it with --ground-truth"
        )
    gpus = (
        [gpu]
        if gpu is not None
        else sorted(path.name for path in ground_truth.iterdir() if path.is_dir())
    )
    chosen = {
        name: _wanted(ground_truth / name, campaign or [], every=gpu is not None) for name in gpus
    }
    if campaign and not any(chosen.values()):
        raise CalibrateError(f"{ground_truth}: no GPU has a campaign {', '.join(campaign)}")
    findings = []
    for name in (name for name, names in chosen.items() if names or not campaign):
        every = [folder.name for folder in campaign_folders(ground_truth, name)]
        hardware = _peaks(hardware_config, name, given)
        peaks = check_peaks(hardware) if hardware else [unchecked(name, str(hardware_config))]
        findings += [
            (
                one,
                [
                    *peaks,
                    *one.problems,
                    *check_coverage(str(one.folder), one.table),
                    *check_runs(str(one.folder), one.steps),
                    *_holes(bench_data_path, name, one),
                ],
            )
            for one in load_campaigns(ground_truth, name, chosen[name] or every, hardware)
        ]
    errors = sum(problem.severity == "error" for _, problems in findings for problem in problems)
    if json:
        print_json(
            {"errors": errors, "campaigns": [_plain(one, problems) for one, problems in findings]}
        )
    else:
        _show(findings)
    if errors:
        raise typer.Exit(1)


def _holes(bench_data: Path | None, gpu: str, campaign: "Campaign") -> "list[Problem]":
    """What a benchmark database lacks for a campaign's steps."""
    if bench_data is None or not len(campaign.table):
        return []
    from calibrate.records.errors import Problem
    from sim.database.files import load_mfu_table
    from sim.models.mfu_holes import find_holes

    fix = "Measure it, or trust those predictions less"
    holes = find_holes(load_mfu_table(bench_data, gpu), campaign.table)
    return [Problem("warning", str(bench_data), str(hole), fix) for hole in holes]


def _wanted(folder: Path, names: list[str], *, every: bool) -> list[str]:
    """The named campaigns; of several GPUs, those that this one has."""
    return [name for name in names if every or (folder / name).is_dir()]


def _peaks(config: Path, gpu: str, given: "Mapping[str, float]") -> "Hardware | None":
    """The GPU's peaks from the configuration or the registry, and ``--spec``; None where none of them knows it."""
    from calibrate.parameters.start import read_spec
    from sim.configuration import load_hardware, read_config
    from sim.hardware import Hardware, canonical_gpu, find_gpu, gpu_specs

    stated = read_spec(given, gpu)
    if config.exists() and find_gpu(gpu, read_config(config)) is not None:
        return load_hardware(config, gpu).with_values(stated)
    spec = gpu_specs().get(canonical_gpu(gpu))
    if spec is not None:
        return Hardware(spec.name, {**spec.values, **stated}, "the registry")
    return Hardware(gpu, stated, "--spec") if stated else None


def _plain(campaign: "Campaign", problems: "list[Problem]") -> dict[str, object]:
    return {
        "gpu": campaign.gpu,
        "campaign": campaign.name,
        "tables": [dataclasses.asdict(file) for file in campaign.files],
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


def _show(findings: "list[tuple[Campaign, list[Problem]]]") -> None:
    console = stdout()
    for campaign, problems in findings:
        show_findings(console, campaign, problems)
    counts = [
        sum(p.severity == s for _, problems in findings for p in problems)
        for s in ("error", "warning")
    ]
    console.print(f"{counts[0]} errors, {counts[1]} warnings")
