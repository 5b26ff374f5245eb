"""Good files that a fit, a bench or an export has to write first; each is made once."""

import atexit
import functools
import gzip
import json
import shutil
import tempfile
from pathlib import Path

from calibrate import fit, load_campaigns
from calibrate.bench.record import begin_campaign, open_record, write_campaign_toml
from calibrate.exporters import export
from calibrate.exporters.exported import Source
from calibrate.outcome.result import FitResult
from calibrate.outcome.result_json import dump_json
from sim import Hardware, StepTable, latency_model, load_hardware
from tests.calibrate import test_serving_report
from tests.conftest import GUIDE_H100, ROOT, no_profiles
from tests.fuzz.samples import Files, written
from tests.report_sample import enrich
from tests.synthetic import synthetic_steps, write_campaign

_TEXTS = {
    "aiconfigurator": "aiconfigurator.yaml",
    "blis-trained-physics": "blis_trained_physics.yaml",
    "genz": "genz.json",
    "llm-optimizer": "llm_optimizer.json",
    "json": "own_json.json",
}
_ROWS = 12


def _guide() -> Hardware:
    memory = {"InterNodeBwGBps": 50.0}
    return load_hardware({"H100": {**GUIDE_H100, **memory}}, "H100")


@functools.cache
def steps() -> StepTable:
    """A few steps of two models."""
    return StepTable.from_columns(synthetic_steps(_guide(), 8))


@functools.cache
def runs() -> list[Files]:
    """A run fitted to steps with everything that one may say, and one to serving results, as a fit writes them."""
    with tempfile.TemporaryDirectory() as folder:
        found = [_fitted_to_steps(Path(folder)), _fitted_to_serving(Path(folder) / "served")]
    return [written(functools.partial(_write, result)) for result in found]


def runs_of_steps() -> list[Files]:
    """The run that was fitted to steps alone."""
    return runs()[:1]


def _fitted_to_steps(folder: Path) -> FitResult:
    write_campaign(folder, "H100", synthetic_steps(_guide(), 24, noise=0.05))
    campaigns = load_campaigns(folder, "H100")
    with no_profiles():  # which are filled in
        found = fit(campaigns, _guide(), starts=1, cv=["2"], skip_bad_rows=True)
    return enrich(found)


def _fitted_to_serving(folder: Path) -> FitResult:
    """Of one parameter, which takes the least time."""
    rows = test_serving_report.served_rows(models=("llama-3.1-8b",), clients=(1, 2))
    test_serving_report.add_table(folder, rows)
    names = [parameter.name for parameter in latency_model("roofline-v3").parameter_set]
    held = dict.fromkeys(name for name in names if name != "apiMicros")
    asked = {"latency_model": "roofline-v3", "starts": 1, "cv": ["2"], "fix": held}
    return fit(load_campaigns(folder, "H100"), test_serving_report.H100, **asked)


def _write(result: FitResult, folder: Path) -> None:
    folder.mkdir()
    content = json.loads(dump_json(result.to_dict()))
    (folder / "result.json").write_text(dump_json(_shorter(content)))
    if result.has_steps:
        result.predictions.iloc[:_ROWS].to_csv(folder / "predictions.csv", index=False)
    if result.served is not None:
        result.served.iloc[:_ROWS].to_csv(folder / "serving.csv", index=False)


def _shorter(value: object) -> object:
    """The same with a few numbers of each long list: draws, profiles, curves."""
    if isinstance(value, dict):
        return {key: _shorter(entry) for key, entry in value.items()}
    if isinstance(value, list):
        is_long = len(value) > _ROWS and all(isinstance(entry, float) for entry in value)
        return value[:_ROWS] if is_long else [_shorter(entry) for entry in value]
    return value


@functools.cache
def folder() -> Path:
    """The folder of the run that was fitted to steps, until the process ends."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name, content in runs()[0].items():
        (root / name).write_bytes(content or b"")
    return root


@functools.cache
def exported() -> list[Files]:
    """Files of the tools that we read back, a folder each."""
    source = Source(_guide(), ROOT / "ground_truth", ("aiconfigurator-vllm-0.24.0",))
    texts = {file: export(name, source).text for name, file in _TEXTS.items()}
    return [{file: str(text).encode()} for file, text in texts.items()]


@functools.cache
def benched() -> list[Files]:
    """A campaign that a bench was interrupted in."""
    machine = {"device": "cpu", "torch": "2.6", "threads": 1}

    def write(root: Path) -> None:
        folder = root / "H100/c"
        begin_campaign(folder, machine)
        write_campaign_toml(folder, {"title": "t", "kind": "measured", "machine": machine})
        gemm = {"m": 1, "n": 64, "k": 64, "dtype": "bf16", "latency_us": 4.5, "replicates": 3}
        open_record(folder, "gemm").add(gemm)
        step = {"model": "llama-3.1-8b", "tp": 1, "dtype": "bf16", "num_prefill_requests": 1}
        step |= {"sum_prefill_tokens": 64, "sum_prefill_kv_tokens": 0, "num_decode_requests": 0}
        step |= {"sum_decode_kv_tokens": 0, "execution": "eager", "run_id": "r", "latency_us": 9e3}
        open_record(folder, "steps").add(step)

    return [written(write)]


def checkpoints() -> list[Files]:
    """The parts of a work that was interrupted."""
    lines = b"".join(json.dumps(["key", n, {"x": [0.1, 0.2]}]).encode() + b"\n" for n in range(3))
    return [{"checkpoint.jsonl": lines}, {"checkpoint.jsonl.gz": gzip.compress(lines, mtime=0)}]
