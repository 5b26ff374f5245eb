"""Children of a process that has all imported: each runs a piece of work and is killed, or not."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from calibrate.cli import main

Work = Callable[[], object]

_CHANGES = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate"),
    *("os.link", "os.symlink", "fcntl.flock"),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def command(*arguments: object) -> Work:
    """The command line with these arguments."""

    def work() -> None:
        sys.argv = ["calibrate", *map(str, arguments)]
        main()

    return work


_said: dict[int, tuple[int, Path]] = {}


def start(work: Work, said: Path) -> int:
    """Run the work in a child that is at it now; its process id. What it says goes by a pipe into a file at its end."""
    reading, writing = os.pipe()
    told, tells = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.close(tells)
        os.read(told, 1)
        os.close(told)
        _said[child] = reading, said
        return child
    code = 70
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))
        os.close(tells)
        work()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(child: int) -> int:
    """Wait for a child; its exit code, or minus the signal that ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reading, said = _said.pop(child)
    with os.fdopen(reading, "rb") as pipe:
        said.write_bytes(pipe.read())
    return code


def finish_all(children: Iterable[int]) -> list[int]:
    return [finish(child) for child in children]


def run(work: Work, said: Path) -> int:
    return finish(start(work, said))


def seconds(work: Work, said: Path) -> float:
    """How long the work takes undisturbed."""
    began = time.monotonic()
    code = run(work, said)
    assert code == 0, f"undisturbed, it ends with {code}: {said.read_text()}"
    return time.monotonic() - began


def end_after(work: Work, moment_s: float, said: Path, end: int) -> int:
    """Send the work a signal a while after its start; how it ends."""
    child = start(work, said)
    time.sleep(moment_s)
    os.kill(child, end)
    return finish(child)


def kill_before_change(work: Work, number: int, said: Path) -> bool:
    """Kill the work just before its ``number``-th change to the file system; whether it came so far."""

    def doomed() -> None:
        left = [number]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if _is_change(event, arguments):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()

    return run(doomed, said) == -signal.SIGKILL


def _is_change(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        return bool(int(arguments[2]) & _WRITES)
    return event in _CHANGES
