"""Bars of progress on standard error, on a terminal only."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from calibrate.cli.console import stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

Tell = Callable[[str, int, int], None]
"""Told a part's name, how much of it is done, and of how much."""


@contextlib.contextmanager
def progress_bars() -> "Iterator[Tell]":
    """A bar for each part of the work, with the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield tell
