"""What the options ``-o``, ``--steps`` and ``--html`` share: where the file may lie, and where the words go then."""

from pathlib import Path
from typing import TYPE_CHECKING

from calibrate.cli.console import stderr, stdout
from calibrate.records.errors import CalibrateError
from calibrate.records.files import is_stdout, is_stream

if TYPE_CHECKING:
    from rich.console import Console


def check_output(output: Path, *, json: bool = False) -> None:
    """Raise CalibrateError where the file has no folder, or standard output would hold two documents."""
    if json and is_stdout(output):
        raise CalibrateError(
            f"{output}: --json takes standard output; write to a file, or leave --json out"
        )
    if not output.parent.is_dir():
        raise CalibrateError(f"{output.parent}: no such folder to write {output.name} into")


def refuse_present(output: Path, *, force: bool) -> None:
    """Raise CalibrateError for a file that is there, unless ``force``, and for a folder."""
    if output.is_dir() or (output.exists() and not is_stream(output) and not force):
        raise CalibrateError(
            f"{output}: is there already; give another --output, or --force to replace it"
        )


def words_beside(*outputs: Path | None) -> "Console":
    """The console of results; standard error where standard output takes one of the files."""
    taken = any(output is not None and is_stdout(output) for output in outputs)
    return stderr() if taken else stdout()
