"""What several tests share: where things lie, and the vendor block every synthetic test starts from."""

import contextlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pytest
from filelock import FileLock

from calibrate.cli import main
from sim import (
    EngineLimits,
    Hardware,
    latency_model,
    load_architecture,
    load_hardware,
    simulate,
)
from sim.serving.workload import trace

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
CAMPAIGN = ROOT / "ground_truth/H100/aiconfigurator-vllm-0.24.0"

GUIDE_H100 = {
    "TFlopsPeak": 989.5,
    "BwPeakTBs": 3.35,
    "BwEffConstant": 0.72,
    "TOverheadMicros": 50.0,
    "perLayerOverhead": 5.0,
    "mfuPrefill": 0.65,
    "mfuDecode": 0.12,
    "allReduceLatency": 20.0,
    "tpScalingExponent": 0.8,
    "decodeTpScalingExponent": 1.0,
    "mfuPrefillMultiplier": 1.0,
    "mfuDecodeMultiplier": 1.0,
    "prefillBwFactor": 1.0,
    "decodeBwFactor": 1.0,
    "vectorPeakFraction": 0.1,
    "prefillOverheadMicros": 100.0,
    "mixedPrefillOverheadMicros": 50.0,
}


def zstd(content: bytes) -> bytes:
    """The content as a file of Zstandard holds it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


Made = TypeVar("Made")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """``made_once(name, make)``: what ``make(folder)`` gives, made by the first worker that asks and read by others."""
    own = tmp_path_factory.getbasetemp()
    of_all_workers = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def find(name: str, make: Callable[[Path], Made]) -> Made:
        folder = of_all_workers / name
        folder.mkdir(exist_ok=True)
        kept = folder / "made.pickle"
        with FileLock(folder / "lock"):
            if not kept.exists():
                kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())

    return find


@pytest.fixture(scope="session", autouse=True)
def compiled_once(made_once):
    """The simulator's loop, half a minute's work, compiled by one of several workers: the others read it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        made_once("compiled", compile_loop)


def compile_loop(_: Path) -> None:
    """Serve a request, for which the loop is compiled, or read."""
    hardware = load_hardware({"H100": GUIDE_H100}, gpu="H100")
    engine = EngineLimits(max_num_batched_tokens=64, max_num_seqs=1, kv_cache_tokens=64)
    model, arch = latency_model("roofline-v1"), load_architecture("llama-3.1-8b")
    simulate(trace([0.0], 8, 2), engine, model, arch, hardware)


@contextlib.contextmanager
def one_plot() -> Iterator[None]:
    """Reports with one of their plots, for who looks at none: drawing them takes longer than most fits."""
    from calibrate.report import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "PLOTS", plots.PLOTS[:1])
        patch.setattr(plots, "SERVING_PLOTS", plots.SERVING_PLOTS[:1])
        yield


@pytest.fixture(name="one_plot")
def drawn_with_one_plot():
    """Every report of a test is drawn with :func:`one_plot`."""
    with one_plot():
        yield


@contextlib.contextmanager
def no_profiles() -> Iterator[None]:
    """Fits without profiles, for who reads no interval: following the cost takes longer than finding its minimum."""
    from calibrate.trust import profile

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "profile_likelihood", lambda *_, **__: {})
        yield


@pytest.fixture(name="no_profiles")
def fitted_without_profiles():
    """Every fit of a test is one with :func:`no_profiles`."""
    with no_profiles():
        yield


@pytest.fixture
def h100() -> Hardware:
    """The guide's H100, from here and not from ``hardware_configs/``, which a fit may have changed."""
    return load_hardware({"H100": GUIDE_H100}, gpu="H100")


@pytest.fixture
def calibrate(monkeypatch, capsys):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


WORKPLACE_CONFIG = {"H100": GUIDE_H100, "Other": {"TFlopsPeak": 1.0, "vendorNote": "keep"}}


def make_workplace(folder: Path, *, campaign: bool = True) -> Path:
    """A folder as a clone would have it, with the guide's configuration and, or not, the H100 campaign."""
    (folder / "hardware_configs").mkdir(parents=True)
    config = json.dumps(WORKPLACE_CONFIG, indent=2)
    (folder / "hardware_configs/hardware_config.json").write_text(config)
    if campaign:
        shutil.copytree(CAMPAIGN, folder / "ground_truth/H100" / CAMPAIGN.name)
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder as a clone would have it, with the guide's configuration and the H100 campaign."""
    monkeypatch.chdir(tmp_path)
    return make_workplace(tmp_path)
