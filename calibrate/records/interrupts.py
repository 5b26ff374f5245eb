"""The few steps that belong together, and that no Ctrl-C and no SIGTERM parts."""

import contextlib
import signal
import threading
from collections.abc import Iterator

_ENDS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A signal that asks to end comes too late in here: what has begun is done."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    previous = {end: signal.signal(end, signal.SIG_IGN) for end in _ENDS}
    try:
        yield
    finally:
        for end, handler in previous.items():
            signal.signal(end, handler or signal.SIG_DFL)
