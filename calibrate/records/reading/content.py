"""The bytes and the text of a file, whether it lies there as it is or compressed (gzip, Zstandard)."""

import contextlib
import io
from collections.abc import Generator, Iterator
from pathlib import Path, PurePath
from typing import IO

from calibrate.records.errors import Problem, UnreadableError
from sim.text_files import ContentError, decoded, encoding_of

MOST_DATA_BYTES = 1 << 31
"""How large results, logs and tables may be, unpacked: they are held in memory whole."""
MOST_CONFIGURATION_BYTES = 1 << 22
"""How large TOML and YAML may be; their parsers take seconds a megabyte."""
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_ENDS = (".gz", ".zst")
_WHOLE = "Was the file cut off? Copy it again, or leave it out"
_CHUNK_BYTES = 1 << 24
_PART_CHARACTERS = 1 << 22


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Whatever is wrong with a file's content, or keeps it from being read, as an error that names the file."""
    try:
        yield
    except ContentError as error:
        lines = () if error.line is None else (error.line,)
        raise UnreadableError(Problem("error", str(path), error.what, error.fix, lines)) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        fix = "Check the path and its permissions" if error.strerror else _WHOLE
        raise UnreadableError(Problem("error", str(path), what, fix)) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes to be read, unpacked if they begin as gzip or Zstandard do, whatever the file is called."""
    with path.open("rb") as file, unpacked(file, file.peek(4)) as content:
        yield content


@contextlib.contextmanager
def unpacked(file: IO[bytes], start: bytes) -> Iterator[IO[bytes]]:
    """The bytes of an open file that begins with ``start``, unpacked if that is how gzip or Zstandard begin."""
    kind = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if kind is None:
        yield file
        return
    import pyarrow as pa

    with pa.CompressedInputStream(file, kind) as content:
        yield content


def most_lines(path: Path) -> int:
    """So many lines a file has at the most. Raises UnreadableError if it cannot be read."""
    lines, size = 1, 0
    with named(path), opened(path) as file:
        while size <= MOST_DATA_BYTES and (part := file.read(_CHUNK_BYTES)):
            lines += part.count(b"\n") + part.count(b"\r")
            size += len(part)
    return lines


def read_content(path: Path, most_bytes: int = MOST_DATA_BYTES) -> bytes:
    """All bytes of a file, unpacked. Raises UnreadableError if it cannot be read, or there are more of them."""
    parts: list[bytes] = []
    size = 0
    with named(path), opened(path) as file:
        while part := file.read(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                what = f"is larger than {most_bytes >> 20:,} MiB"
                raise ContentError(
                    what, "Is it the right file? Split it, or leave out what is not needed"
                )
    return b"".join(parts)


def read_text(path: Path, most_bytes: int = MOST_DATA_BYTES) -> str:
    """A file's text: UTF-8 or UTF-16, with or without a mark. Raises UnreadableError for anything else."""
    content = read_content(path, most_bytes)
    with named(path):
        return decoded(content)


def read_parts(path: Path) -> Generator[str]:
    """A file's text in parts of whole lines, some megabytes each; raises as :func:`read_text`."""
    size = 0
    with named(path), opened(path) as file:
        encoding = encoding_of(file.read(2))
    with named(path), opened(path) as file, io.TextIOWrapper(file, encoding, newline="") as text:
        try:
            while part := text.read(_PART_CHARACTERS):
                part += text.readline()
                size += len(part)
                if size > MOST_DATA_BYTES or "\0" in part:
                    read_text(path)  # which names the fault and its place
                yield part
        except UnicodeDecodeError:
            read_text(path)


def read_log_text(path: Path) -> str:
    """The text of a log, in which bytes that are no text, as a crash leaves them, are replaced."""
    return read_content(path).decode("utf-8", errors="replace")


def plain_name(path: PurePath) -> str:
    """A file's name without the ending of its compression."""
    return next(
        (path.name.removesuffix(end) for end in _PACKED_ENDS if path.name.endswith(end)), path.name
    )
