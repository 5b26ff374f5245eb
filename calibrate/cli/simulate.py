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
    print_json,
    stderr,
)
from calibrate.cli.hardware import engine_hardware, read_hardware
from calibrate.cli.objective import GoodputOption, SloOption, Wanted, as_json, show_slo
from calibrate.cli.output import check_output, words_beside
from calibrate.cli.request_options import (
    ArrivalsOption,
    CvOption,
    DtypeOption,
    KvDtypeOption,
    LengthsOption,
    OutputStdOption,
    OutputTokensOption,
    PromptStdOption,
    PromptTokensOption,
    ServedOption,
    SharedTokensOption,
)
from calibrate.cli.served import show_served
from calibrate.cli.workloads import Asked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sim.serving.result import ServingResult


_ROWS_AT_ONCE = 100_000
_USUAL_REQUESTS = 100

_Tp = Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel degree.")]
_Workload = Annotated[
    str,
    typer.Option(
        help="chatbot, summarization, contentgen, distribution (with --prompt-tokens and --output-tokens), or a "
        "CSV with arrival_s, prompt_tokens, output_tokens and, if you like, cached_tokens, or a trace of Azure, "
        "Vidur, BurstGPT, Mooncake or LLMServingSim."
    ),
]
_NumRequests = Annotated[
    int | None,
    typer.Option(
        min=1, help="How many requests: 100 without it, with --find-rate as many as settle."
    ),
]
_Rate = Annotated[float | None, typer.Option(help="Requests a second.")]
_Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Requests in flight, instead of a rate.")
]
_NumShared = Annotated[int, typer.Option(min=1, help="How many system prompts there are.")]
_DistinctPrompts = Annotated[
    int, typer.Option(min=0, help="So many prompts, asked in turn; 0: each is new.")
]
_Warm = Annotated[bool, typer.Option("--warm", help="What prompts share is cached from the start.")]
_MaxNumBatchedTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens a step; without it as vLLM's server.")
]
_MaxNumSeqs = Annotated[
    int | None, typer.Option(min=1, help="Requests a step; without it as vLLM's server.")
]
_KvCacheTokens = Annotated[
    int | None,
    typer.Option(min=1, help="KV cache in tokens; without it what 90% of the memory leaves."),
]
_BlockSize = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens of a block of the KV cache; without it as vLLM's server."),
]
_ChunkedPrefill = Annotated[
    bool | None, typer.Option(help="Whether steps may compute parts of a prompt.")
]
_PrefixCaching = Annotated[
    bool | None, typer.Option(help="Whether cached prefixes are kept and used.")
]
_PrefillFirst = Annotated[
    bool, typer.Option("--prefill-first", help="Prompts before decodes, as SGLang.")
]
_Sync = Annotated[bool, typer.Option("--sync", help="Schedule each step when the last has ended.")]
_ApiUs = Annotated[
    float | None,
    typer.Option(
        min=0, help="From a request to the engine seeing it, µs; else apiMicros of the GPU."
    ),
]
_Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="vllm, sglang or tensorrt-llm: how it schedules and samples, and its sampler's time where the "
        "configuration has none.",
    ),
]
_TopP = Annotated[float | None, typer.Option(help="Clients ask for it; else as the model's file.")]
_TopK = Annotated[int | None, typer.Option(help="Clients ask for it; else as the model's file.")]
_Greedy = Annotated[
    bool, typer.Option("--greedy", help="Clients ask for the likeliest token: nothing is sorted.")
]
_MoeDtype = Annotated[
    str | None, typer.Option(help="Weight type of experts, such as mxfp4; else the model's own.")
]
_Ep = Annotated[
    int,
    typer.Option(
        "--ep", min=1, max=4096, help="GPUs that share the experts whole; 1 splits every expert."
    ),
]
_FindRate = Annotated[
    bool,
    typer.Option(
        "--find-rate", help="Find the largest rate that meets --slo; the rest is told of that one."
    ),
]
_Seed = Annotated[int, typer.Option(help="Seed of lengths and arrivals.")]
_Output = Annotated[Path | None, typer.Option("--output", "-o", help="CSV of requests to write.")]
_Steps = Annotated[Path | None, typer.Option(help="CSV of steps to write, as a campaign has them.")]
_Plots = Annotated[
    Path | None, typer.Option(help="Folder to draw plots of latencies and of the load into.")
]


def command(
    model: ServedOption,
    gpu: GpuOption,
    tp: _Tp = 1,
    workload: _Workload = "distribution",
    num_requests: _NumRequests = None,
    prompt_tokens: PromptTokensOption = None,
    prompt_std: PromptStdOption = None,
    output_tokens: OutputTokensOption = None,
    output_std: OutputStdOption = None,
    lengths: LengthsOption = "normal",
    rate: _Rate = None,
    arrivals: ArrivalsOption = "poisson",
    cv: CvOption = None,
    concurrency: _Concurrency = None,
    shared_tokens: SharedTokensOption = 0,
    num_shared: _NumShared = 1,
    distinct_prompts: _DistinctPrompts = 0,
    warm: _Warm = False,
    max_num_batched_tokens: _MaxNumBatchedTokens = None,
    max_num_seqs: _MaxNumSeqs = None,
    kv_cache_tokens: _KvCacheTokens = None,
    block_size: _BlockSize = None,
    chunked_prefill: _ChunkedPrefill = None,
    prefix_caching: _PrefixCaching = None,
    prefill_first: _PrefillFirst = False,
    sync: _Sync = False,
    api_us: _ApiUs = None,
    engine_name: _Engine = None,
    top_p: _TopP = None,
    top_k: _TopK = None,
    greedy: _Greedy = False,
    dtype: DtypeOption = None,
    kv_dtype: KvDtypeOption = None,
    moe_dtype: _MoeDtype = None,
    ep: _Ep = 1,
    slo: SloOption = None,
    goodput: GoodputOption = None,
    find_rate: _FindRate = False,
    seed: _Seed = 0,
    hardware_config: ModelConfigOption = None,
    latency_model: ModelOption = "roofline-v1",
    bench_data_path: BenchOption = None,
    output: _Output = None,
    steps: _Steps = None,
    plots: _Plots = None,
    json: JsonOption = False,
) -> None:
    """Simulate serving a workload: TTFT, ITL, end-to-end times, throughput, saturation, goodput."""
    from calibrate.capacity.replica import Replica
    from calibrate.capacity.requests import running_tokens
    from calibrate.capacity.slo import parse_slo
    from sim.architecture import ALL_TOKENS
    from sim.architecture_files import load_architecture
    from sim.models.registry import latency_model as find_model
    from sim.serving.engine import EngineLimits, usual_limits
    from sim.serving.engine import kv_cache_tokens as fitting
    from sim.serving.engine_kinds import named_kind
    from sim.steps.batch import served_as

    latency = find_model(latency_model, mfu_table=bench_table(latency_model, bench_data_path, gpu))
    types = {"dtype": dtype, "kv_dtype": kv_dtype, "moe_dtype": moe_dtype, "ep": ep}
    arch = served_as(load_architecture, model, types)
    arch.check_tp(tp)
    kind = named_kind(engine_name)
    usual = kind.sampled(arch).sampling
    arch = dataclasses.replace(arch, sampling=ALL_TOKENS if greedy else usual.changed(top_p, top_k))
    hardware = read_hardware(hardware_config, gpu, latency_model)
    hardware = engine_hardware(hardware, engine_name, [arch.name])
    asked = Asked(
        workload=workload,
        num_requests=num_requests or _USUAL_REQUESTS,
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
    wanted = Wanted(parse_slo(slo or [], goodput), find_rate, num_requests, seed)
    served = wanted.read(asked)
    options = {
        "max_num_batched_tokens": max_num_batched_tokens,
        "max_num_seqs": max_num_seqs,
        "kv_cache_tokens": kv_cache_tokens
        or fitting(arch, hardware, tp, request_tokens=running_tokens(served, seed)),
        "block_size": block_size,
        "chunked_prefill": chunked_prefill,
        "prefix_caching": prefix_caching,
        "prefill_first": prefill_first or kind.prefill_first or None,
        "async_scheduling": False if sync else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    limits: dict[str, Any] = {**usual_limits(given), **given}
    engine = EngineLimits(**limits).with_request_times(hardware, arch)
    if api_us is not None:
        engine = dataclasses.replace(engine, api_us=api_us)
    for path in (output, steps):
        if path is not None:
            check_output(path, json=json)
    for limit in latency.remarks(arch, hardware):
        stderr().print(f"! {limit}", markup=False)
    replica = Replica(latency, arch, hardware, tp, engine)
    requests, found = wanted.requests(replica, served)
    result = replica.serve(requests, keep_steps=steps is not None or plots is not None)
    attainment = wanted.attainment(result, found)
    _save(result, output, steps, plots)
    if json:
        print_json(as_json(result, attainment, found))
    else:
        console = words_beside(output, steps)
        show_served(console, result)
        show_slo(console, result, attainment, found)


def _save(
    result: "ServingResult", output: Path | None, steps: Path | None, plots: Path | None
) -> None:
    """Write the files that were asked for."""
    if output is not None:
        _write(output, result.columns())
    if steps is not None:
        _write(steps, result.steps.columns())
    if plots is not None:
        _draw(plots, result)


def _write(path: Path, columns: dict[str, Any]) -> None:
    from calibrate.records.files import replace_parts

    replace_parts(path, _csv_parts(columns))


def _csv_parts(columns: "Mapping[str, Any]") -> "Iterator[bytes]":
    """A table as CSV, so many rows at a time: the text of a whole one is many times the table."""
    import pandas as pd

    rows = len(next(iter(columns.values())))
    for start in range(0, max(rows, 1), _ROWS_AT_ONCE):
        part = {name: values[start : start + _ROWS_AT_ONCE] for name, values in columns.items()}
        text = pd.DataFrame(part).to_csv(index=False, header=not start, lineterminator="\n")
        yield text.encode()


def _draw(folder: Path, result: "ServingResult") -> None:
    from calibrate.records.errors import CalibrateError
    from calibrate.records.folders import filled_folder
    from calibrate.report.serving_plots import draw_serving

    if folder.exists() and not folder.is_dir():
        raise CalibrateError(f"{folder}: no folder to draw plots into: it is a file")
    with filled_folder(folder) as new:
        drawn = draw_serving(result, new)
    names = ", ".join(plot.name for plot in drawn)
    stderr().print(f"plots {names} in {folder}", markup=False, soft_wrap=True)
