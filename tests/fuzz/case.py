"""One case: a good folder, what happened to it, and what a reader said."""

import contextlib
import dataclasses
import re
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Literal

from calibrate.records.errors import CalibrateError
from sim.errors import SimError
from tests.fuzz.folder import Folder
from tests.fuzz.mutations import damaged_folder
from tests.fuzz.readers import READERS
from tests.fuzz.samples import Files

HANG_S = 10.0
"""CPU seconds beyond which a reader of a few kilobytes hangs."""
_OURS = re.compile(r"/((?:calibrate|sim)/[\w/]+\.py)$")

Outcome = Literal["read", "refused", "finding"]


class Hang(BaseException):
    """A reader ran for too long."""


@dataclasses.dataclass(frozen=True)
class Case:
    """The accident of that ``number`` to what a reader reads; the same again for the same seed."""

    seed: int
    reader: str
    number: int

    def files(self) -> tuple[Files, list[str]]:
        """The damaged folder, and what happened to it, in words."""
        chance = Random(f"{self.seed}/{self.reader}/{self.number}")
        good = chance.choice(READERS[self.reader].good)
        return damaged_folder(good, chance)

    def __str__(self) -> str:
        """How to see it again."""
        return f"--seed {self.seed} --reader {self.reader} --case {self.number}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a case: ``kind`` groups findings alike, ``message`` is what was said, ``cpu_s`` what it took."""

    outcome: Outcome
    kind: str
    message: str
    cpu_s: float


def run(case: Case, folder: Folder, hang_s: float = HANG_S) -> Result:
    """What a reader says of a case, whose files are then in the folder."""
    files, _ = case.files()
    folder.hold(files)
    began = time.process_time()
    outcome, kind, message = _read(case.reader, folder.root, hang_s)
    if READERS[case.reader].writes:
        folder.empty()
    return Result(outcome, kind, message, time.process_time() - began)


def _read(reader: str, root: Path, hang_s: float) -> tuple[Outcome, str, str]:
    try:
        with _at_most(hang_s):
            READERS[reader].read(root)
    except (CalibrateError, SimError) as error:
        return _judged(error)
    except Hang as error:
        return "finding", f"hang at {_place(error)}", "".join(traceback.format_exception(error))
    except Exception as error:
        kind = f"{type(error).__name__} at {_place(error)}"
        return "finding", kind, "".join(traceback.format_exception(error))
    return "read", "", ""


def _judged(error: Exception) -> tuple[Outcome, str, str]:
    """A refusal, unless its words cannot be written or are none."""
    said = str(error)
    try:
        said.encode()
    except UnicodeEncodeError:
        said = ascii(said)
        return "finding", f"half a character in what {_place(error)} says", said
    if not said.strip():
        return "finding", f"no words at {_place(error)}", repr(error)
    return "refused", "", said


def _place(error: BaseException) -> str:
    """The innermost line of ours that an error went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name != _stop.__name__]
    ours = [(found[1], frame.lineno) for frame in frames if (found := _OURS.search(frame.filename))]
    file, line = ours[-1] if ours else (frames[-1].filename, frames[-1].lineno)
    return f"{file}:{line}"


@contextlib.contextmanager
def _at_most(cpu_s: float) -> Iterator[None]:
    """Raise Hang in what takes longer."""
    previous = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, previous)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Hang
