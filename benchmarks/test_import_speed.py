"""A long log as a process: wall time and peak memory of its import."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CALIBRATE = Path(sys.executable).with_name("calibrate")
RECORDS, IMPORT_S, IMPORT_GIB = 1_000_000, 10.0, 1.0


@pytest.fixture
def log(tmp_path):
    """A million records of Forward Pass Metrics, as their publishers write them."""
    rng = np.random.default_rng(0)
    decodes = rng.integers(1, 257, RECORDS)
    idle = dict.fromkeys(("num_prefill_requests", "sum_prefill_tokens", "num_decode_requests"), 0)
    queued = json.dumps(
        {**idle, "var_prefill_length": 0.0, "sum_decode_kv_tokens": 0, "var_decode_kv_tokens": 0.0}
    )
    columns = (
        (0.004 + 0.05 * rng.random(RECORDS)).tolist(),
        (512 * (np.arange(RECORDS) % 3 == 0)).tolist(),
        decodes.tolist(),
        (decodes * rng.integers(100, 4000, RECORDS)).tolist(),
        (1e5 * rng.random(RECORDS)).tolist(),
    )
    path = tmp_path / "log.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, (time_s, tokens, count, context, variance) in enumerate(
            zip(*columns, strict=True)
        ):
            file.write(
                f'{{"version": 1, "worker_id": "7587890123456789", "dp_rank": 0, "counter_id": {number}, '
                f'"wall_time": {time_s!r}, "scheduled_requests": {{"num_prefill_requests": {tokens // 512}, '
                f'"sum_prefill_tokens": {tokens}, "var_prefill_length": 0.0, "sum_prefill_kv_tokens": 0, '
                f'"num_decode_requests": {count}, "sum_decode_kv_tokens": {context}, '
                f'"var_decode_kv_tokens": {variance!r}}}, "queued_requests": {queued}}}\n'
            )
    return path


def test_import_of_a_million_records(benchmark, tmp_path, log):
    arguments = (
        "--gpu",
        "H100",
        "--campaign",
        "log",
        "--model",
        "llama-3.1-8b",
        "--tp",
        "1",
        "--force",
    )
    command = (
        CALIBRATE,
        "import",
        "forward-pass-metrics",
        log,
        "--ground-truth",
        tmp_path / "truth",
        *arguments,
    )

    def run() -> tuple[float, float]:
        began = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return time.perf_counter() - began, usage.ru_maxrss / 2**20

    seconds, peak_gib = benchmark.pedantic(run, rounds=1, warmup_rounds=1)
    megabytes = log.stat().st_size / 1e6
    print(
        f"\nimport of {RECORDS:,} records ({megabytes:.0f} MB): {seconds:.1f} s, {peak_gib:.2f} GiB"
    )
    assert seconds <= IMPORT_S
    assert peak_gib <= IMPORT_GIB
