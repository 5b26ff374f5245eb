"""How well `calibrate watch` finds what is there, and how seldom what is not: `python -m benchmarks.watch`.

Synthetic logs are steps of a server in shapes as they come, in the time that a latency model predicts, times a misfit
that depends on the shape, times noise. Real ones are steps that were measured, drawn in random order, cut in two.
"""

import argparse
import dataclasses
import itertools
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from scipy.signal import lfilter

from benchmarks.accuracy.datasets import ROOT, SHARED
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.cli.console import table as rich_table
from calibrate.importers import read_source
from calibrate.watch.labels import Said
from calibrate.watch.ring import Steps
from calibrate.watch.rows import LABELS, Rows
from calibrate.watch.slices import Settings, Slice
from calibrate.watch.stream import Stream
from calibrate.watch.thresholds import STEPS_A_DAY
from calibrate.watch.watch import Watch
from calibrate.watch.watched import watched
from sim.architecture import Architecture
from sim.errors import ArchitectureError
from sim.hardware import Hardware, gpu_specs
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model, parameter_in
from sim.steps.batch import Floats, StepTable
from tests.watched import MODEL, records, traffic, watched_rows

SLOWER = 1.03
WINDOW, BASELINE = 1000, 10_000
_AFTER, _WITHIN = 3000, 1000
_BY = ("node", "engine", "model")
_HARDWARE = Hardware(
    "H100",
    {**gpu_specs()["H100"].values, "BwEffConstant": 0.72, "mfuPrefill": 0.65, "mfuDecode": 0.12},
)
_MODEL = latency_model("roofline-v1")
_CAMPAIGNS = (
    ("H100", "aiconfigurator-vllm-0.24.0", "decode"),
    ("H100", "aiconfigurator-vllm-0.24.0", "prefill"),
    ("RTX-PRO-6000-Server", "llmservingsim-vllm-0.19.0", "mixed"),
)
Noise = Callable[[np.random.Generator, int], Floats]


def _correlated(spread: float, correlation: float) -> Noise:
    def drawn(rng: np.random.Generator, rows: int) -> Floats:
        white = rng.standard_normal(rows)
        scale = spread * np.sqrt(1 - correlation**2)
        return np.asarray(scale * lfilter([1.0], [1.0, -correlation], white))

    return drawn


def _heavy(rng: np.random.Generator, rows: int) -> Floats:
    return 0.035 * rng.standard_t(3, rows)


def _skewed(rng: np.random.Generator, rows: int) -> Floats:
    return 0.02 * rng.standard_normal(rows) + rng.exponential(0.03, rows)


def _pauses(rng: np.random.Generator, rows: int) -> Floats:
    long = np.where(rng.random(rows) < 0.01, rng.uniform(1.0, 4.0, rows), 0.0)
    return 0.04 * rng.standard_normal(rows) + long


def _bursts(rng: np.random.Generator, rows: int) -> Floats:
    """Ten steps in a thousand, in a row, take half as long again: a neighbour's work."""
    busy = lfilter(np.ones(10), [1.0], rng.random(rows) < 0.001) > 0
    return 0.04 * rng.standard_normal(rows) + np.log(1.5) * busy


def _swinging(rng: np.random.Generator, rows: int) -> Floats:
    """Clocks that swing by half a percent in an hour."""
    return 0.04 * rng.standard_normal(rows) + 0.005 * np.sin(np.arange(rows) / 65_000.0)


NOISES: dict[str, Noise] = {
    "independent, 5%": _correlated(0.05, 0.0),
    "independent, 10%": _correlated(0.10, 0.0),
    "correlated 0.5, 5%": _correlated(0.05, 0.5),
    "correlated 0.8, 3%": _correlated(0.03, 0.8),
    "correlated 0.9, 2%": _correlated(0.02, 0.9),
    "heavy tails (t, 3 degrees), 3.5%": _heavy,
    "skewed (exponential), 3%": _skewed,
    "pauses of 1% of steps, 4%": _pauses,
    "bursts of ten steps, 4%": _bursts,
    "clocks that swing 0.5%, 4%": _swinging,
}


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "watch.json")
    options.add_argument("--logs", type=int, default=100, help="synthetic logs of a kind")
    options.add_argument("--days", type=int, default=3, help="days without a change of a kind")
    asked = options.parse_args()
    found = {
        "power": {name: power(noise, asked.logs) for name, noise in NOISES.items()},
        "false_alarms": {name: false_alarms(noise, asked.days) for name, noise in NOISES.items()},
        "named": {name: named(name, asked.logs) for name in ("roofline-v1", "roofline-v3")},
        "real": {name: real(rows, asked.logs) for name, rows in real_rows().items()},
        "speed": speed(),
    }
    show(Console(width=120), found)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def power(noise: Noise, logs: int) -> dict[str, float]:
    """Decodes of all shapes that slow by 3% at a known step: the share found within 1,000, and before."""
    found = [_log(noise, seed) for seed in range(logs)]
    delays = [delay for delay, _ in found if delay is not None]
    return {
        "logs": logs,
        "found_within_1000": sum(delay <= _WITHIN for delay in delays) / logs,
        "found_within_3000": len(delays) / logs,
        "median_delay": float(np.median(delays)) if delays else float("inf"),
        "false_alarms": sum(early for _, early in found),
    }


def _log(noise: Noise, seed: int) -> tuple[float | None, int]:
    """After how many steps a change was found, and how many alarms came before it."""
    rng = np.random.default_rng(seed)
    begin = BASELINE + 2000 + int(rng.integers(0, 1000))
    size = begin + _AFTER
    steps = traffic(size, seed=seed, phases=(1.0, 0.0, 0.0))
    extra = noise(rng, size) + _misfit(steps, rng)
    extra[begin:] += np.log(SLOWER)
    watch = Watch(_MODEL, _HARDWARE, _BY, Settings(WINDOW, 0.01))
    watch.take_in(watched_rows(steps, _HARDWARE, log_extra=extra))
    after = [alarm.at - begin + 1 for alarm in watch.alarms if alarm.at >= begin]
    return (after[0] if after else None), sum(alarm.at < begin for alarm in watch.alarms)


def _misfit(steps: pd.DataFrame, rng: np.random.Generator) -> Floats:
    """What a latency model has wrong: up to ±15% by batch and context."""
    batch = np.log2(np.maximum(steps["num_decode_requests"].to_numpy(), 1)) / 8
    context = steps["sum_decode_kv_tokens"] / np.maximum(steps["num_decode_requests"], 1)
    length = np.log2(np.maximum(context.to_numpy(), 256)) / 4 - 2
    slopes = rng.uniform(-0.15, 0.15, 3)
    return np.asarray(slopes[0] * batch + slopes[1] * length + slopes[2] * np.sin(6 * batch))


def false_alarms(noise: Noise, days: int) -> dict[str, float]:
    """Days of one slice without a change, each with a reference of its own."""
    alarms = 0
    for day in range(days):
        rng = np.random.default_rng(10_000 + day)
        one = Slice(("decode",), 1, Settings(WINDOW, 0.01))
        for begin in range(0, STEPS_A_DAY + BASELINE, 500_000):
            rows = min(500_000, STEPS_A_DAY + BASELINE - begin)
            one.take_in(*_plain(noise(rng, rows), begin))
        alarms += len(one.alarms)
    return {"days": days, "alarms": alarms}


def _plain(deviation: Floats, begin: int) -> tuple[Steps, Floats]:
    """Steps of one shape."""
    rows = len(deviation)
    at = begin + np.arange(rows, dtype=np.float64)
    steps = Steps(np.zeros((8, rows)), np.zeros(rows, np.intp), deviation, at)
    return steps, np.tile(np.array([[5.0], [10.0], [0.0]]), rows)


def named(model_name: str, logs: int) -> dict[str, float]:
    """One parameter moves by so much that some phase takes 4% to 12% longer: whether it alone is named, or first."""
    model = latency_model(model_name)
    values = model.parameters(_HARDWARE)
    right = first = among = cases = 0
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        steps = traffic(30_000, seed=seed, phases=(0.5, 0.35, 0.15))
        name = str(rng.choice([p.name for p in model.parameter_set if not p.tied_to]))
        change = _change_of(model, steps, values, name, rng)
        if change is None:
            continue
        cases += 1
        extra = _correlated(0.04, 0.3)(rng, len(steps)) + _misfit(steps, rng)
        extra[24_000:] += change[24_000:]
        watch = Watch(model, _HARDWARE, _BY, Settings(400, 0.01))
        watch.take_in(watched_rows(steps, _HARDWARE, log_extra=extra, model=model))
        refits = [one.refit for one in watched(watch, "").changes if one.refit is not None]
        if refits:
            moved = [one.name for one in refits[0].moved]
            first += moved[0] == name
            right += moved == [name] and not refits[0].rivals
            among += name in (*moved, *(one.name for one in refits[0].rivals))
        if cases == logs:
            break
    return {
        "logs": logs,
        "named_first": first / logs,
        "named_alone": right / logs,
        "named_or_rival": among / logs,
    }


def _change_of(
    model: LatencyModel,
    steps: pd.DataFrame,
    values: dict[str, float],
    name: str,
    rng: np.random.Generator,
) -> Floats | None:
    """ln of the times at another value over those before; None where no value makes a phase so much slower."""
    table = StepTable.from_columns(steps)
    wanted = rng.uniform(0.04, 0.12)
    before = model.predict_us(table, _HARDWARE)
    parameter = parameter_in(model, name)
    factors = np.geomspace(1.02, 8.0, 40)
    for value in np.stack([values[name] / factors, values[name] * factors], axis=1).ravel():
        if parameter.lower < value < parameter.upper:
            after = model.predict_us(table, _HARDWARE.with_values({name: float(value)}))
            change = np.log(after / before)
            slower = max(float(change[rows].mean()) for rows in _phases(steps))
            if wanted <= slower <= 2 * wanted:
                return np.asarray(change)
    return None


def _phases(steps: pd.DataFrame) -> tuple[NDArray[np.bool_], ...]:
    prompts = (steps["num_prefill_requests"] > 0).to_numpy()
    decodes = (steps["num_decode_requests"] > 0).to_numpy()
    return decodes & ~prompts, prompts & ~decodes, decodes & prompts


def real_rows() -> dict[str, Rows]:
    """Measured steps of one phase, by what they are of."""
    root, specs = ROOT / "ground_truth", gpu_specs()
    found = {}
    for gpu, campaign, phase in _CAMPAIGNS:
        hardware = Hardware(gpu, dict(specs[gpu].values))
        (one,) = load_campaigns(root, gpu, (campaign,), hardware)
        found[f"{phase} of {gpu}, {campaign}"] = _rows_of(one, phase)
    splitwise = SHARED / "ground_truth" / "splitwise" / "perf_model_h100_llama2-70b.csv"
    if splitwise.exists():
        imported = read_source("splitwise", str(splitwise), "H100")
        one = Campaign.from_frame(imported.tables["steps"], "H100")
        found["decode of H100, Splitwise's replicates"] = _rows_of(one, "decode")
    return found


def _rows_of(campaign: Campaign, phase: str) -> Rows:
    rows = np.flatnonzero(campaign.table.phases == phase)
    known = np.array([_is_computed(arch) for arch in campaign.table.architectures])
    rows = rows[known[campaign.table.arch_index[rows]]]
    rows = rows[~_MODEL.beyond(campaign.table)[rows]]
    labels = pd.DataFrame({name: pd.Categorical([""] * len(rows)) for name in LABELS})
    measured = campaign.steps["latency_us"].to_numpy(dtype=np.float64)[rows]
    return Rows(campaign.table.take(rows), measured, np.zeros(len(rows)), labels)


def _is_computed(arch: Architecture) -> bool:
    try:
        _MODEL.limits(arch)
    except ArchitectureError:
        return False
    return True


def real(rows: Rows, logs: int) -> dict[str, float]:
    """Measured steps drawn into logs, cut in two, of which the second half is 3% slower: found within 1,000 steps."""
    delays, early = [], 0
    for seed in range(logs):
        rng = np.random.default_rng(seed)
        begin = BASELINE + 2000
        drawn = rows.take(rng.integers(0, len(rows), begin + _AFTER))
        at = np.arange(len(drawn), dtype=np.float64)
        slower = np.where(at >= begin, SLOWER, 1.0)
        watch = Watch(_MODEL, _HARDWARE, ("model",), Settings(WINDOW, 0.01))
        watch.take_in(dataclasses.replace(drawn, at=at, measured_us=drawn.measured_us * slower))
        after = [alarm.at - begin + 1 for alarm in watch.alarms if alarm.at >= begin]
        early += sum(alarm.at < begin for alarm in watch.alarms)
        delays += after[:1]
    noise = next(iter(watch.slices.values())).noise
    return {
        "logs": logs,
        "steps_measured": len(rows),
        "spread": noise.step if noise else float("nan"),
        "found_within_1000": sum(delay <= _WITHIN for delay in delays) / logs,
        "found_within_3000": len(delays) / logs,
        "false_alarms": early,
    }


def speed() -> dict[str, float]:
    """Steps a second of CPU time, judged in memory and read from a log, and memory after 1 and after 4 million."""
    size = 200_000
    steps = traffic(size, seed=1)
    extra = _correlated(0.04, 0.0)(np.random.default_rng(1), size)
    rows = watched_rows(steps, _HARDWARE, log_extra=extra)
    watch = Watch(_MODEL, _HARDWARE, _BY, Settings(WINDOW, 0.01))
    memory = []
    began = time.process_time()
    for block in range(20):
        watch.take_in(dataclasses.replace(rows, at=rows.at + block * size))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    judged = 20 * size / (time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        log.write_text(records(steps, _HARDWARE, log_extra=extra))
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
    watch = Watch(_MODEL, _HARDWARE, _BY, Settings(WINDOW, 0.01))
    began = time.process_time()
    for block in Stream(path, Said(MODEL, 1)).poll():
        watch.take_in(block)
    return watch.steps / (time.process_time() - began)


def show(console: Console, found: dict[str, dict[str, object]]) -> None:
    """A table for each part."""
    for part, rows in found.items():
        several = all(isinstance(row, dict) for row in rows.values())
        entries = rows if several else {part: rows}
        columns = list(next(iter(entries.values())))  # type: ignore[call-overload]
        shown = rich_table(part, ["", *columns], columns)
        for name, row in entries.items():
            shown.add_row(name, *(f"{row[key]:,.4g}" for key in columns))  # type: ignore[index]
        console.print(shown)


if __name__ == "__main__":
    main()
