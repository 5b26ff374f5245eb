"""``calibrate export``: a GPU's parameters as the files of other tools."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.choices import (
    EXPORT_FORMATS,
    LATENCY_MODELS,
    complete_export_format,
    complete_latency_model,
    listed,
)
from calibrate.cli.console import (
    GROUND_TRUTH,
    HARDWARE_CONFIG,
    BenchOption,
    CampaignOption,
    ConfigOption,
    GpuOption,
    GroundTruthOption,
    JsonOption,
    bench_table,
    print_json,
    split_names,
    stderr,
)
from calibrate.cli.hardware import say_transferred
from calibrate.cli.output import check_output, words_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibrate.exporters.exported import Exported, Source
    from sim.models.latency_model import LatencyModel

EXIT_BAD_INPUT = 1

_Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        help="Served models, for formats that describe them; names or folders, commas between.",
    ),
]
_Tp = Annotated[
    list[str] | None, typer.Option("--tp", help="Their degrees of tensor parallelism; 1 without.")
]
_LatencyModel = Annotated[
    str | None,
    typer.Option(
        "--latency-model",
        help=f"Gives their step times: {listed(LATENCY_MODELS)}; without it the run's, else roofline-v1.",
        metavar="NAME",
        autocompletion=complete_latency_model,
        show_default=False,
    ),
]
_MaxNumSeqs = Annotated[int, typer.Option(min=2, max=65536, help="Requests a step, at most.")]
_MaxNumBatchedTokens = Annotated[
    int, typer.Option(min=128, max=1 << 20, help="New tokens a step, at most.")
]
_MaxContext = Annotated[
    int, typer.Option(min=128, max=1 << 24, help="Tokens of one request, at most.")
]
_PromptTokens = Annotated[
    int, typer.Option(min=1, max=1 << 24, help="Mean prompt, for formats that know one load.")
]
_OutputTokens = Annotated[
    int, typer.Option(min=1, max=1 << 24, help="Mean output, for formats that know one load.")
]


@dataclasses.dataclass(frozen=True)
class Written:
    """One format: what was written of it. ``retired`` names the tool's versions that still read it, else ''."""

    format: str
    output: str
    files: list[str]
    retired: str
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of each format: written, left out since it cannot be filled, or not writable; and why."""

    written: list[Written] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    not_written: dict[str, str] = dataclasses.field(default_factory=dict)


def command(
    gpu: GpuOption,
    format_name: Annotated[
        str | None,
        typer.Argument(
            metavar="FORMAT",
            help=f"{listed(EXPORT_FORMATS)} (`calibrate show formats` describes them).",
            autocompletion=complete_export_format,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File, or folder, to write.", show_default=False),
    ] = None,
    every: Annotated[
        Path | None,
        typer.Option("--all", help="Folder to write every format into.", show_default=False),
    ] = None,
    models: _Models = None,
    tp: _Tp = None,
    latency_model: _LatencyModel = None,
    max_num_seqs: _MaxNumSeqs = 256,
    max_num_batched_tokens: _MaxNumBatchedTokens = 8192,
    max_context: _MaxContext = 32768,
    prompt_tokens: _PromptTokens = 1024,
    output_tokens: _OutputTokens = 256,
    hardware_config: ConfigOption = HARDWARE_CONFIG,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Folder of a run: its values, with intervals.", show_default=False
        ),
    ] = None,
    bench_data_path: BenchOption = None,
    ground_truth: GroundTruthOption = GROUND_TRUTH,
    campaign: CampaignOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a GPU's parameters in another tool's format; some are fitted anew, to that tool's model."""
    if (every is None) == (format_name is None or output is None) or (
        every and (format_name or output)
    ):
        raise typer.BadParameter("give FORMAT and -o FILE, or --all FOLDER")
    from calibrate.exporters.step_times import Serving

    if json and output is not None:
        check_output(output, json=json)
    source = _source(gpu, hardware_config, run, ground_truth, tuple(campaign or ()))
    serving = Serving(
        tuple(split_names(models or ())),
        _degrees(tp or ()),
        _timing(source, latency_model, bench_data_path),
        max_num_seqs,
        max_num_batched_tokens,
        max_context,
        prompt_tokens,
        output_tokens,
    )
    source = dataclasses.replace(source, serving=serving)
    done = Done()
    if format_name is not None and output is not None:
        outcomes = _write(format_name, source, output, force)
    elif every is not None:
        outcomes = _write_all(source, every, force, done)
    for written in outcomes:
        done.written.append(written)
        if not json:
            _show(written)
    if json:
        print_json({"gpu": source.gpu, **dataclasses.asdict(done)})
    if done.not_written:
        raise typer.Exit(EXIT_BAD_INPUT)


def _degrees(options: "Sequence[str]") -> tuple[int, ...]:
    """The degrees of ``--tp``, in order, each once. Raises typer.BadParameter for what is no whole number ≥ 1."""
    names = split_names(options)
    if not all(name.isdecimal() and int(name) >= 1 for name in names):
        raise typer.BadParameter(
            f"{', '.join(names)}: give whole numbers of 1 or more, such as 1,2,4", param_hint="--tp"
        )
    return tuple(dict.fromkeys(map(int, names))) or (1,)


def _timing(source: "Source", latency_model: str | None, bench_data: Path | None) -> "LatencyModel":
    """The latency model that gives step times: the named one, else the run's, else roofline-v1."""
    from sim.models.registry import latency_model as find_model

    of_run = source.run.latency_model if source.run else "roofline-v1"
    name = latency_model or of_run
    return find_model(name, mfu_table=bench_table(name, bench_data, source.gpu))


def _source(
    gpu: str, config: Path, run: Path | None, ground_truth: Path, campaigns: tuple[str, ...]
) -> "Source":
    from calibrate.exporters.exported import Source
    from calibrate.outcome.run_files import read_result
    from calibrate.records.errors import CalibrateError
    from sim.configuration import load_hardware, read_config
    from sim.hardware import Hardware, canonical_gpu, check_gpu_name, find_gpu, gpu_specs

    check_gpu_name(gpu)
    if run is None:
        spec = gpu_specs().get(canonical_gpu(gpu))
        if spec is not None and find_gpu(gpu, read_config(config)) is None:
            return Source(
                Hardware(spec.name, spec.values, "the registry of peaks"), ground_truth, campaigns
            )
        hardware = load_hardware(config, gpu)
        say_transferred(config, hardware.gpu)
        return Source(hardware, ground_truth, campaigns)
    result = read_result(run)
    if find_gpu(gpu, [result.gpu]) is None:
        raise CalibrateError(f"{run}: is a run of {result.gpu}, not of {gpu}")
    hardware = Hardware(check_gpu_name(result.gpu), {**result.peaks, **result.values}, str(run))
    return Source(hardware, ground_truth, campaigns, result)


def _write_all(source: "Source", folder: Path, force: bool, done: Done) -> "Iterator[Written]":
    """Write every format that can be filled; name the others and why, which is no failure of the command."""
    from calibrate.exporters import EXPORTERS, export
    from calibrate.records.errors import CalibrateError
    from sim.errors import SimError

    folder.mkdir(parents=True, exist_ok=True)
    for name, exporter in EXPORTERS.items():
        try:
            exported = export(name, source)
        except (CalibrateError, SimError) as error:
            done.left_out[name] = str(error)
            _say(f"! {name}: left out: {error}")
            continue
        try:
            yield _put(name, exported, folder / f"{name}{exporter.end}", force)
        except CalibrateError as error:
            done.not_written[name] = str(error)
            _say(f"! {name}: not written: {error}")


def _say(words: str) -> None:
    stderr().print(words, markup=False, soft_wrap=True)


def _write(name: str, source: "Source", path: Path, force: bool) -> "Iterator[Written]":
    from calibrate.exporters import export

    yield _put(name, export(name, source), path, force)


def _put(name: str, exported: "Exported", path: Path, force: bool) -> Written:
    from calibrate.exporters import EXPORTERS, write_exported

    files = [str(file) for file in write_exported(exported, path, force=force)]
    return Written(name, str(path), files, EXPORTERS[name].retired, list(exported.notes))


def _show(written: Written) -> None:
    console = words_beside(Path(written.output))
    files = written.files
    said = files[0] if len(files) == 1 else f"{written.output} ({len(files):,} files)"
    console.print(f"{written.format}  {said}", markup=False, soft_wrap=True)
    if written.retired:
        console.print(f"  For {written.retired} only.", markup=False)
    for note in written.notes:
        console.print(f"  {note}", markup=False)
