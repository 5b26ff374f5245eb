"""Where work in parts is done: by joblib on this machine, or by Dask's workers, whoever splits it.

``with workers(jobs, scheduler):`` says where, and all goes through :func:`in_parts`.
"""

import collections
import contextlib
import contextvars
import dataclasses
import logging
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal, TypeVar

import joblib

from calibrate.records.distribution import install_extra
from calibrate.records.errors import CalibrateError

T = TypeVar("T")

LOCAL, THREADS = "local", "threads"
_CONNECT_S = 10
_ANY_PORT = {"dashboard_address": ":0"}
"""For the scheduler's pages: another cluster of this machine may have the usual port."""
_PARTS_A_THREAD = 3
"""Parts that wait for a thread, so that it never waits for one; their results are in memory at once."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """So many ``jobs`` on this machine or, with a ``client``, the workers of the Dask scheduler of that name."""

    jobs: int = 1
    scheduler: str = ""
    client: Any = None


_ALONE = Workers()
_WORKERS = contextvars.ContextVar("workers", default=_ALONE)


@contextlib.contextmanager
def workers(jobs: int, scheduler: str = "") -> Iterator[None]:
    """Do the work in here with so many ``jobs``, or on a Dask ``scheduler``.

    That is an address, ``local`` (``jobs`` processes of this machine) or ``threads``; empty: joblib. Raises
    CalibrateError where Dask is not installed, or no scheduler answers.
    """
    outer = _WORKERS.get()
    if not scheduler or scheduler == outer.scheduler:
        with _set(dataclasses.replace(outer, jobs=jobs)):
            yield
        return
    with _connected(scheduler, jobs) as client, _set(Workers(jobs, scheduler, client)):
        yield


def in_parts(
    function: Callable[..., T],
    parts: Iterable[tuple[Any, ...]],
    jobs: int | None = None,
    prefer: Literal["threads"] | None = None,
) -> Generator[T]:
    """``function(*part)`` of every part, in their order, each as soon as it and those before it are there.

    ``jobs`` and ``prefer`` are joblib's, and for this machine only. Raises CalibrateError if Dask's scheduler is lost.
    """
    current = _WORKERS.get()
    if current.client is None:
        run = joblib.Parallel(n_jobs=jobs or current.jobs, prefer=prefer, return_as="generator")
        yield from run(joblib.delayed(function)(*part) for part in parts)
        return
    with _lost(current.scheduler):
        yield from _on_dask(current.client, function, parts)


def _on_dask(
    client: Any, function: Callable[..., T], parts: Iterable[tuple[Any, ...]]
) -> Generator[T]:
    """As many parts at once as keep all workers busy; one of a worker that is lost is done again by another."""
    at_once = _PARTS_A_THREAD * max(1, sum(client.nthreads().values()))
    waiting: collections.deque[Any] = collections.deque()
    try:
        for part in parts:
            waiting.append(_submitted(client, function, part))
            if len(waiting) >= at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _submitted(client: Any, function: Callable[..., T], part: tuple[Any, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return client.submit(function, *part, pure=False)


def on_every_worker(function: Callable[..., object], *arguments: object) -> None:
    """Call a function once on this machine, and on every worker of Dask's that is reached."""
    function(*arguments)
    client = _WORKERS.get().client
    if client is not None:
        with contextlib.suppress(Exception):  # a worker that is gone has nothing to be told
            client.run(function, *arguments)


@contextlib.contextmanager
def _set(value: Workers) -> Iterator[None]:
    token = _WORKERS.set(value)
    try:
        yield
    finally:
        _WORKERS.reset(token)


@contextlib.contextmanager
def _connected(scheduler: str, jobs: int) -> Iterator[Any]:
    distributed = _distributed()
    for name in [one for one in logging.root.manager.loggerDict if one.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what befalls a worker, Dask mends
    with contextlib.ExitStack() as stack:
        place: Any = scheduler
        if scheduler in (LOCAL, THREADS):
            place = stack.enter_context(_cluster(distributed, jobs, processes=scheduler == LOCAL))
        try:
            client = stack.enter_context(distributed.Client(place, timeout=_CONNECT_S))
        except (OSError, ValueError) as error:
            words = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CalibrateError(
                f"--scheduler {scheduler}: no Dask scheduler answers ({words}). Start one with `dask scheduler`, "
                f"give its address (tcp://host:8786), or {LOCAL} or {THREADS}"
            ) from error
        yield client


def _cluster(distributed: Any, jobs: int, *, processes: bool) -> Any:
    return distributed.LocalCluster(
        n_workers=jobs if processes else 1,
        threads_per_worker=1 if processes else jobs,
        processes=processes,
        dashboard_address=None,
        scheduler_kwargs=_ANY_PORT,
        silence_logs=logging.CRITICAL,
    )


def _distributed() -> Any:
    try:
        import dask.distributed
    except ImportError as error:
        raise CalibrateError(
            f"--scheduler needs the extra dask: {install_extra('dask')}"
        ) from error
    return dask.distributed


@contextlib.contextmanager
def _lost(scheduler: str) -> Iterator[None]:
    """What Dask raises where its scheduler or all of its workers are gone, in words."""
    import concurrent.futures

    import distributed

    gone = (
        concurrent.futures.CancelledError,
        distributed.client.FutureCancelledError,
        distributed.comm.core.CommClosedError,
        distributed.scheduler.KilledWorker,
        TimeoutError,
    )
    try:
        yield
    except gone as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CalibrateError(
            f"--scheduler {scheduler}: the scheduler or its workers are gone ({words}). Start them again, with enough "
            "memory a worker, and run the command again"
        ) from error
