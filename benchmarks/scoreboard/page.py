"""The page of the scoreboard, docs/scoreboard.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.peers import PEERS
from benchmarks.scoreboard.aisimulate import STATED
from benchmarks.scoreboard.treatments import TUNED, UNTUNED, Errors

Row = Mapping[str, Any]


def page(board: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the page; ``board`` is what the JSON beside it holds."""
    yield from _head(board)
    yield from _untuned(board)
    yield from _tuned(board)
    yield from _divergences(board["divergences"])
    yield from _others(board)


def _head(board: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in board["software"].items())
    yield from (
        "# Scoreboard",
        "",
        f"Made on {board['made']} by `make scoreboard`, some minutes, with {versions}.",
        "[scoreboard.json](scoreboard.json) has the figures.",
        "",
        "Mean errors of the means of TTFT, ITL and end-to-end time in percent, on public runs of servers. roofline-v4",
        "with its defaults: nothing is fitted to steps. A draw of at most 24 runs of each engine is scored and tuned",
        "to, as `calibrate fit` does; where a file names no engine, it is vLLM.",
        "",
        "Data sets with a * are [kept aside](accuracy.md#kept-aside): no form, default or pull was chosen on them.",
        "",
    )


def _untuned(board: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        "## Untuned",
        "",
        "*No engine*: `simulate` as it is. *Engine named*: `--engine`, with what is known of its kind. Of data sets",
        "without a * that has seen the time to the engine of vLLM and SGLang, a median of eight, none of them",
        "inference-perf; their time of a layer, held down by inference-perf; and vLLM's sampler, of which 160 µs a",
        "step come from eight of the inference-perf runs.",
        "",
        *_medians(board["rows"], UNTUNED),
        "",
        "![Mean errors of TTFT and ITL by data set, untuned](scoreboard-untuned.png)",
        "",
        *_table(board["rows"], _with_tool(board["rows"])),
        "",
        "By model, over the runs of all data sets:",
        "",
        *_by_model(board["models"], UNTUNED),
        "",
    )


def _tuned(board: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        "## Tuned",
        "",
        "*Tuned elsewhere*: the median times of the other data sets of the engine, none with a model of this one.",
        "*Model out*, *run out*: of this data set, by terms that had not seen the model, or a fifth of the runs.",
        "Shares of peaks that other models showed are left out for the model, as `--engine` does.",
        "",
        *_medians(board["rows"], TUNED),
        "",
        "![Mean errors of TTFT and ITL by data set, tuned](scoreboard-tuned.png)",
        "",
        *_table(board["rows"], TUNED),
        "",
        "By model, over the runs of all data sets:",
        "",
        *_by_model(board["models"], TUNED),
        "",
    )


def _divergences(far: Sequence[Row]) -> Iterator[str]:
    yield from (
        "## Known divergences",
        "",
        "Of the tenth of the runs that are furthest off when left out, what they share at least twice as often as all:",
        "",
        "| trait | | of them | times as often |",
        "|---|---|---|---|",
    )
    for one in far:
        yield f"| {one['trait']} | {one['value']} | {one['rows']} | {one['times']:.1f} |"
    yield ""


def _others(board: Mapping[str, Any]) -> Iterator[str]:
    measured = any("AISimulate" in row["errors"] for row in board["rows"])
    yield from (
        "## What others predict",
        "",
        "AISimulate, asked through its own command line. "
        + (
            "Its errors on the runs above stand in the table of what is untuned."
            if measured
            else "It is not installed here (extra `scoreboard`; PyPI holds a placeholder that fetches it from "
            "pypi.nvidia.com), so no run above has its error. What was measured with it once before, on rows of its "
            "own package:"
        ),
        "",
        "| rows of | errors of TTFT, ITL | when |",
        "|---|---|---|",
        *(f"| {one.rows} | {one.figure} | {one.date} |" for one in STATED),
        "",
        "Published figures, on their own servers, or others on theirs; none is a figure of the runs above.",
        "",
        "| tool | figure | measure | data | by | date |",
        "|---|---|---|---|---|---|",
    )
    for peer in PEERS:
        cells = (peer.figure, peer.measure, peer.data, peer.by, peer.date)
        yield f"| [{peer.tool}]({peer.address}) | {' | '.join(cells)} |"


def _with_tool(rows: Sequence[Row]) -> tuple[str, ...]:
    return (
        *UNTUNED,
        *(["AISimulate"] if any("AISimulate" in row["errors"] for row in rows) else []),
    )


def _medians(rows: Sequence[Row], treatments: Sequence[str]) -> Iterator[str]:
    yield f"| medians over data sets | {' | '.join(treatments)} |"
    yield "|---" * (1 + len(treatments)) + "|"
    for words, aside in (("that forms and defaults were chosen on", False), ("kept aside *", True)):
        here = [row for row in rows if row["aside"] == aside]
        cells = [_cell(_median([row["errors"][name] for row in here])) for name in treatments]
        yield f"| {words} | {' | '.join(cells)} |"


def _median(all_errors: Sequence[Errors]) -> Errors:
    known = [one for one in all_errors if one is not None]
    by_metric = [[one[k] for one in known if one[k] is not None] for k in range(3)]
    return [float(np.median(of)) if of else None for of in by_metric] if known else None  # type: ignore[arg-type]  # no None


def _table(rows: Sequence[Row], treatments: Sequence[str]) -> Iterator[str]:
    yield f"| GPU | runs of | engine | runs | {' | '.join(treatments)} |"
    yield "|---" * (4 + len(treatments)) + "|"
    for row in rows:
        labels = (row["gpu"], row["campaign"] + " *" * row["aside"], row["engine"])
        cells = [_cell(row["errors"].get(name)) for name in treatments]
        yield f"| {' | '.join(labels)} | {row['runs']} of {row['of']} | {' | '.join(cells)} |"


def _by_model(
    models: Mapping[str, Mapping[str, Errors]], treatments: Sequence[str]
) -> Iterator[str]:
    yield f"| model | {' | '.join(treatments)} |"
    yield "|---" * (1 + len(treatments)) + "|"
    names = dict.fromkeys(model for name in treatments for model in models[name])
    for model in names:
        cells = [_cell(models[name].get(model)) for name in treatments]
        yield f"| {model} | {' | '.join(cells)} |"


def _cell(errors: Errors) -> str:
    if errors is None:
        return "–"
    return " / ".join("–" if one is None else f"{one:.0%}".rstrip("%") for one in errors)
