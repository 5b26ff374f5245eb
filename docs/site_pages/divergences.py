"""The page of known divergences: where docs/accuracy.json has the largest errors, and what these have in common."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from site_pages.tables import table
from site_pages.workplace import ROOT

_SHOWN = 8  # of the slices of a latency model's steps, and of the load points of servers
_COMMON = 0.5  # the share of the shown from which something is said to be common to them

_REASONS = {
    "L40S": "Its GPUs are joined by PCIe, where the bytes of an all-reduce take most of a long step.",
    "phase prefill": "No overhead mends a wrong count of work: see what each model does with a prompt.",
    "Splitwise on H100": "An engine of 2023, whose host time shows in its steps.",
}
_MODEL_REASONS = {
    "roofline-v1": "It has one time for every all-reduce, whatever it sends.",
    "roofline-v2": "It counts prompts where it should count tokens, so that prefills come out far off.",
    "roofline-v2-interp": "It has one free time for each layer, and nothing for all-reduces by size.",
    "roofline-v3": "It holds one power of tp for all-reduces, and over PCIe none fits all degrees.",
}


class Slice(NamedTuple):
    """One slice of a data set's steps, and a model's mean errors on it."""

    data: str
    name: str
    held_out: float
    fitted: float


def divergences_page() -> str:
    """What is predicted worst."""
    numbers = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))
    return "\n\n".join(
        [
            "# Known divergences",
            "Where predictions are worst. The tables are made from `docs/accuracy.json`, which `make accuracy` writes: "
            "the largest mean errors, by a fit that has not seen the runs it predicts. "
            "[Accuracy](../accuracy.md) has all errors; most are far smaller.",
            "A *divergence* is an error that more data of the same kind does not lower. "
            "Where the column *fitted* is as large as *held out*, the model lacks a term. "
            "Where it is much smaller, the data is too little.",
            *(_of_model(name, numbers["steps"]) for name in _MODEL_REASONS),
            _of_servers(numbers["serving"]),
            "",
        ]
    )


def _of_model(name: str, steps: Sequence[Mapping[str, Any]]) -> str:
    slices = [one for row in steps if row["latency_model"] == name for one in _slices(row)]
    worst = sorted(slices, key=lambda one: -one.held_out)[:_SHOWN]
    rows = [(one.data, one.name, f"{one.held_out:.1%}", f"{one.fitted:.1%}") for one in worst]
    heads = ("steps of", "slice", "held out", "fitted")
    return f"## {name}\n\n{_MODEL_REASONS[name]} {_in_common(worst)}\n\n{table(heads, rows)}"


def _slices(row: Mapping[str, Any]) -> Iterator[Slice]:
    if row["failure"]:
        return
    for key, held_out in row["errors"]["run"].items():
        if key.startswith(("phase:", "model:", "tp:")):
            yield Slice(row["data"], key.replace(":", " "), held_out, row["errors"]["fitted"][key])


def _in_common(worst: Sequence[Slice]) -> str:
    """What at least half of them share, counted, each with its reason where one is known."""
    counts = Counter(value for one in worst for value in (one.data, one.name))
    shared = [(name, n) for name, n in counts.most_common() if n >= _COMMON * len(worst)]
    said = [
        f"{n} of the {len(worst)} below are of {name}. {_REASONS.get(name, '')}"
        for name, n in shared
    ]
    return " ".join(said).strip() or f"Nothing is common to half of the {len(worst)} below."


def _of_servers(serving: Sequence[Mapping[str, Any]]) -> str:
    held_out = [row for row in serving if row["treatment"].endswith(" out")]
    worst = sorted(held_out, key=lambda row: -row["ttft"])[:_SHOWN]
    rows = [
        (
            row["dataset"],
            row["latency_model"],
            row["treatment"],
            f"{row['ttft']:.1%}",
            f"{row['itl']:.1%}",
        )
        for row in worst
    ]
    heads = ("server", "latency model", "parameters", "TTFT", "ITL")
    engines = Counter(row["dataset"] for row in worst).most_common()
    most = ", ".join(f"{name} ({n})" for name, n in engines)
    return (
        "## Servers\n\nTime to first token is predicted worse than the time between tokens: it holds the wait in the "
        "queue, which depends on how a client sends its requests, and these tables do not say. "
        f"The worst are of: {most}.\n\n{table(heads, rows)}"
    )
