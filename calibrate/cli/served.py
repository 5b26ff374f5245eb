"""Shows what a simulated server did."""

from typing import TYPE_CHECKING

from calibrate.cli.console import number, table

if TYPE_CHECKING:
    from rich.console import Console

    from sim.serving.result import ServingResult

_TIMES = {
    "TTFT": "ttft_ms",
    "ITL": "itl_ms",
    "end to end": "e2e_ms",
    "queueing": "queueing_ms",
}


def show_served(console: "Console", result: "ServingResult") -> None:
    """Latencies, throughput, and saturation in words."""
    summary = result.summary()
    columns = ("mean", "p50", "p90", "p99")
    times = table("", ["ms", *columns], right=columns)
    for title, key in _TIMES.items():
        figures = summary[key] or {}
        cells = [number(figures.get(column)) for column in columns]
        times.add_row(title, *cells)
    console.print(times)

    requests_per_s = number(summary["requests_per_s"])
    tokens_per_s = number(summary["output_tokens_per_s"])
    duration_s = number(summary["duration_s"])
    console.print(
        f"{requests_per_s} requests and {tokens_per_s} output tokens a second; "
        f"{summary['requests']} requests in {duration_s} s, {summary['steps']} steps"
    )
    console.print(summary["saturation"], markup=False)
