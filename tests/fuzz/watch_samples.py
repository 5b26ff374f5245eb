"""Good files of ``calibrate watch``: logs with labels, states, profiles."""

import contextlib
import tempfile
from pathlib import Path

from calibrate.outcome.profiles import Profile, ProfiledParameter, write_profile
from calibrate.watch.calibrated import Calibrated
from calibrate.watch.labels import Said
from calibrate.watch.session import Session
from calibrate.watch.slices import Settings
from calibrate.watch.stream import Stream
from calibrate.watch.watch import Watch
from sim import latency_model
from sim.hardware import Hardware
from tests.conftest import GUIDE_H100
from tests.fuzz.samples import Files, written
from tests.watched import MODEL, noise, records, traffic

H100 = Hardware("H100", GUIDE_H100)
_STEPS = 700


def session_of(source: Path, state: Path | None) -> Session:
    """A watch of small windows over a source."""
    watch = Watch(latency_model("roofline-v1"), H100, ("node",), Settings(40, 0.01))
    stream = Stream(source, Said(MODEL, 1))
    return Session(watch, stream, Calibrated("c", H100, None, None), state, None)


def logs() -> list[Files]:
    """A log with nodes and times, and one by the keys of its folder."""
    log = _log().encode()
    return [{"log.jsonl": log}, {"node=n7/engine=vllm/log.jsonl": log}]


def _log() -> str:
    return records(traffic(_STEPS, phases=(0.8, 0.2, 0.0)), H100, log_extra=noise(_STEPS, 0.04))


def states() -> list[Files]:
    """A log beside the state of a watch that has read two thirds of it."""
    lines = _log().splitlines(keepends=True)
    log, state = Path("log.jsonl"), Path("state.npz")  # a state is of a path
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        log.write_text("".join(lines[:500]))
        session = session_of(log, state)
        session.take_all()
        session.close()
        return [{"log.jsonl": "".join(lines).encode(), "state.npz": state.read_bytes()}]


def profiles() -> list[Files]:
    """An engine's folder of one profile."""

    def write(folder: Path) -> None:
        parameters = tuple(
            ProfiledParameter(name, value, 0.01 * value, (0.9 * value, 1.1 * value))
            for name, value in GUIDE_H100.items()
        )
        covariance = {"mfuPrefill": {"mfuPrefill": 1e-4}}
        words = ("roofline-v1", "now", "0", "log", "hw.json", "why", "step 1", "", "step 9")
        made = Profile(1, "H100", "e", *words, 10, parameters, covariance)
        write_profile(folder, made, GUIDE_H100, "2026-01-02-030405")

    (files,) = [written(write)]
    return [{name.removeprefix("H100/e/"): content for name, content in files.items()}]
