"""How functions of the serving simulator are compiled, and the made-up steps that latency models are read off."""

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

from sim.architecture import Architecture
from sim.steps.batch import StepTable
from sim.steps.moments import MOMENTS

F = TypeVar("F", bound=Callable[..., Any])
# no check for a division by zero, and no count of who holds an array, which would take most of the time: the caller
# holds them all, and without that count numba refuses to make one
OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
# an inlined function is called by nobody else, and each entrance would hold all of it once more: a third of the time
# that compiling takes
_INLINED: dict[str, Any] = {
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
_sources = {Path(__file__)}


def compiled(function: F) -> F:
    """Compile a function into whoever calls it: a call would copy the whole state of the scheduler.

    Only compiled functions can call it; :func:`entrance` is for Python.
    """
    return _inlined(function)


def written_out(function: F) -> F:
    """The same for a function with one caller, which is compiled as if the function stood in it.

    What the function calls is so compiled once less.
    """
    return _inlined(function, inline="always")


def entrance(function: F) -> F:
    """Compile a function that Python calls."""
    return cast(F, numba.njit(**OPTIONS)(function))


def kept_on_disk(function: F) -> F:
    """Compile a function that Python calls, without the interpreter's lock; the next process reads it from the disk.

    Its body must use a number that it was made with, :func:`source_stamp`: numba's cache looks at one file only.
    """
    compile_it = functools.partial(numba.njit, nogil=True, **OPTIONS)
    try:
        return cast(F, compile_it(cache=True)(function))
    except RuntimeError:  # no folder that a cache could be written into
        return cast(F, compile_it()(function))


def _inlined(function: F, **more: Any) -> F:
    _sources.add(Path(function.__code__.co_filename))
    return cast(F, numba.njit(**_INLINED, **OPTIONS, **more)(function))


def source_stamp(order: Iterable[str], *places: str) -> int:
    """A number that changes with the source of any function compiled so far, and with the ``order`` of the models.

    Only files of this folder and in ``places``, folders or files, count: what else was compiled before must not matter.
    numba's cache looks at one file only.
    """
    within = [Path(__file__).parent, *map(Path, places)]
    counted = [path for path in sorted(_sources) if any(map(path.is_relative_to, within))]
    texts = [path.read_bytes() for path in counted]
    names = " ".join(order).encode()
    return zlib.crc32(b"".join([*texts, names]))


Lines = tuple[float, float, float, float, float, float]
"""Two lines over the cached tokens of a batch of decodes, in µs and µs a token: the first two figures, and the next.

The last two add to the first line what grows with cached tokens up to a number of them: µs a token, and that number.
"""


def probe(arch: Architecture, tp: int, *steps: Mapping[str, float]) -> StepTable:
    """A table of made-up steps, each given by its moments that are not 0."""
    moments = [[step.get(name, 0.0) for step in steps] for name in MOMENTS]
    count = len(steps)
    return StepTable(
        architectures=(arch,),
        arch_index=np.zeros(count, dtype=np.intp),
        tp=np.full(count, tp, dtype=np.int64),
        moments=np.array(moments),
    )
