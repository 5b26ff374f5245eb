"""Workloads of one JSON document a line, such as Mooncake's traces, and what their prompts share."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.campaign.workload_formats import HASHES, WorkloadFormat
from calibrate.records.errors import CalibrateError
from calibrate.records.reading.content import read_text
from calibrate.records.reading.documents import CutOff, read_json_documents
from calibrate.records.tables import Table, check_table
from sim.serving.lengths import Ints

_BLOCK_TOKENS = 512  # Mooncake's
_FIX = f"Give the names of all blocks of {_BLOCK_TOKENS} tokens, or leave {HASHES} out"


def is_lines(path: Path) -> bool:
    """Whether a file's first character that is not blank opens a JSON document. Raises UnreadableError."""
    return read_text(path).lstrip().startswith("{")


def read_lines(path: Path, known: Sequence[WorkloadFormat]) -> tuple[WorkloadFormat, Table, Ints]:
    """The format of a file's documents, its requests, and the tokens of each that are cached, shape (n,).

    Raises CalibrateError, with the line, for one that is not JSON or whose blocks do not fit its length.
    """
    documents, numbers = _documents(path)
    chosen = _format_of(path, documents[0], known)
    frame = pd.DataFrame(
        [{name: _cell(d.get(name)) for name in chosen.required} for d in documents]
    )
    table = check_table(path, frame, chosen.columns)
    problems = tuple(
        dataclasses.replace(problem, lines=tuple(numbers[n - 2].item() for n in problem.lines))
        for problem in table.problems
    )
    table = dataclasses.replace(table, lines=numbers[table.lines - 2], problems=problems)
    if problems:
        return chosen, table, np.zeros(len(table.frame), dtype=np.int64)
    prompts = table.frame[chosen.prompt].to_numpy(dtype=np.int64)
    order = np.argsort(table.frame[chosen.arrival].to_numpy(), kind="stable")
    blocks = [
        _blocks(d, int(tokens), f"{path}:{line}", chosen)
        for d, tokens, line in zip(documents, prompts, numbers, strict=True)
    ]
    return chosen, table, _found(blocks, prompts, order)


def _documents(path: Path) -> tuple[list[dict[str, object]], Ints]:
    """The documents of a file, at least one, and the line of each."""
    found, numbers = [], []
    for line, document in read_json_documents(path):
        if isinstance(document, CutOff):
            raise CalibrateError(f"{path}:{line}: the last request is cut off. Remove its line")
        if not isinstance(document, dict):
            raise CalibrateError(f"{path}:{line}: must hold named fields")
        found.append(document)
        numbers.append(line)
    return found, np.array(numbers, dtype=np.int64)


def _cell(value: object) -> object:
    """A field as a cell of a table: what is neither number nor text as it is written, nothing as empty."""
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if plain else "" if value is None else json.dumps(value)


def _format_of(
    path: Path, first: dict[str, object], known: Sequence[WorkloadFormat]
) -> WorkloadFormat:
    named = [len(set(each.required) & first.keys()) for each in known]
    if not max(named):
        fields = ", or ".join(", ".join(each.required) for each in known)
        raise CalibrateError(
            f"{path}:1: a workload of JSON lines has the fields {fields}; this has {', '.join(first)[:200]!r}"
        )
    return known[named.index(max(named))]


def _blocks(
    document: dict[str, object], tokens: int, where: str, chosen: WorkloadFormat
) -> list[object]:
    """The names of a prompt's blocks; none where it has none."""
    names = document.get(HASHES)
    if names is None:
        return []
    needed = -(-tokens // _BLOCK_TOKENS)
    if not isinstance(names, list) or len(names) != needed:
        got = f"{len(names)} entries" if isinstance(names, list) else repr(names)[:60]
        raise CalibrateError(
            f"{where}: {HASHES} has {got}, but {chosen.prompt} = {tokens} takes {needed} blocks of "
            f"{_BLOCK_TOKENS} tokens. {_FIX}"
        )
    if not all(isinstance(name, int | str) for name in names):
        raise CalibrateError(f"{where}: {HASHES} must hold numbers or names. {_FIX}")
    return names


def _found(blocks: Sequence[Sequence[object]], prompts: Ints, order: Ints) -> Ints:
    """The tokens at each prompt's beginning that a request before it had, shape (n,).

    A block's name stands for all tokens up to its end, so blocks are found until one is new.
    """
    seen = set[object]()
    found = np.zeros(len(blocks), dtype=np.int64)
    for i in order:
        leading = next((k for k, name in enumerate(blocks[i]) if name not in seen), len(blocks[i]))
        found[i] = min(leading * _BLOCK_TOKENS, prompts[i])
        seen.update(blocks[i])
    return found
