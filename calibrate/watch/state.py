"""What a watch knows, in one file that is written whole: after a restart it goes on as if nothing had been."""

import dataclasses
import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_bytes
from calibrate.watch.detector import Detector
from calibrate.watch.noise import Noise
from calibrate.watch.outside import Outside
from calibrate.watch.reference import Reference
from calibrate.watch.ring import Steps
from calibrate.watch.served import Served
from calibrate.watch.slices import Alarm, Rest, Slice
from calibrate.watch.watch import Watch
from calibrate.watch.windows import Window
from sim.steps.batch import Floats

_VERSION = 1
_META = "meta"
_STEPS = ("moments", "served", "deviation", "at")
_RINGS = ("ring", "first", "batch")
_REST = ("factor", "change", "at", "sizes")
_WINDOW = tuple(field.name for field in dataclasses.fields(Window))
_PLAIN = ("number", "stage", "steps", "outside", "level", "start")
_DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    RuntimeError,  # a compression that zipfile does not know
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
    tokenize.TokenError,
)
_FIX = "remove it to begin anew, or give another --state"


def question(watch: Watch, source: str) -> dict[str, Any]:
    """What a state belongs to: another calibration, window or source has another one."""
    return {
        "source": source,
        "model": watch.model.name,
        "gpu": watch.hardware.gpu,
        "values": watch.model.parameters(watch.hardware),
        "by": list(watch.by),
        "window": watch.settings.window,
        "false_alarms": watch.settings.false_alarms,
        "reference": "run" if watch.given else "log",
    }


def save(path: Path, watch: Watch, source: str, positions: Mapping[str, Any]) -> None:
    """Write the state in one step: a crash leaves the old file or the new one."""
    arrays: dict[str, Any] = {}
    slices = []
    for place, one in enumerate(watch.slices.values()):
        arrays |= {f"{place}.{name}": value for name, value in _arrays(one).items()}
        slices.append(_scalars(one))
    meta = {
        "version": _VERSION,
        "question": question(watch, source),
        "positions": positions,
        "served": watch.served.to_plain(),
        "outside": watch.outside.to_plain(),
        "left_out": dict(watch.left_out),
        "counts": [watch.steps, watch.first_at, watch.last_at],
        "slices": slices,
    }
    content = io.BytesIO()
    arrays[_META] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    np.savez(content, allow_pickle=False, **arrays)
    replace_bytes(path, content.getvalue())


def load(path: Path, watch: Watch, source: str) -> dict[str, Any]:
    """Fill a new watch with what a file holds; how far its sources were read.

    Raises CalibrateError for a file that is damaged, or belongs to another watch.
    """
    try:
        content = io.BytesIO(path.read_bytes())
        _check_whole(content)
        with np.load(content, allow_pickle=False) as arrays:
            meta = json.loads(arrays[_META].tobytes())
            known = dict(meta["question"])
            if meta["version"] == _VERSION and known == question(watch, source):
                _fill(watch, meta, arrays)
                return dict(meta["positions"])
    except _DAMAGED as error:
        raise CalibrateError(
            f"{path}: is no state of calibrate watch, or damaged; {_FIX}"
        ) from error
    except OSError as error:
        raise CalibrateError(
            f"{path}: cannot be read: {error.strerror or error}; {_FIX}"
        ) from error
    other = [name for name, value in question(watch, source).items() if known.get(name) != value]
    raise CalibrateError(
        f"{path}: is the state of another watch ({', '.join(other) or 'version'} differs); {_FIX}"
    )


def _check_whole(content: io.BytesIO) -> None:
    """Raise BadZipFile where a checksum does not hold: NumPy leaves what it does not need of an array unread."""
    with zipfile.ZipFile(content) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
    content.seek(0)


def _fill(watch: Watch, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    watch.served = Served.from_plain(meta["served"])
    watch.outside = Outside.from_plain(meta["outside"])
    watch.left_out.update(meta["left_out"])
    watch.steps, watch.first_at, watch.last_at = meta["counts"]
    for place, scalars in enumerate(meta["slices"]):
        prefix = f"{place}."
        own = {
            name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)
        }
        if odd := [name for name, array in own.items() if not isinstance(array, np.ndarray)]:
            raise TypeError(odd[0])  # what does not begin as an array does is loaded as bytes
        one = _slice(watch, scalars, own)
        watch.slices[one.key] = one


def _scalars(one: Slice) -> dict[str, Any]:
    return {
        "key": list(one.key),
        **{name: getattr(one, name) for name in _PLAIN},
        "reference": None if one.reference is None else one.reference.to_plain(),
        "noise": None if one.noise is None else dataclasses.asdict(one.noise),
        "alarms": [dataclasses.asdict(alarm) for alarm in one.alarms],
    }


def _arrays(one: Slice) -> dict[str, Floats]:
    rings = {
        f"{ring}.{name}": getattr(getattr(one, ring), name) for ring in _RINGS for name in _STEPS
    }
    windows = [[getattr(window, name) for name in _WINDOW] for window in one.windows]
    return {
        **rings,
        **{f"open.{name}": getattr(one.open, name) for name in _REST},
        "settling": one.settling,
        "logs": one.detector.logs,
        "since": one.detector.since,
        "windows": np.array(windows, dtype=np.float64).reshape(-1, len(_WINDOW)),
    }


def _slice(watch: Watch, scalars: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Slice:
    key = tuple(map(str, scalars["key"]))
    one = Slice(key, int(scalars["number"]), watch.settings, watch.given_for(key))
    for name in _PLAIN:
        setattr(one, name, scalars[name])
    if scalars["reference"] is not None:
        one.reference = Reference.from_plain(scalars["reference"])
        one.noise = Noise(**scalars["noise"])
    for ring in _RINGS:
        setattr(one, ring, _steps(arrays, ring))
    one.open = Rest(*(arrays[f"open.{name}"] for name in _REST))
    one.settling = arrays["settling"]
    one.detector = Detector(arrays["logs"], arrays["since"])
    one.windows = [_window(row) for row in arrays["windows"].tolist()]
    one.alarms = [Alarm(**{**alarm, "slice": tuple(alarm["slice"])}) for alarm in scalars["alarms"]]
    return one


def _steps(arrays: Mapping[str, Any], ring: str) -> Steps:
    return Steps(*(arrays[f"{ring}.{name}"] for name in _STEPS))


def _window(row: list[float]) -> Window:
    values: dict[str, Any] = dict(zip(_WINDOW, row, strict=True))
    return Window(**{**values, "steps": int(values["steps"])})
