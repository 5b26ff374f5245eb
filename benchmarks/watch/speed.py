"""How many steps are judged in a second, and in how much memory."""

import dataclasses
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.watch.noises import correlated
from benchmarks.watch.setting import HARDWARE, new_watch
from calibrate.watch.labels import Said
from calibrate.watch.stream import Stream
from tests.watched import MODEL, records, traffic, watched_rows


def speed() -> dict[str, float]:
    """Steps a second of CPU time, judged in memory and read from a log, and memory after 1 and after 4 million."""
    size = 200_000
    steps = traffic(size, seed=1)
    extra = correlated(0.04, 0.0)(np.random.default_rng(1), size)
    rows = watched_rows(steps, HARDWARE, log_extra=extra)
    watch = new_watch()
    memory = []
    began = time.process_time()
    for block in range(20):
        watch.take_in(dataclasses.replace(rows, at=rows.at + block * size))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    judged = 20 * size / (time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        log.write_text(records(steps, HARDWARE, log_extra=extra))
        table = Path(folder) / "steps.parquet"
        steps.assign(latency_us=rows.measured_us).to_parquet(table)
        read = {path.suffix: _read(path) for path in (log, table)}
    return {
        "steps_a_second_judged": judged,
        "steps_a_second_from_json_lines": read[".jsonl"],
        "steps_a_second_from_parquet": read[".parquet"],
        "mib_after_1_million": memory[4],
        "mib_after_4_million": memory[-1],
    }


def _read(path: Path) -> float:
    """Steps a second of CPU time, all threads counted, from a file to judged."""
    watch = new_watch()
    began = time.process_time()
    for block in Stream(path, Said(MODEL, 1)).poll():
        watch.take_in(block)
    return watch.steps / (time.process_time() - began)
