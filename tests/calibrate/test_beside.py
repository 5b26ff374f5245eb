"""Work beside the rest: its result, its error, and what happens where its process is killed."""

import os
import signal

import pytest

from calibrate.records import beside as module
from calibrate.records.beside import beside


def test_the_result_comes_from_another_process():
    ours = os.getpid()
    where = beside(os.getpid)()
    assert (where != ours) == module._can_fork()


def test_its_error_is_raised_where_the_result_is_asked_for():
    def fail():
        raise OSError(28, "No space left on device")

    waiting = beside(fail)
    with pytest.raises(OSError, match="No space left"):
        waiting()


def test_what_a_killed_process_did_not_do_is_done_here():
    ours = os.getpid()

    def die_elsewhere():
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    assert beside(die_elsewhere)() == "done"


def test_without_a_second_core_the_work_waits_for_the_call(monkeypatch):
    monkeypatch.setattr(module, "_can_fork", lambda: False)
    done = []
    waiting = beside(lambda: done.append("now"))
    assert done == []
    waiting()
    assert done == ["now"]
