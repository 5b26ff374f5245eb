"""``calibrate simulate``: TTFT, ITL and end-to-end times of a served workload."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli.console import HARDWARE_CONFIG, ConfigOption, GpuOption, JsonOption, ModelOption, print_json, stderr

if TYPE_CHECKING:
    from sim.serving_result import ServingResult
    from sim.workload import Fixed, Load, Normal, Trace

PRESETS = {
    "chatbot": (256, 100, 256, 100),
    "summarization": (4096, 1500, 512, 200),
    "contentgen": (256, 100, 1024, 400),
}
"""Mean and standard deviation of prompt and output tokens; normal, cut at 1 and at four times the mean."""


def command(
    model: Annotated[str, typer.Option("--model", help="Model served: a name or a folder with a config.json.")],
    gpu: GpuOption,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel degree.")] = 1,
    workload: Annotated[
        str,
        typer.Option(
            help="chatbot, summarization, contentgen, distribution (with --prompt-tokens and --output-tokens), or a "
            "CSV with arrival_s, prompt_tokens and output_tokens."
        ),
    ] = "distribution",
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Mean length of prompts.")] = None,
    prompt_std: Annotated[float, typer.Option(min=0, help="Their standard deviation.")] = 0.0,
    output_tokens: Annotated[int | None, typer.Option(min=1, help="Mean length of outputs.")] = None,
    output_std: Annotated[float, typer.Option(min=0, help="Their standard deviation.")] = 0.0,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    arrivals: Annotated[str, typer.Option(help="poisson, constant, or stage (as inference-perf).")] = "poisson",
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests in flight, instead of a rate.")] = None,
    num_requests: Annotated[int, typer.Option(min=1, help="How many requests.")] = 100,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="Tokens a step.")] = 2048,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Requests a step.")] = 256,
    kv_cache_tokens: Annotated[
        int | None, typer.Option(min=1, help="KV cache in tokens; without it what 90% of the memory leaves.")
    ] = None,
    prefill_first: Annotated[bool, typer.Option("--prefill-first", help="Prompts before decodes, as SGLang.")] = False,
    sync: Annotated[bool, typer.Option("--sync", help="Schedule each step when the last has ended.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of lengths and arrivals.")] = 0,
    hardware_config: ConfigOption = HARDWARE_CONFIG,
    latency_model: ModelOption = "roofline-v1",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV of requests to write.")] = None,
    json: JsonOption = False,
) -> None:
    """Simulate serving a workload: TTFT, ITL, end-to-end times, throughput, saturation."""
    from sim.architecture import load_architecture
    from sim.engine import EngineLimits
    from sim.engine import kv_cache_tokens as fitting
    from sim.hardware import load_hardware
    from sim.latency import latency_model as find_model
    from sim.serving import simulate
    from sim.workload import Trace, Workload

    arch, hardware, latency = load_architecture(model), load_hardware(hardware_config, gpu), find_model(latency_model)
    engine = EngineLimits(
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        kv_cache_tokens=kv_cache_tokens or fitting(arch, hardware, tp),
        prefill_first=prefill_first,
        async_scheduling=not sync,
    )
    lengths = (prompt_tokens, prompt_std, output_tokens, output_std)
    if Path(workload).is_file():
        asked: Workload | Trace = _trace(Path(workload))
    else:
        asked = Workload(num_requests, _load(arrivals, rate, concurrency), *_lengths(workload, lengths))
    for limit in latency.limits(arch):
        stderr().print(f"! {limit}", markup=False)
    result = simulate(asked, engine, latency, arch, hardware, tp, seed)
    if output is not None:
        _write(output, result)
    if json:
        print_json(result.summary())
    else:
        _print(result)


def _load(arrivals: str, rate: float | None, concurrency: int | None) -> "Load":
    from calibrate.errors import CalibrateError
    from sim.errors import nearest
    from sim.workload import Closed, Constant, Poisson, Stage

    if concurrency is not None and rate is None:
        return Closed(concurrency)
    if rate is None or concurrency is not None:
        raise CalibrateError("give either --rate or --concurrency")
    kinds: dict[str, type[Poisson | Constant | Stage]] = {"poisson": Poisson, "constant": Constant, "stage": Stage}
    if arrivals not in kinds:
        raise CalibrateError(
            f"--arrivals {arrivals!r} is not known (known: {', '.join(kinds)}){nearest(arrivals, kinds)}"
        )
    return kinds[arrivals](rate)


def _lengths(name: str, given: tuple[int | None, float, int | None, float]) -> "tuple[Fixed | Normal, Fixed | Normal]":
    from calibrate.errors import CalibrateError
    from sim.errors import nearest
    from sim.workload import Fixed, Normal

    known = ("distribution", *PRESETS)
    if name not in known:
        raise CalibrateError(
            f"workload {name!r} is neither a file nor known (known: {', '.join(known)}){nearest(name, known)}"
        )
    preset = PRESETS.get(name, (None, 0.0, None, 0.0))
    prompt, prompt_std, output, output_std = (mine or usual for mine, usual in zip(given, preset, strict=True))
    if prompt is None or output is None:
        raise CalibrateError("--workload distribution needs --prompt-tokens and --output-tokens")

    def drawn(mean: float, std: float | None) -> Fixed | Normal:
        return Normal(mean, std, 1, int(4 * mean)) if std else Fixed(int(mean))

    return drawn(prompt, prompt_std), drawn(output, output_std)


def _trace(path: Path) -> "Trace":
    import pandas as pd

    from calibrate.errors import CalibrateError
    from sim.workload import trace

    names = ["arrival_s", "prompt_tokens", "output_tokens"]
    try:
        table = pd.read_csv(path)
        columns = [pd.to_numeric(table[name]).to_numpy() for name in names]
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise CalibrateError(f"{path}: a workload is a CSV with the numbers {', '.join(names)}: {error}") from error
    for name, column in zip(names, columns, strict=True):
        if not (column == column).all():
            line = int((column != column).argmax()) + 2
            raise CalibrateError(f"{path}:{line}: {name} is empty; give a number")
    return trace(*columns)


def _write(path: Path, result: "ServingResult") -> None:
    import pandas as pd

    from calibrate.config_writer import replace_text
    from calibrate.errors import CalibrateError

    if not path.parent.is_dir():
        raise CalibrateError(f"{path.parent}: no such folder to write {path.name} into")
    replace_text(path, pd.DataFrame(result.columns()).to_csv(index=False, lineterminator="\n"))


def _print(result: "ServingResult") -> None:
    from calibrate.cli.console import number, stdout, table

    summary = result.summary()
    columns = ("mean", "p50", "p90", "p99")
    shown = table("", ["ms", *columns], right=columns)
    for title, key in (("TTFT", "ttft_ms"), ("ITL", "itl_ms"), ("end to end", "e2e_ms"), ("queueing", "queueing_ms")):
        figures = summary[key] or {}
        shown.add_row(title, *(number(figures.get(column)) for column in columns))
    stdout().print(shown)
    stdout().print(
        f"{number(summary['requests_per_s'])} requests and {number(summary['output_tokens_per_s'])} output tokens a "
        f"second; {summary['requests']} requests in {number(summary['duration_s'])} s, {summary['steps']} steps"
    )
    stdout().print(summary["saturation"], markup=False)
