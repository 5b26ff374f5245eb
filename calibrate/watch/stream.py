"""The steps of a source: one log or table, or a folder of them, once or again and again as they grow."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibrate.records.errors import ImportFormatError
from calibrate.records.reading.content import plain_name
from calibrate.watch.follow import Position, Tail
from calibrate.watch.labels import Said
from calibrate.watch.lines import LineReader
from calibrate.watch.rows import Rows
from calibrate.watch.tables import is_table, read_whole

_LOG_ENDS = (".jsonl", ".ndjson")
_PACKED_ENDS = (".gz", ".zst")


class Stream:
    """Reads what is new in a source. ``left_out`` counts what is no step, ``notes`` says what happened to files.

    With ``follow`` logs stay open between readings, so that one that is renamed and removed is read to its end.
    """

    def __init__(self, source: Path, said: Said, *, follow: bool = False) -> None:
        if not source.exists():
            raise ImportFormatError(f"{source}: no such file or folder")
        self.source = source
        self.left_out: collections.Counter[str] = collections.Counter()
        self._said = said
        self._follow = follow
        self._tails: dict[Path, tuple[Tail, LineReader]] = {}
        self._positions: dict[str, Position] = {}
        self._done: set[str] = set()
        self._inodes: set[tuple[int, int]] = set()
        self._notes: list[str] = []
        self._is_first = True

    def poll(self) -> Iterator[Rows]:
        """The steps that have come since the last time, in blocks."""
        files = self._files()
        if self._is_first and not files:
            raise ImportFormatError(
                f"{self.source}: no log or table of steps in it; logs end in {', '.join(_LOG_ENDS)}, tables are "
                "steps.csv or Parquet"
            )
        for path in files:
            yield from self._grown(path) if self._grows(path) else self._whole(path)
        self._is_first = False

    def notes(self) -> list[str]:
        """What happened to files since the last time it was asked."""
        notes, self._notes = self._notes, []
        for tail, _ in self._tails.values():
            notes += tail.notes
            tail.notes = []
        return notes

    def to_plain(self) -> dict[str, Any]:
        """How far everything is read, as JSON has it."""
        positions = {str(path): tail.position for path, (tail, _) in self._tails.items()}
        return {
            "positions": {name: vars(one) for name, one in positions.items() if one is not None},
            "done": sorted(self._done),
            "left_out": dict(self.left_out),
        }

    def resume(self, plain: dict[str, Any]) -> None:
        """Go on from where :meth:`to_plain` was asked."""
        self._positions = {name: Position(**one) for name, one in plain["positions"].items()}
        self._done = set(plain["done"])
        self.left_out = collections.Counter(plain["left_out"])

    def close(self) -> None:
        """Let go of all files."""
        for tail, _ in self._tails.values():
            tail.close()

    def _files(self) -> list[Path]:
        if not self.source.is_dir():
            return [self.source]
        files = (path for path in sorted(self.source.rglob("*")) if _is_shown(path, self.source))
        return [path for path in files if path.is_file() and _is_read(path)]

    def _grows(self, path: Path) -> bool:
        return not (is_table(path) or path.name.endswith(_PACKED_ENDS))

    def _whole(self, path: Path) -> Iterator[Rows]:
        status = path.stat()
        mark = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        if mark in self._done:
            return
        if not self._is_first and path.name.endswith(_PACKED_ENDS) and not is_table(path):
            self._notes.append(f"{path}: is a log put away, read already: left out")
        else:
            yield from read_whole(path, self._said, self.left_out)
        self._done.add(mark)

    def _grown(self, path: Path) -> Iterator[Rows]:
        if path not in self._tails:
            if self._is_known(path):
                return
            tail = Tail(path, self._positions.get(str(path)))
            self._tails[path] = tail, LineReader(path, self._said, self.left_out, tail.number)
        tail, reader = self._tails[path]
        try:
            while lines := tail.read():
                self._remember(tail)
                for rows in reader.of_lines(lines):
                    tail.number = reader.number
                    yield rows
        finally:
            if not self._follow:
                tail.close()

    def _is_known(self, path: Path) -> bool:
        """Whether a new name is that of a log that was rotated: it was read under its old name."""
        status = path.stat()
        return (status.st_dev, status.st_ino) in self._inodes

    def _remember(self, tail: Tail) -> None:
        if (mark := tail.file_mark) is not None:
            self._inodes.add(mark)


def _is_shown(path: Path, root: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _is_read(path: Path) -> bool:
    """Whether a file of a folder holds steps, by its name."""
    if is_table(path):
        return path.suffix == ".parquet" or path.name.startswith("steps")
    return plain_name(path).endswith(_LOG_ENDS)
