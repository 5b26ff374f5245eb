"""A log as it grows: new lines only, through rotation, truncation and a restart."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from calibrate.records.reading.content import named

_BLOCK_BYTES = 1 << 23
_LONGEST_LINE = 1 << 20
_HEAD_BYTES = 256
_CUT = "was cut: read from its new beginning"
_GONE = "is another file than the one read before, which is gone: steps between are not judged"


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a log is read: the file by its inode and the digest of its first bytes, the byte behind the last line.

    ``number`` is how many steps it has given.
    """

    inode: int
    head: str
    head_bytes: int
    offset: int
    number: int


class Tail:
    """One log that grows. ``notes`` says what happened to it; lines cut in two are put together again."""

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self.notes: list[str] = []
        self.number = position.number if position else 0
        self._rest = b""
        self._begins = b""
        self._offset = 0
        self._file: BinaryIO | None = None
        self._older: Path | None = None
        self._last = position

    @property
    def position(self) -> Position | None:
        """Where to go on after a restart: behind the last whole line."""
        if self._file is None:
            return self._last
        head = _head(self._file, _HEAD_BYTES)
        inode = os.fstat(self._file.fileno()).st_ino
        return Position(
            inode, _digest(head), len(head), self._offset - len(self._rest), self.number
        )

    @property
    def file_mark(self) -> tuple[int, int] | None:
        """What tells the file that is open from all others; None where none is."""
        if self._file is None:
            return None
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino

    def read(self) -> bytes:
        """New whole lines, some megabytes at the most; empty where there are none."""
        with named(self.path):
            if self._file is None and not self._open():
                return b""
            assert self._file is not None
            if self._is_truncated():
                self._begin_again(_CUT)
            part = self._file.read(_BLOCK_BYTES)
            if part:
                self._offset += len(part)
                return self._whole_lines(part)
            return self._rotated() if self._is_replaced() else b""

    def close(self) -> None:
        """Let go of the file; the next reading goes on behind the last whole line."""
        if self._file is not None:
            self._last = self.position
            self._file.close()
            self._file, self._rest = None, b""

    def _open(self) -> bool:
        if not self.path.exists() and self._last is None:
            return False
        if self._last is not None:
            self._resume(self._last)
            self._last = None
        path = self._older or self.path
        if not path.exists():
            return False
        self._file = path.open("rb")
        self._file.seek(self._offset)
        return True

    def _whole_lines(self, part: bytes) -> bytes:
        end = part.rfind(b"\n") + 1
        if not end and len(self._rest) + len(part) <= _LONGEST_LINE:
            self._rest += part
            return b""
        if not end:  # no record is as long: it ends here, and counts as none
            self._rest = b""
            return part[:_HEAD_BYTES] + b"\n"
        lines, self._rest = self._rest + part[:end], part[end:]
        return lines

    def _is_truncated(self) -> bool:
        """Whether the file is shorter than what was read of it, or begins otherwise."""
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:
            return True
        head = _head(self._file, min(_HEAD_BYTES, self._offset))
        if not head.startswith(self._begins):
            return True
        self._begins = head
        return False

    def _begin_again(self, why: str) -> None:
        assert self._file is not None
        self.notes.append(f"{self.path}: {why}")
        self._file.seek(0)
        self._offset, self._rest, self._begins = 0, b"", b""

    def _is_replaced(self) -> bool:
        """Whether another file has taken the log's name."""
        assert self._file is not None
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != self.file_mark

    def _rotated(self) -> bytes:
        """What the old file ends with; the new one is read next."""
        assert self._file is not None
        last = self._rest + self._file.read()  # it may have grown before it lost its name
        self.close()
        self._last, self._older = None, None
        self._offset, self._begins = 0, b""
        return last + b"\n"

    def _resume(self, position: Position) -> None:
        """Go on where an earlier process stopped, in the file that it read, whatever that is called now."""
        found = next((path for path in self._candidates() if _is_same(path, position)), None)
        self._offset, self._begins = position.offset if found else 0, b""
        self._older = None if found == self.path else found
        if found is None and self.path.exists():
            was_cut = self.path.stat().st_ino == position.inode
            self.notes.append(f"{self.path}: {_CUT if was_cut else _GONE}")

    def _candidates(self) -> list[Path]:
        beside = self.path.parent.glob(f"{_plain(self.path.name)}*") if self.path.parent else []
        return [self.path, *(path for path in sorted(beside) if path != self.path)]


def _plain(name: str) -> str:
    """A name without what a pattern would take for its own."""
    return "".join("?" if sign in "*?[]" else sign for sign in name)


def _is_same(path: Path, position: Position) -> bool:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = _head(file, position.head_bytes)
    except OSError:
        return False
    is_long = status.st_size >= position.offset
    return is_long and status.st_ino == position.inode and _digest(head) == position.head


def _head(file: BinaryIO, size: int) -> bytes:
    return os.pread(file.fileno(), size, 0)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()
