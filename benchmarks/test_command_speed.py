"""Whole commands as processes: wall time and peak memory, against the targets that the project states."""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import GUIDE_H100, ROOT

CALIBRATE = Path(sys.executable).with_name("calibrate")
SHIPPED_FIT_S = 10.0
SERVING_FIT_S = 180.0
LARGE_FIT_S, LARGE_FIT_GIB, LARGE_ROWS = 20.0, 1.0, 100_000
HELP_TIMES_TYPER = 2.0


@pytest.fixture
def config(tmp_path):
    """The guide's H100 configuration, to be written over."""
    path = tmp_path / "hardware_config.json"
    path.write_text(json.dumps({"H100": GUIDE_H100}))
    return path


def _run(*command: object) -> float:
    began = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return time.perf_counter() - began


def _fit(config: Path, folder: Path) -> tuple[object, ...]:
    files = ("--hardware-config", config, "--out", folder / "reports")
    return ("fit", "--gpu", "H100", *files, "--force")


def test_fit_of_the_shipped_campaign(benchmark, tmp_path, config):
    arguments = _fit(config, tmp_path)
    root = ("--ground-truth", ROOT / "ground_truth", "--campaign", "aiconfigurator-vllm-0.24.0")
    benchmark.pedantic(_run, (CALIBRATE, *arguments, *root), rounds=5, warmup_rounds=1)
    print(
        f"\nfit of the shipped campaign: {benchmark.stats.stats.median:.1f} s (target {SHIPPED_FIT_S:g} s)"
    )
    assert benchmark.stats.stats.median <= SHIPPED_FIT_S


def test_fit_of_a_hundred_thousand_rows(benchmark, tmp_path, config):
    source = ROOT / "ground_truth/H100/aiconfigurator-vllm-0.24.0"
    steps = pd.read_csv(source / "steps.csv")
    copies = -(-LARGE_ROWS // len(steps))
    many = pd.concat([steps] * copies, ignore_index=True).iloc[:LARGE_ROWS]
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(LARGE_ROWS))
    run = many["run_id"] + "-" + (np.arange(LARGE_ROWS) // len(steps)).astype(str)
    folder = tmp_path / "ground_truth/H100/large"
    folder.mkdir(parents=True)
    many.assign(latency_us=(many["latency_us"] * noise).round(2), run_id=run).to_csv(
        folder / "steps.csv", index=False
    )
    shutil.copy(source / "campaign.toml", folder)
    arguments = _fit(config, tmp_path)
    benchmark.pedantic(
        _run, (CALIBRATE, *arguments, "--ground-truth", tmp_path / "ground_truth"), rounds=2
    )
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\nfit of {LARGE_ROWS:,} rows: {benchmark.stats.stats.median:.1f} s, {peak_gib:.2f} GiB")
    assert benchmark.stats.stats.median <= LARGE_FIT_S
    assert peak_gib <= LARGE_FIT_GIB


def test_help_against_a_bare_import_of_typer(benchmark):
    def both() -> float:
        return _run(CALIBRATE, "--help") / _run(sys.executable, "-c", "import typer")

    both()
    ratios = [both() for _ in range(11)]
    benchmark.pedantic(both, rounds=1)
    print(
        f"\ncalibrate --help takes {np.median(ratios):.2f} times `import typer` (target {HELP_TIMES_TYPER:g})"
    )
    assert np.median(ratios) <= HELP_TIMES_TYPER


@pytest.mark.parametrize(
    "campaign",
    sorted(path.parent.name for path in (ROOT / "ground_truth/H100").glob("*/serving.csv")),
)
def test_fit_of_shipped_serving_results(benchmark, tmp_path, config, campaign):
    arguments = (
        "fit",
        "--gpu",
        "H100",
        "--latency-model",
        "roofline-v3",
        "--hardware-config",
        config,
        "--dry-run",
    )
    root = ("--ground-truth", ROOT / "ground_truth", "--campaign", campaign)
    benchmark.pedantic(_run, (CALIBRATE, *arguments, *root), rounds=1, warmup_rounds=0)
    print(f"\nfit to {campaign}: {benchmark.stats.stats.median:.0f} s (target {SERVING_FIT_S:g} s)")
    assert benchmark.stats.stats.median <= SERVING_FIT_S
