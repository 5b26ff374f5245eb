"""``calibrate simulate``: TTFT, ITL and end-to-end times of a served workload."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrate.cli.console import (
    BenchOption,
    GpuOption,
    JsonOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    config_file,
    print_json,
    stderr,
)
from calibrate.cli.workloads import Asked

if TYPE_CHECKING:
    from sim.serving.result import ServingResult


def command(
    model: Annotated[
        str, typer.Option("--model", help="Model served: a name or a folder with a config.json.")
    ],
    gpu: GpuOption,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel degree.")] = 1,
    workload: Annotated[
        str,
        typer.Option(
            help="chatbot, summarization, contentgen, distribution (with --prompt-tokens and --output-tokens), or a "
            "CSV with arrival_s, prompt_tokens, output_tokens and, if you like, cached_tokens, or a trace of Azure, "
            "Vidur, BurstGPT, Mooncake or LLMServingSim."
        ),
    ] = "distribution",
    num_requests: Annotated[int, typer.Option(min=1, help="How many requests.")] = 100,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Mean length of prompts.")
    ] = None,
    prompt_std: Annotated[
        float | None, typer.Option(min=0, help="Their standard deviation.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Mean length of outputs.")
    ] = None,
    output_std: Annotated[
        float | None, typer.Option(min=0, help="Their standard deviation.")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="normal (cut at four times the mean) or lognormal.")
    ] = "normal",
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    arrivals: Annotated[
        str, typer.Option(help="poisson, constant, gamma, or stage (as inference-perf).")
    ] = "poisson",
    cv: Annotated[
        float | None, typer.Option(help="Of gamma: the gaps' standard deviation over their mean.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests in flight, instead of a rate.")
    ] = None,
    shared_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of a system prompt before every prompt.")
    ] = 0,
    num_shared: Annotated[int, typer.Option(min=1, help="How many system prompts there are.")] = 1,
    distinct_prompts: Annotated[
        int, typer.Option(min=0, help="So many prompts, asked in turn; 0: each is new.")
    ] = 0,
    warm: Annotated[
        bool, typer.Option("--warm", help="What prompts share is cached from the start.")
    ] = False,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="Tokens a step.")] = 2048,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Requests a step.")] = 256,
    kv_cache_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="KV cache in tokens; without it what 90% of the memory leaves."),
    ] = None,
    block_size: Annotated[int, typer.Option(min=1, help="Tokens of a block of the KV cache.")] = 16,
    chunked_prefill: Annotated[
        bool, typer.Option(help="Whether steps may compute parts of a prompt.")
    ] = True,
    prefix_caching: Annotated[
        bool, typer.Option(help="Whether cached prefixes are kept and used.")
    ] = True,
    prefill_first: Annotated[
        bool, typer.Option("--prefill-first", help="Prompts before decodes, as SGLang.")
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Schedule each step when the last has ended.")
    ] = False,
    api_us: Annotated[
        float | None,
        typer.Option(
            min=0, help="From a request to the engine seeing it, µs; else apiMicros of the GPU."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of lengths and arrivals.")] = 0,
    hardware_config: ModelConfigOption = None,
    latency_model: ModelOption = "roofline-v1",
    bench_data_path: BenchOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV of requests to write.")
    ] = None,
    steps: Annotated[
        Path | None, typer.Option(help="CSV of steps to write, as a campaign has them.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder to draw plots of latencies and of the load into.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Simulate serving a workload: TTFT, ITL, end-to-end times, throughput, saturation."""
    from sim.architecture_files import load_architecture
    from sim.configuration import load_hardware
    from sim.models.registry import latency_model as find_model
    from sim.serving.engine import EngineLimits
    from sim.serving.engine import kv_cache_tokens as fitting
    from sim.serving.simulation import simulate

    latency = find_model(latency_model, mfu_table=bench_table(latency_model, bench_data_path, gpu))
    arch = load_architecture(model)
    hardware = load_hardware(config_file(hardware_config, latency_model), gpu)
    engine = EngineLimits(
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        kv_cache_tokens=kv_cache_tokens or fitting(arch, hardware, tp),
        block_size=block_size,
        chunked_prefill=chunked_prefill,
        prefix_caching=prefix_caching,
        prefill_first=prefill_first,
        async_scheduling=not sync,
    ).with_request_times(hardware)
    if api_us is not None:
        engine = dataclasses.replace(engine, api_us=api_us)
    asked = Asked(
        workload=workload,
        num_requests=num_requests,
        prompt_tokens=prompt_tokens,
        prompt_std=prompt_std,
        output_tokens=output_tokens,
        output_std=output_std,
        lengths=lengths,
        rate=rate,
        arrivals=arrivals,
        cv=cv,
        concurrency=concurrency,
        shared_tokens=shared_tokens,
        num_shared=num_shared,
        distinct_prompts=distinct_prompts,
        warm=warm,
    )
    for limit in latency.limits(arch):
        stderr().print(f"! {limit}", markup=False)
    result = simulate(asked.read(), engine, latency, arch, hardware, tp, seed)
    if output is not None:
        _write(output, result.columns())
    if steps is not None:
        _write(steps, result.steps.columns())
    if plots is not None:
        _draw(plots, result)
    if json:
        print_json(result.summary())
    else:
        _print(result)


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pandas as pd

    from calibrate.records.config_writer import replace_text
    from calibrate.records.errors import CalibrateError

    if not path.parent.is_dir():
        raise CalibrateError(f"{path.parent}: no such folder to write {path.name} into")
    replace_text(path, pd.DataFrame(columns).to_csv(index=False, lineterminator="\n"))


def _draw(folder: Path, result: "ServingResult") -> None:
    from calibrate.records.errors import CalibrateError
    from calibrate.report.serving_plots import draw_serving

    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw_serving(result, folder)
    except OSError as error:
        raise CalibrateError(f"{folder}: no folder to draw plots into: {error.strerror}") from error
    stderr().print(
        f"plots {', '.join(plot.name for plot in drawn)} in {folder}", markup=False, soft_wrap=True
    )


def _print(result: "ServingResult") -> None:
    from calibrate.cli.console import number, stdout, table

    summary = result.summary()
    columns = ("mean", "p50", "p90", "p99")
    shown = table("", ["ms", *columns], right=columns)
    for title, key in (
        ("TTFT", "ttft_ms"),
        ("ITL", "itl_ms"),
        ("end to end", "e2e_ms"),
        ("queueing", "queueing_ms"),
    ):
        figures = summary[key] or {}
        shown.add_row(title, *(number(figures.get(column)) for column in columns))
    stdout().print(shown)
    stdout().print(
        f"{number(summary['requests_per_s'])} requests and {number(summary['output_tokens_per_s'])} output tokens a "
        f"second; {summary['requests']} requests in {number(summary['duration_s'])} s, {summary['steps']} steps"
    )
    stdout().print(summary["saturation"], markup=False)
