"""Work done beside the rest on another core: in a fork of this process, where the system makes one safely."""

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

_T = TypeVar("_T")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def beside(work: Callable[[], _T]) -> Callable[[], _T]:
    """Begin ``work``, which prints nothing and whose result can be pickled; the call of what is returned waits for it.

    The call gives the result or raises the error of ``work``. Where no process can be forked, or it was killed,
    ``work`` is done by the call.
    """
    if not _can_fork():
        return work
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, writer), daemon=True)
    with warnings.catch_warnings():
        # From 3.12 on Python warns of other threads; the spinner of a terminal is the only one, and stays behind
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    writer.close()

    def result() -> _T:
        try:
            succeeded, found = reader.recv()
        except EOFError:
            return work()
        process.join()
        if not succeeded:
            raise found
        return found  # type: ignore[no-any-return]  # what the other process pickled

    return result


def _can_fork() -> bool:
    """Whether there is a second core, and a system whose libraries live through a fork."""
    is_child = multiprocessing.current_process().daemon
    return sys.platform == "linux" and not is_child and len(os.sched_getaffinity(0)) > 1


def _send(work: Callable[[], Any], writer: Connection) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    try:
        found = (True, work())
    except Exception as error:  # raised where the result is asked for
        found = (False, error)
    writer.send(found)
