"""Peak memory and processor time of whole commands on millions of rows and requests, against stated targets."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import GUIDE_H100, ROOT

CALIBRATE = Path(sys.executable).with_name("calibrate")
ROWS, REQUESTS = 3_000_000, 10_000_000
VALIDATE_GB = 1.0
FIT_GB, FIT_S = 1.5, 60.0
SIMULATE_GB = 1.5


@pytest.fixture(scope="module")
def ground_truth(tmp_path_factory) -> Path:
    """A campaign of three million distinct steps, 170 MB."""
    root = tmp_path_factory.mktemp("ground_truth")
    write = "import sys; from benchmarks.large_steps import write_large_campaign as write; "
    write += "from pathlib import Path; write(Path(sys.argv[1]), int(sys.argv[2]))"
    folder = root / "H100/large"  # by a process of its own: a child's peak is its parent's at least
    subprocess.run([sys.executable, "-c", write, str(folder), str(ROWS)], check=True, cwd=ROOT)
    return root


@pytest.fixture
def config(tmp_path) -> Path:
    """The guide's H100 configuration, to be written over."""
    path = tmp_path / "hardware_config.json"
    path.write_text(json.dumps({"H100": GUIDE_H100}))
    return path


def _cost(what: str, folder: Path, *arguments: object) -> tuple[float, float]:
    """Peak memory in GB and processor seconds of one command, whose words lie in ``folder``."""
    command = [str(CALIBRATE), *map(str, arguments)]
    words = folder / "words.txt"
    began = time.perf_counter()
    output = os.open(words, os.O_WRONLY | os.O_CREAT)
    streams = [(os.POSIX_SPAWN_DUP2, output, stream) for stream in (1, 2)]
    child = os.posix_spawn(command[0], command, os.environ, file_actions=streams)
    _, status, used = os.wait4(child, 0)
    os.close(output)
    assert status == 0, words.read_text()
    gb, seconds = used.ru_maxrss * 1024 / 1e9, used.ru_utime + used.ru_stime
    wall = time.perf_counter() - began
    print(f"\n{what}: {gb:.2f} GB, {seconds:.0f} s of processor time, {wall:.0f} s")
    return gb, seconds


def test_validate_of_three_million_rows(tmp_path, ground_truth):
    arguments = ("--gpu", "H100", "--ground-truth", ground_truth)
    gb, _ = _cost(f"validate of {ROWS:,} rows", tmp_path, "validate", *arguments)
    assert gb <= VALIDATE_GB


def test_fit_of_three_million_rows(tmp_path, ground_truth, config):
    where = ("--ground-truth", ground_truth, "--hardware-config", config, "--out", tmp_path)
    gb, seconds = _cost(f"fit of {ROWS:,} rows", tmp_path, "fit", "--gpu", "H100", *where)
    assert gb <= FIT_GB
    assert seconds <= FIT_S


def test_simulation_of_ten_million_requests(tmp_path, config):
    load = ("--num-requests", REQUESTS, "--rate", 40, "--prompt-tokens", 128, "--output-tokens", 4)
    where = ("--model", "llama-3.1-8b", "--gpu", "H100", "--hardware-config", config, "--json")
    gb, _ = _cost(f"simulation of {REQUESTS:,} requests", tmp_path, "simulate", *where, *load)
    assert gb <= SIMULATE_GB
