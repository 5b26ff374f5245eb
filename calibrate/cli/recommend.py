"""``calibrate recommend``: what serves a workload within an objective at the least cost, and how sure that is."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import (
    BenchOption,
    JsonOption,
    ModelConfigOption,
    ModelOption,
    bench_table,
    gpu_option,
    name_numbers,
    print_json,
    split_names,
    stderr,
)
from calibrate.cli.hardware import engine_hardware, read_hardware
from calibrate.cli.objective import GoodputOption, SloOption
from calibrate.cli.output import check_output, words_beside
from calibrate.cli.progress import progress_bars
from calibrate.cli.recommended import show_recommendation
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
from calibrate.cli.runs import as_fitted, runs_of, uncertainties
from calibrate.cli.workloads import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibrate.capacity.demand import Demand
    from calibrate.capacity.recommendation import Recommendation
    from calibrate.capacity.requests import Asked as Requested
    from sim.serving.workload import Trace


_SEQS, _TOKENS, _USUAL_REQUESTS = "256,1024", "2048,8192", 100

_Gpu = Annotated[list[str], gpu_option("GPU, as in the configuration; may be repeated.")]
_Tp = Annotated[
    list[str] | None, typer.Option("--tp", help="Tensor-parallel degrees; 1,2,4,8 without it.")
]
_Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="vllm, sglang or tensorrt-llm: how it schedules and samples, as of simulate.",
    ),
]
_Workload = Annotated[
    str,
    typer.Option(
        help="chatbot, summarization, contentgen, distribution (with --prompt-tokens and --output-tokens), or a "
        "file of requests as for simulate, whose lengths are drawn."
    ),
]
_Rate = Annotated[
    float | None,
    typer.Option(help="Requests a second that must be carried; without it, the most of a replica."),
]
_Trace = Annotated[
    Path | None,
    typer.Option(
        help="Recorded requests that must be carried: their busiest minute, and their mean."
    ),
]
_Price = Annotated[
    list[str] | None, typer.Option("--price", help="GPU=PRICE per GPU and hour, such as H100=2.5.")
]
_Seqs = Annotated[
    list[str] | None,
    typer.Option("--max-num-seqs", help=f"Requests a step, to try; {_SEQS} without it."),
]
_Tokens = Annotated[
    list[str] | None,
    typer.Option("--max-num-batched-tokens", help=f"Tokens a step, to try; {_TOKENS} without it."),
]
_Run = Annotated[
    list[Path] | None,
    typer.Option(
        "--run",
        help="Folder of a run whose values and covariance count; else that in reports/ which wrote the configuration.",
    ),
]
_Draws = Annotated[
    int, typer.Option("--draws", min=0, max=10_000, help="Draws of the bands; 0 leaves them out.")
]
_NumRequests = Annotated[
    int | None,
    typer.Option(min=20, help="Requests of a simulated load; without it as many as settle."),
]
_Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Candidates side by side; one a core without it."),
]
_Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler", help="Dask in place of --jobs: an address, local or threads (extra dask)."
    ),
]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of lengths, arrivals and draws.")]
_Output = Annotated[Path | None, typer.Option("--output", "-o", help="CSV of candidates to write.")]
_Plots = Annotated[
    Path | None, typer.Option(help="Folder to draw latency by throughput and cost by rate into.")
]


def command(
    model: ServedOption,
    gpu: _Gpu,
    tp: _Tp = None,
    engine: _Engine = None,
    workload: _Workload = "distribution",
    prompt_tokens: PromptTokensOption = None,
    prompt_std: PromptStdOption = None,
    output_tokens: OutputTokensOption = None,
    output_std: OutputStdOption = None,
    lengths: LengthsOption = "normal",
    arrivals: ArrivalsOption = "poisson",
    cv: CvOption = None,
    shared_tokens: SharedTokensOption = 0,
    slo: SloOption = None,
    goodput: GoodputOption = None,
    rate: _Rate = None,
    trace: _Trace = None,
    price: _Price = None,
    max_num_seqs: _Seqs = None,
    max_num_batched_tokens: _Tokens = None,
    run: _Run = None,
    dtype: DtypeOption = None,
    kv_dtype: KvDtypeOption = None,
    draws: _Draws = 32,
    num_requests: _NumRequests = None,
    jobs: _Jobs = None,
    scheduler: _Scheduler = "",
    seed: _Seed = 0,
    hardware_config: ModelConfigOption = None,
    latency_model: ModelOption = "roofline-v1",
    bench_data_path: BenchOption = None,
    output: _Output = None,
    plots: _Plots = None,
    json: JsonOption = False,
) -> None:
    """Recommend what serves a model within an objective: GPU, TP, limits, replicas, cost, with bands."""
    prices = name_numbers(price or [], "--price")
    degrees = whole_numbers(tp or ["1,2,4,8"], "--tp", 4096)
    seqs = whole_numbers(max_num_seqs or [_SEQS], "--max-num-seqs", 2**20)
    tokens = whole_numbers(max_num_batched_tokens or [_TOKENS], "--max-num-batched-tokens", 2**30)
    from calibrate.capacity.candidates import Choices
    from calibrate.capacity.recommend import Stated, recommend
    from calibrate.capacity.recommendation import prices_of
    from calibrate.capacity.slo import parse_slo
    from calibrate.capacity.sweep import Question
    from calibrate.records.errors import CalibrateError
    from calibrate.records.workers import workers
    from sim.architecture_files import load_architecture
    from sim.models.registry import latency_model as find_model
    from sim.serving.engine_kinds import named_kind
    from sim.steps.batch import served_as

    wanted = parse_slo(slo or [], goodput)
    if wanted is None:
        raise CalibrateError("give an objective to meet with --slo, such as --slo ttft_p99=2s")
    gpus = list(dict.fromkeys(split_names(gpu)))
    kind = named_kind(engine)
    requested, demand = _load(
        Asked(
            workload=workload,
            num_requests=num_requests or _USUAL_REQUESTS,
            prompt_tokens=prompt_tokens,
            prompt_std=prompt_std,
            output_tokens=output_tokens,
            output_std=output_std,
            lengths=lengths,
            rate=None,
            arrivals=arrivals,
            cv=cv,
            concurrency=None,
            shared_tokens=shared_tokens,
            num_shared=1,
            distinct_prompts=0,
            warm=True,
        ),
        rate,
        trace,
    )
    if output is not None:
        check_output(output, json=json)
    stored = {"dtype": dtype, "kv_dtype": kv_dtype}
    arch = kind.sampled(served_as(load_architecture, model, stored))
    hardware = [read_hardware(hardware_config, name, latency_model) for name in gpus]
    runs = runs_of(hardware, run or [], latency_model)
    fitted = [as_fitted(one, runs.get(one.gpu)) for one in hardware]
    hardware = [engine_hardware(one, engine, [arch.name]) for one in fitted]
    models = {
        one.gpu: find_model(
            latency_model, mfu_table=bench_table(latency_model, bench_data_path, one.gpu)
        )
        for one in hardware
    }
    names = [one.gpu for one in hardware]
    with progress_bars() as tell, workers(jobs or os.cpu_count() or 1, scheduler):
        found = recommend(
            Choices(hardware, models, degrees, seqs, tokens, kind.prefill_first),
            arch,
            Question(requested, wanted, draws, seed, num_requests),
            Stated(demand, prices_of(prices, names)),
            uncertainties(hardware, runs, draws, seed, engine, arch.name),
            jobs or -1,
            lambda done, total: tell("candidates", done, total),
        )
    _save(found, output, plots)
    if json:
        from calibrate.capacity.as_plain import as_json

        print_json(as_json(found))
    else:
        show_recommendation(words_beside(output), found)


def whole_numbers(options: "Sequence[str]", flag: str, most: int) -> list[int]:
    """Whole numbers of 1 or more in options with commas, each once. Raises typer.BadParameter (exit code 2)."""
    numbers = []
    for text in split_names(options):
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise typer.BadParameter(
                f"{text!r}: give whole numbers from 1 to {most}, such as 1,2,4", param_hint=flag
            )
        numbers.append(int(text))
    return list(dict.fromkeys(numbers))


def _load(
    asked: Asked, rate: float | None, trace: Path | None
) -> "tuple[Requested, Demand | None]":
    """The requests that are served, and what must be carried of them; a trace gives both, lengths given go first."""
    from calibrate.campaign.workload_files import read_workload
    from calibrate.capacity.demand import demand_of_rate, demand_of_trace
    from calibrate.records.errors import CalibrateError

    if rate is not None and trace is not None:
        raise CalibrateError("--rate and --trace both say what must be carried: give one of them")
    if trace is None:
        return _requests(asked), None if rate is None else demand_of_rate(rate)
    if not trace.is_file():
        raise CalibrateError(f"--trace {trace}: no such file")
    recorded = read_workload(trace)
    lengths_given = asked.workload != "distribution" or asked.prompt_tokens is not None
    requested = _requests(asked) if lengths_given else _drawn_of(asked, recorded)
    return requested, demand_of_trace(recorded, trace.name)


def _requests(asked: Asked) -> "Requested":
    from calibrate.campaign.workload_files import read_workload

    if Path(asked.workload).is_file():
        return _drawn_of(asked, read_workload(Path(asked.workload)))
    return asked.read_without_rate()


def _drawn_of(asked: Asked, recorded: "Trace") -> "Requested":
    from calibrate.capacity.requests import Recorded

    return Recorded(recorded, asked.unit_load())


def _save(found: "Recommendation", output: Path | None, plots: Path | None) -> None:
    from calibrate.records.errors import CalibrateError
    from calibrate.records.files import replace_text
    from calibrate.records.folders import filled_folder

    if output is not None:
        from calibrate.capacity.as_plain import as_table

        replace_text(output, as_table(found).to_csv(index=False, lineterminator="\n"))
    if plots is not None:
        from calibrate.report.capacity_plots import draw_capacity

        if plots.exists() and not plots.is_dir():
            raise CalibrateError(f"{plots}: no folder to draw plots into: it is a file")
        with filled_folder(plots) as new:
            drawn = draw_capacity(found, new)
        names = ", ".join(plot.name for plot in drawn)
        stderr().print(f"plots {names} in {plots}", markup=False, soft_wrap=True)
