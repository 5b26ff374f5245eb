"""What the commands share: consoles, number formats, options."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.choices import (
    KNOWN_GPUS,
    LATENCY_MODELS,
    complete_gpu,
    complete_latency_model,
    listed,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from calibrate.records.interval import Interval
    from sim.database.table import MfuTable


def gpu_option(words: str, **more: Any) -> Any:
    """The option ``--gpu``, which the shell completes."""
    return typer.Option("--gpu", metavar="GPU", help=words, autocompletion=complete_gpu, **more)


GpuOption = Annotated[
    str,
    gpu_option(
        f"GPU: {', '.join(KNOWN_GPUS)} … (`calibrate show gpus` lists all), or one of your own.",
        show_default=False,
    ),
]
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a path has one of the two slashes only


def _of_this_machine(folder: Path) -> Path:
    """Refuse a URL where campaigns must lie on this machine."""
    if _URL.match(str(folder)):
        raise typer.BadParameter(
            "campaigns lie in a folder of this machine; their steps may lie elsewhere: say dataset = "
            '"s3://bucket/steps" in a campaign.toml, as `calibrate import … --dataset URL` does',
            param_hint="--ground-truth",
        )
    return folder


GroundTruthOption = Annotated[
    Path,
    typer.Option(
        "--ground-truth",
        help="Folder of campaigns, <GPU>/<campaign>/.",
        metavar="FOLDER",
        callback=_of_this_machine,
    ),
]
CampaignOption = Annotated[
    list[str] | None,
    typer.Option("--campaign", help="Only this campaign; may be repeated.", metavar="NAME"),
]
ConfigOption = Annotated[
    Path, typer.Option("--hardware-config", help="Hardware configuration file.", metavar="FILE")
]
ModelConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--hardware-config",
        help="Hardware configuration file; without it that of the model in hardware_configs/.",
        metavar="FILE",
    ),
]
BenchOption = Annotated[
    Path | None,
    typer.Option(
        "--bench-data-path",
        help="Benchmark database, which the roofline-v2 models need.",
        metavar="FOLDER",
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="With what the configuration holds of this engine, named with or without its version; else of its kind.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--latency-model",
        help=f"Latency model: {listed(LATENCY_MODELS)}.",
        metavar="NAME",
        autocompletion=complete_latency_model,
    ),
]

GROUND_TRUTH = Path("ground_truth")
CONFIGS = Path("hardware_configs")
HARDWARE_CONFIG = CONFIGS / "hardware_config.json"
REPORTS = Path("reports")
SERVING_NAMES = {"ttft": "TTFT", "itl": "ITL", "e2e": "end to end"}


def config_file(given: Path | None, latency_model: str) -> Path:
    """The configuration file to read and write: the given one, else the model's own."""
    from calibrate.parameters.guide import config_name

    return given or CONFIGS / config_name(latency_model)


def bench_table(latency_model: str, bench_data: Path | None, gpu: str) -> "MfuTable | None":
    """The benchmarks that a latency model looks up. Raises CalibrateError if they are missing, or not looked up."""
    from calibrate.records.errors import CalibrateError
    from sim.database.files import load_mfu_table
    from sim.models.registry import needs_mfu_table

    if needs_mfu_table(latency_model) and bench_data is None:
        raise CalibrateError(
            f"--latency-model {latency_model} looks MFUs up in a benchmark database: give its folder, which holds "
            "gemm/ and mha/, with --bench-data-path. `calibrate export bench-data` makes one of kernel tables"
        )
    if bench_data is None:
        return None
    if not needs_mfu_table(latency_model):
        raise CalibrateError(
            f"--bench-data-path: {latency_model} looks nothing up; leave it out, or give --latency-model roofline-v2"
        )
    return load_mfu_table(bench_data, gpu)


def stdout() -> "Console":
    """The console of results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def stderr() -> "Console":
    """The console of progress and warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    from calibrate.outcome.result_json import dump_json

    print(dump_json(content), end="")


def table(
    title: str, columns: Sequence[str], right: Sequence[str] = (), wrap: Sequence[str] = ()
) -> "Table":
    """An empty table in the house style; columns in ``right`` are aligned right, only those in ``wrap`` wrap."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name not in wrap,
        )
    return made


def number(value: float | None) -> str:
    """Four significant digits, without an exponent for what people write without one."""
    if value is None:
        return "–"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A fraction as a percentage with one digit."""
    return "–" if value is None else f"{value:.1%}"


def interval(ends: "Interval | None") -> str:
    """An interval with digits enough to tell its ends apart: ``0.737–0.788``; one-sided, ``≥ 0.7`` or ``≤ 0.9``."""
    if ends is None:
        return ""
    low, high = ends
    if low is None:
        return "not bounded" if high is None else f"≤ {_figures(high, 3)}"
    if high is None:
        return f"≥ {_figures(low, 3)}"
    digits = next(
        (n for n in range(3, 9) if float(f"{high:.{n - 1}g}") > float(f"{low:.{n - 1}g}")), 3
    )
    return f"{_figures(low, digits)}{'–' if high >= 0 else ' to '}{_figures(high, digits)}"


def _figures(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def split_names(options: Sequence[str]) -> list[str]:
    """The names in options that may be repeated and may hold several with commas."""
    names = ",".join(options).split(",")
    return [name.strip() for name in names if name.strip()]


def name_numbers(options: Sequence[str], flag: str) -> dict[str, float]:
    """Parse NAME=VALUE options. Raises typer.BadParameter (exit code 2) where the value is missing or no number."""
    parsed = {}
    for name, value in name_values(options, flag).items():
        if value is None:
            raise typer.BadParameter(
                f"{name!r}: give NAME=NUMBER, such as TFlopsPeak=362", param_hint=flag
            )
        parsed[name] = value
    return parsed


def name_values(options: Sequence[str], flag: str) -> dict[str, float | None]:
    """Parse NAME or NAME=VALUE options. Raises typer.BadParameter (exit code 2) for a value that is no number."""
    import math

    parsed: dict[str, float | None] = {}
    for option in options:
        name, given, text = option.partition("=")
        try:
            value = float(text) if given else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise typer.BadParameter(
                f"{option!r}: give NAME=NUMBER, such as mfuPrefill=0.6", param_hint=flag
            )
        if name.strip().lower() in (known.lower() for known in parsed):
            raise typer.BadParameter(f"{name.strip()} is given twice", param_hint=flag)
        parsed[name.strip()] = value
    return parsed
