"""What a fit to a data set costs, by rows and by processes: ``python -m benchmarks.scale [ROWS …]``, docs/scale.json.

Each fit runs in a process of its own. Time is that of the processor, of all processes together, since other work may
share the machine; the wall's stands beside it. Memory is the largest sum over the processes at any moment. The rows are
made part by part and removed after; ``TMPDIR`` says where, and needs :data:`ROW_BYTES` a row. docs/scale.png is drawn
from all that is known; with ``--draw`` nothing else is done.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.large_steps import large_steps
from calibrate.report.style import PHASES, WIDE, house_style, log_axis, new_figure
from tests.conftest import GUIDE_H100, ROOT

RESULTS = ROOT / "docs" / "scale.json"
PICTURE = RESULTS.with_suffix(".png")
ROWS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
PART_ROWS = 500_000
NODES = 4
PICTURE_DPI = 80
EVERY_S = 0.1
ROW_BYTES = 340
"""Of the disk: 16 in the files, the rest is what a fit keeps of each row, checked and reduced."""
FIT = """
import json, resource, sys, time
from calibrate.campaign import dataset
from calibrate.campaign.campaign import load_campaign
from calibrate.job.calibration import fit
from calibrate.job.options import Options
from calibrate.records.workers import workers
from pathlib import Path
from sim import load_hardware
folder, jobs, config = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
dataset.IN_MEMORY_ROWS = 0
start = load_hardware({"H100": config})
began, cpu = time.perf_counter(), time.process_time()
with workers(jobs):
    campaign = load_campaign(Path(folder), "H100", start)
    loaded = time.perf_counter() - began
    result = fit([campaign], start, Options(starts=8, jobs=jobs, cv=["5"]))
print(json.dumps({
    "load_s": loaded,
    "values": result.values,
    "evaluations": result.fit.n_evaluations,
    "held_out": result.metrics.held_out["folds"]["all"].mape,
}))
"""


def write_steps(folder: Path, rows: int) -> None:
    """A data set of so many steps: the same draw of batches, timed anew in every part."""
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text('title = "steps of a fleet"\nkind = "synthetic"\n')
    template = large_steps(min(rows, PART_ROWS))
    for number, first in enumerate(range(0, rows, PART_ROWS)):
        steps = template.iloc[: min(PART_ROWS, rows - first)]
        place = folder / "steps" / f"node={number % NODES}"
        place.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pandas(_again(steps, number), preserve_index=False)
        pq.write_table(table, place / f"part-{number:05}.parquet", row_group_size=1 << 17)


def _again(steps: pd.DataFrame, number: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    noise = np.exp(0.01 * rng.standard_normal(len(steps)))
    run = steps["run_id"] + f"-{number:04}"
    return steps.assign(latency_us=np.round(steps["latency_us"] * noise, 2), run_id=run)


def measured(folder: Path, rows: int, jobs: int) -> dict[str, object]:
    """One fit, its time, and the memory of all its processes."""
    command = [sys.executable, "-c", FIT, str(folder), str(jobs), json.dumps(GUIDE_H100)]
    began = time.perf_counter()
    load = os.getloadavg()[0]
    # As where it is installed: modules are compiled once
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    fit = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    largest = 0
    cpu: dict[int, float] = {}
    while fit.poll() is None:
        largest = max(largest, _watched(fit.pid, cpu))
        time.sleep(EVERY_S)
    found = json.loads(fit.communicate()[0])
    cpu_s = sum(cpu.values())
    return {
        "rows": rows,
        "jobs": jobs,
        "cpu_s": round(cpu_s, 1),
        "wall_s": round(time.perf_counter() - began, 1),
        "memory_gb": round(largest / 1e9, 3),
        "rows_per_cpu_s": round(rows / cpu_s),
        "load_before": round(load, 1),
        **found,
    }


def _watched(process: int, cpu: dict[int, float]) -> int:
    """The memory of a process and its children now; ``cpu`` gets their times, those of ended ones stay."""
    memory = 0
    try:
        parent = psutil.Process(process)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            times = one.cpu_times()
            cpu[one.pid] = times.user + times.system
            full = one.memory_full_info()
            memory += full.uss
        except psutil.Error:
            continue
    return memory


def check_disk(rows: int) -> None:
    """Exit with what is needed where the disk has too little."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < rows * ROW_BYTES:
        sys.exit(
            f"{rows:,} rows take {rows * ROW_BYTES / 1e9:.0f} GB of {tempfile.gettempdir()}, which has "
            f"{free / 1e9:.0f} GB free: give another place by TMPDIR"
        )


def draw(known: Sequence[Mapping[str, Any]]) -> None:
    """Processor time and memory over rows, a line for so many processes."""
    with house_style():
        figure, (time_, memory) = new_figure(WIDE, 3.6, (1, 2))
        for jobs, (colour, marker) in zip(
            sorted({one["jobs"] for one in known}), PHASES.values(), strict=False
        ):
            of_jobs = sorted((o for o in known if o["jobs"] == jobs), key=lambda o: o["rows"])
            rows = np.array([one["rows"] for one in of_jobs])
            said = f"{jobs} process{'es' if jobs > 1 else ''}"
            style: dict[str, Any] = {"color": colour, "marker": marker, "label": said}
            time_.plot(rows, [one["cpu_s"] for one in of_jobs], **style)
            memory.plot(rows, [one["memory_gb"] for one in of_jobs], **style)
        for axes, words in ((time_, "processor time in s"), (memory, "memory in GB")):
            axes.set(xlabel="rows", ylabel=words)
            log_axis(axes, "x", *_ends(known, "rows"))
        log_axis(time_, "y", *_ends(known, "cpu_s"))
        memory.set_ylim(0, None)
        time_.legend()
        figure.savefig(PICTURE, dpi=PICTURE_DPI)


def _ends(known: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    values = [one[name] for one in known]
    return min(values), max(values)


def main() -> None:
    """Measure, and write the results beside those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=list(ROWS))
    parser.add_argument("--jobs", nargs="*", type=int, default=[2])
    parser.add_argument(
        "--draw", action="store_true", help="draw what is known, and measure nothing"
    )
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for rows in [] if given.draw else given.rows:
        check_disk(rows)
        folder = Path(tempfile.mkdtemp()) / "H100" / "fleet"
        write_steps(folder, rows)
        for jobs in given.jobs:
            one = measured(folder, rows, jobs)
            known = [old for old in known if (old["rows"], old["jobs"]) != (rows, jobs)] + [one]
            known.sort(key=lambda each: (each["rows"], each["jobs"]))
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
            print({name: one[name] for name in ("rows", "jobs", "cpu_s", "wall_s", "memory_gb")})
        shutil.rmtree(folder.parent.parent)
    draw(known)


if __name__ == "__main__":
    main()
