"""``calibrate import`` of a log into a data set: as much as there is, in parts, and on from where it was stopped."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

from calibrate.cli.console import print_json, stderr, stdout
from calibrate.importers import IMPORTERS, completed
from calibrate.importers.forward_pass_dataset import Request, import_dataset, is_large
from calibrate.records.errors import ImportFormatError

_FORMAT = "forward-pass-metrics"


@dataclasses.dataclass(frozen=True)
class LogToImport:
    """What the user asked for, as ``calibrate import`` has it."""

    source: str
    gpu: str
    folder: Path
    dataset: str
    said: Mapping[str, object]
    server_log: Path | None
    options: Mapping[str, str]


def is_large_log(format_name: str, source: str) -> bool:
    """Whether this is a log that is better a data set."""
    return format_name == _FORMAT and is_large(source)


def import_log(asked: LogToImport, format_name: str, step: str, *, json: bool) -> None:
    """Import a log into a data set, and say what was done and what to do next."""
    if format_name != _FORMAT:
        raise ImportFormatError(f"{format_name} makes no data set: leave --partitioned out")
    foreign = [name for name in asked.options if name != "engine"]
    if foreign:
        raise ImportFormatError(f"{format_name} takes no --{foreign[0]}: leave it out")
    complete = functools.partial(
        completed,
        source=asked.source,
        needs=IMPORTERS[_FORMAT].needs,
        said=asked.said,
        server_log=asked.server_log,
    )
    request = Request(
        source=asked.source,
        gpu=asked.gpu,
        folder=asked.folder,
        place=asked.dataset,
        keys=asked.options,
        said=repr(sorted(asked.said.items())),
        complete=complete,
    )
    with stderr().status("reading the log") as status:
        written = import_dataset(request, status.update)
    if json:
        print_json(
            {
                "folder": str(asked.folder),
                "rows": {"steps": written.rows},
                "files": written.files,
                "left_out": list(written.left_out),
                "warnings": [],
                "next": step,
            }
        )
        return
    place = asked.dataset or asked.folder / "steps"
    console = stdout()
    console.print(
        f"{written.rows:,} rows of steps in {written.files:,} files of {place}",
        soft_wrap=True,
        markup=False,
    )
    for text in written.left_out:
        console.print(f"left out: {text}", markup=False)
    console.print(f"next: {step}", soft_wrap=True, markup=False)
