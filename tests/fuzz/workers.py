"""Cases on several processes; one that dies is a finding too, and another goes on in its place."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.case import HANG_S, Case, Result, run
from tests.fuzz.folder import Folder, temporary_folders
from tests.fuzz.readers import READERS
from tests.fuzz.tally import Tally

_MEMORY_BYTES = 3 << 30
"""How much address space a case may take beyond what its worker has.

The worker's own grows by some 80 KiB a case that is never touched, in Arrow's readers of CSV, so the limit moves with
it; what is touched is the peak memory of the tally.
"""
_STUCK_S = 300.0
"""Seconds after which a worker that says nothing is taken to hang where no signal reaches it."""
_SAYS_EVERY_S = 5.0
_START = multiprocessing.get_context("spawn")


def cases(seed: int, total: int, readers: Sequence[str]) -> Iterator[Case]:
    """So many cases, round after round of the readers that are due in it."""
    made = number = 0
    while made < total:
        for reader in readers:
            if number % READERS[reader].every == 0 and made < total:
                yield Case(seed, reader, number)
                made += 1
        number += 1


def run_here(chosen: Iterator[Case]) -> Tally:
    """All cases in this process."""
    tally = Tally()
    with temporary_folders() as place:
        folder = _folder(place)
        for case in chosen:
            tally.add(case, run(case, folder))
    return tally


def run_everywhere(
    seed: int, total: int, readers: Sequence[str], jobs: int, say: Callable[[str], None]
) -> Tally:
    """All cases, every process taking one in so many; those that were tried when a Ctrl-C ends it."""
    tally = Tally()
    workers = [_Worker(seed, total, tuple(readers), part, jobs) for part in range(jobs)]
    with contextlib.suppress(KeyboardInterrupt):
        while open_ := [worker for worker in workers if not worker.done]:
            multiprocessing.connection.wait(
                [worker.pipe for worker in open_], timeout=_SAYS_EVERY_S
            )
            for worker in open_:
                worker.collect(tally)
            say(f"{tally.cases:,} of {total:,} cases, {len(tally.findings)} kinds of findings")
    return tally


class _Worker:
    """A process that tries one case in ``jobs``; ``at`` is where it is."""

    def __init__(
        self, seed: int, total: int, readers: tuple[str, ...], part: int, jobs: int
    ) -> None:
        self._share = (seed, total, readers, part, jobs)
        self._at = _START.Value("q", -1)
        self.done = False
        self._start(0)

    def _start(self, first: int) -> None:
        self.pipe, there = _START.Pipe(duplex=False)
        self._heard = math.inf  # on a busy machine its imports take minutes
        self._process = _START.Process(
            target=_work, args=(self._share, first, self._at, there), daemon=True
        )
        self._process.start()
        there.close()

    def collect(self, tally: Tally) -> None:
        """What it has said since; a dead one is started again after the case that killed it."""
        try:
            while self.pipe.poll():
                part = self.pipe.recv()
                self.done = part is None
                self._heard = time.monotonic()
                if part is not None:
                    tally.join(part)
        except EOFError:
            self._died(tally)
        if not self.done and time.monotonic() - self._heard > _STUCK_S:
            self._process.kill()

    def _died(self, tally: Tally) -> None:
        if self.done:
            return
        self._process.join()
        at = self._at.value
        if at < 0:
            raise RuntimeError("a worker died before its first case")
        seed, total, readers, part, jobs = self._share
        case = next(case for n, case in _share_of(seed, total, readers, part, jobs) if n == at)
        kind = f"hang or death with exit code {self._process.exitcode}"
        tally.add(case, Result("finding", kind, kind, 0.0))
        self._start(at + 1)


def _share_of(
    seed: int, total: int, readers: tuple[str, ...], part: int, jobs: int
) -> Iterator[tuple[int, Case]]:
    """One in ``jobs`` of the rounds, whose cases come with their places among all."""
    for place, case in enumerate(cases(seed, total, readers)):
        if (case.number // READERS[case.reader].every) % jobs == part:
            yield place, case


def _work(share: tuple[Any, ...], first: int, at: Any, pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends with what it has heard
    warnings.simplefilter("error")
    with temporary_folders() as place:
        folder = _folder(place)
        _warm_up(folder, share[2])
        _say(Tally(), pipe)
        tally, said = Tally(), time.monotonic()
        for number, case in _share_of(*share):
            if number < first:
                continue
            at.value = number
            tally.add(case, run(case, folder, HANG_S))
            if time.monotonic() - said > _SAYS_EVERY_S:
                _say(tally, pipe)
                tally, said = Tally(), time.monotonic()
        _say(tally, pipe)
        pipe.send(None)


def _folder(place: Path) -> Folder:
    root = place / "input"
    root.mkdir()
    return Folder(root)


def _warm_up(folder: Folder, readers: Sequence[str]) -> None:
    """Read every good sample once: they must be good, and imports and compilers take their memory here."""
    for name in readers:
        for good in READERS[name].good:
            folder.hold(good)
            READERS[name].read(folder.root)
            if READERS[name].writes:
                folder.empty()


def _say(tally: Tally, pipe: Any) -> None:
    tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    pipe.send(tally)
    _limit_memory()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + _MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
