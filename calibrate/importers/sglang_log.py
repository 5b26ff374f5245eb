"""The log of an SGLang server that logs every decode step (``--decode-log-interval 1``): decode steps of an engine.

A ``Decode batch`` line states the requests that run, the tokens they have cached, and the tokens generated a second
since the line before. With an interval of 1 those are one token a request, so the step took requests over throughput.
A line that follows a ``Prefill batch`` line spans both and is no step. Source: github.com/sgl-project/sglang,
``managers/scheduler_metrics_mixin.py``.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from calibrate.importers.imported import Imported
from calibrate.importers.model_names import named_model
from calibrate.importers.run_folder import Row
from calibrate.importers.server import count, weight_type
from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name, read_log_text
from sim.units import US_PER_S

_ENDS = (".log", ".txt", ".out")
_KIND = re.compile(r"^(?:\[(?P<tag>[^\]]*)\])?.*?\b(?P<kind>Decode|Prefill) batch\b(?P<rest>.*)")
_RANK = re.compile(r"\b(?:DP|TP|PP|EP)\d+\b")
_ARGUMENTS = re.compile(r"server_args=\w*\(")
_FIGURES = {
    "requests": re.compile(r"#running-req: (\d+)"),
    "cached": re.compile(r"#(?:full )?token: (\d+)"),
    "tokens_per_s": re.compile(r"gen throughput \(token/s\): (\d+(?:\.\d*)?)"),
}
_SIGNS = {"requests": "#running-req", "cached": "#token", "tokens_per_s": "gen throughput"}
_GRAPH = re.compile(r"cuda graph: (True|False)")
_EXECUTION = {"True": "graph", "False": "eager"}
_SPECULATIVE = re.compile(r"accept (?:len|rate): ")
_NONE = ("None", "null", "")
_ONE_STEP = 1.5  # tokens a request between two lines of steps one after another: 1, or 2 and more
_FIX = "run the server with --decode-log-interval 1"
_NOTES = (
    "latency_us is #running-req over gen throughput of a Decode line that follows a Decode line: the time between the "
    "two as the scheduler measures it, host time and all. sum_decode_kv_tokens is #token, the pool's tokens in use: "
    "where running requests share a prefix it counts the prefix once. No prefill can be told: the time of a line that "
    "follows a Prefill line spans both."
)


@dataclasses.dataclass(frozen=True)
class _Line:
    """A Decode line's figures, or a Prefill line, with the number of the line and the ranks in its tag."""

    number: int
    ranks: str
    kind: Literal["Decode", "Prefill"]
    requests: float = 0.0
    cached: float = 0.0
    tokens_per_s: float = 0.0
    execution: str = ""


@dataclasses.dataclass(frozen=True)
class _Server:
    """One start of a server: what its arguments say, and its lines in order."""

    where: str
    arguments: str
    lines: list[_Line]

    def said(self, name: str) -> str:
        """The value of an argument; empty where it is not there or None."""
        found = re.search(rf"\b{name}=(?:'([^']*)'|\"([^\"]*)\"|([^,)\s]*))", self.arguments)
        value = next((group for group in found.groups() if group), "") if found else ""
        return "" if value in _NONE else value


def read(source: str, gpu: str) -> Imported:
    """The decode steps in a log, or in the logs of a folder; a ``run_id`` is one start of a server.

    Raises ImportFormatError if a file cannot be read, a server logged several steps a line, was split or decoded
    speculatively, or no step is left.
    """
    rows: list[Row] = []
    left_out: list[str] = []
    for file in _files(source):
        servers = list(_servers(file))
        for number, server in enumerate(servers, start=1):
            run_id = file.stem if len(servers) == 1 else f"{file.stem}-{number}"
            steps, spanning = _steps(server)
            rows += [{**_what_ran(server), **step, "run_id": run_id} for step in steps]
            left_out += spanning
    if not rows:
        raise ImportFormatError(
            f"{source}: no Decode line follows a Decode line with a throughput; {_FIX}"
        )
    return Imported({"steps": pd.DataFrame(rows)}, _info(gpu, len(rows)), tuple(left_out))


def _files(source: str) -> list[Path]:
    path = Path(source)
    if not path.is_dir():
        return [path]
    files = sorted(
        file for file in path.iterdir() if plain_name(file).endswith(_ENDS) and file.is_file()
    )
    if not files:
        raise ImportFormatError(f"{source}: no log in it; logs end in {', '.join(_ENDS)}")
    return files


def _servers(file: Path) -> Iterator[_Server]:
    """Each start of a server in a log, those without a batch left out."""
    arguments, lines = "", list[_Line]()
    for number, text in enumerate(read_log_text(file).split("\n"), start=1):
        if _ARGUMENTS.search(text):
            if lines:
                yield _Server(str(file), arguments, lines)
            arguments, lines = text, []
        elif found := _KIND.match(text):
            lines.append(_line(found, number, file))
    if lines:
        yield _Server(str(file), arguments, lines)


def _line(found: "re.Match[str]", number: int, file: Path) -> _Line:
    rest = found["rest"]
    ranks = " ".join(_RANK.findall(found["tag"] or ""))
    if found["kind"] == "Prefill":
        return _Line(number, ranks, "Prefill")
    if _SPECULATIVE.search(rest):
        raise ImportFormatError(
            f"{file}:{number}: the server decoded speculatively: a line is no step of one token a request"
        )
    figures = {name: how.search(rest) for name, how in _FIGURES.items()}
    if missing := [name for name, figure in figures.items() if figure is None]:
        raise ImportFormatError(
            f"{file}:{number}: a Decode line without {_SIGNS[missing[0]]}; was the log cut off?"
        )
    numbers = {name: float(figure[1]) for name, figure in figures.items() if figure}
    graph = _GRAPH.search(rest)
    return _Line(
        number, ranks, "Decode", **numbers, execution=_EXECUTION[graph[1]] if graph else ""
    )


def _steps(server: _Server) -> tuple[list[Row], list[str]]:
    """The steps of a server, and in words which Decode lines are none."""
    pairs = list(zip(server.lines, server.lines[1:], strict=False))
    decodes = [line for line in server.lines if line.kind == "Decode"]
    after = [line for before, line in pairs if before.kind == line.kind == "Decode"]
    steps = [line for line in after if line.tokens_per_s and line.requests]
    _check_one_engine(server, decodes)
    if steps:
        _check_interval(server, pairs)
    none = len(decodes) - len(steps)
    words = "Decode lines that follow a Prefill line, begin the log or state no throughput"
    return [_step(line) for line in steps], [f"{server.where}: {none:,} {words}"] if none else []


def _step(line: _Line) -> Row:
    return {
        "num_prefill_requests": 0,
        "sum_prefill_tokens": 0,
        "num_decode_requests": line.requests,
        "sum_decode_kv_tokens": line.cached,
        "latency_us": round(line.requests / line.tokens_per_s * US_PER_S, 3),
        "execution": line.execution,
    }


def _what_ran(server: _Server) -> Row:
    model = named_model(server.said("model_path")) if server.said("model_path") else {}
    row: Row = {"model": model["model"]} if "model" in model else {}
    if server.said("tp_size"):
        row["tp"] = count(server.said("tp_size"), "tp_size", server.where)
    return {**row, **weight_type(server.said("dtype"), server.said("quantization"))}


def _check_one_engine(server: _Server, decodes: list[_Line]) -> None:
    """Raise ImportFormatError where the lines are not those of one engine that decodes a token a step."""
    for name, words in (
        ("dp_size", "data-parallel replicas"),
        ("pp_size", "pipeline stages"),
    ):
        if server.said(name) not in ("", "1"):
            raise ImportFormatError(
                f"{server.where}: its server had {server.said(name)} {words}: a line is not a step of one engine"
            )
    if server.said("speculative_algorithm"):
        raise ImportFormatError(
            f"{server.where}: the server decoded speculatively: a line is no step of one token a request"
        )
    if len(ranks := sorted({line.ranks for line in decodes})) > 1:
        raise ImportFormatError(
            f"{server.where}: holds lines of several ranks ({', '.join(ranks)}); give the lines of one"
        )


def _check_interval(server: _Server, pairs: list[tuple[_Line, _Line]]) -> None:
    """Raise ImportFormatError unless the log has a line for every decode step."""
    said = server.said("decode_log_interval")
    if said not in ("", "1"):
        raise ImportFormatError(
            f"{server.where}: decode_log_interval is {said}: a line is the mean of so many steps, whose "
            f"context grows meanwhile; {_FIX}"
        )
    grown = [
        (line.cached - before.cached, line.requests)
        for before, line in pairs
        if before.requests == line.requests > 0 and line.cached >= before.cached
    ]
    requests = sum(count for _, count in grown)
    each = sum(tokens for tokens, _ in grown) / requests if requests else 0.0
    if each > _ONE_STEP or (not said and not each):
        raise ImportFormatError(
            f"{server.where}: requests grow by {each:.3g} tokens from one Decode line to the next, not 1; {_FIX}"
        )


def _info(gpu: str, steps: int) -> dict[str, object]:
    return {
        "title": f"{steps:,} decode steps of SGLang on {gpu}",
        "source": "say here where the log is from",
        "licence": "",
        "kind": "measured",
        "engine": "sglang",
        "hardware": gpu,
        "itl": "unknown",
        "notes": _NOTES,
    }
