"""Good files of every kind that is read, small, as folders: the bytes by path in the folder."""

import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import yaml

from calibrate.importers import read_source, write_campaign
from tests.calibrate import (
    test_blis_trace,
    test_forward_pass_metrics,
    test_import_dataset,
    test_importers,
    test_inferencex,
    test_llmservingsim,
    test_reports_of_simulators,
    test_serving_importers,
    test_sglang_log,
)
from tests.conftest import DATA, GUIDE_H100, ROOT, zstd

Files = dict[str, bytes | None]
"""A folder's files by path; None is a folder in the place of a file."""

_CLIENTS = DATA / "clients"
_TRACES = DATA / "otel/run/traces.json"
_GROUND_TRUTH = ROOT / "ground_truth/H100"
_REQUESTS = b"step_id,phase,context_tokens,new_tokens,count\na,prefill,0,2048,1\nb,decode,1024,,8\n"
_STEPS = (
    b"model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us,step_id\n"
    b"llama-3.1-8b,1,1,2048,0,0,48211.5,a\nllama-3.1-8b,2,0,0,8,8192,9000.25,b\n"
)
_CAMPAIGN = (
    b'title = "t"\nsource = "s"\nlicence = "l"\ncollected = 2026-01-01\nkind = "synthetic"\n'
)
_MOONCAKE = (
    b'{"timestamp": 27482, "input_length": 700, "output_length": 52, "hash_ids": [46, 47]}\n'
)


def file(path: Path, name: str = "") -> Files:
    """A folder of one file of the tests' data."""
    return {name or path.name: path.read_bytes()}


def thin(path: Path, rows: int = 3) -> bytes:
    """The header and a few rows of a table, from all over it."""
    header, *lines = path.read_bytes().splitlines()
    chosen = lines[:: max(len(lines) // rows, 1)][:rows]
    return b"\n".join([header, *chosen, b""])


def written(write: Callable[[Path], object]) -> Files:
    """The files that a function writes into a folder that is not there yet."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        write(folder)
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def parquet(content: bytes) -> bytes:
    """A CSV table as Parquet."""
    sink = io.BytesIO()
    pd.read_csv(io.BytesIO(content)).to_parquet(sink)
    return sink.getvalue()


def campaigns() -> list[Files]:
    """Ground-truth folders of one campaign: steps with their requests, kernels, serving results, the shipped ones."""
    shipped = [
        {f"H100/c/{path.name}": thin(path) for path in folder.iterdir() if path.suffix == ".csv"}
        | {"H100/c/campaign.toml": (folder / "campaign.toml").read_bytes()}
        for folder in sorted(_GROUND_TRUTH.iterdir())
    ]
    info = {"H100/c/campaign.toml": _CAMPAIGN}
    steps = {**info, "H100/c/steps.csv": _STEPS, "H100/c/requests.csv": _REQUESTS}
    packed = {**info, "H100/c/steps.csv.gz": gzip.compress(_STEPS, mtime=0)}
    columns = {
        **info,
        "H100/c/steps.parquet": parquet(_STEPS),
        "H100/c/requests.parquet": parquet(_REQUESTS),
    }
    return [*shipped, steps, steps, packed, columns, columns, _served()]


def _served() -> Files:
    """What is read of a run with a log beside it, and so has every column of a serving table."""

    def write(folder: Path) -> None:
        run = test_serving_importers.inference_perf_run(folder / "source")
        (run / "vllm.log").write_text(test_serving_importers.LOG)
        imported = read_source("inference-perf", str(folder / "source"), "H100")
        write_campaign(imported, folder / "H100/c")
        shutil.rmtree(folder / "source")

    return written(write)


def steps_alone() -> list[Files]:
    """Tables of steps to predict or to measure."""
    shipped = thin(_GROUND_TRUTH / "aiconfigurator-vllm-0.24.0/steps.csv")
    equal = _STEPS.replace(b"llama-3.1-8b,2,", b"llama-3.1-8b,1,")
    return [{"steps.csv": shipped}, {"steps.csv": equal}, {"steps.parquet": parquet(equal)}]


def hardware() -> list[Files]:
    """Configurations, the shipped ones and the guide's."""
    shipped = sorted((ROOT / "hardware_configs").glob("*.json"))
    guide = {"hardware.json": json.dumps({"H100": {**GUIDE_H100, "note": "x"}}, indent=1).encode()}
    return [*(file(path, "hardware.json") for path in shipped), guide]


def full_hardware() -> list[Files]:
    """Those that hold every value of a GPU."""
    return [file(ROOT / "hardware_configs/hardware_config.json", "hardware.json"), hardware()[-1]]


def architectures() -> list[Files]:
    """The configurations of the registry's models, each as a folder has it."""
    entries = [
        json.loads(path.read_bytes())
        for path in sorted((ROOT / "sim/architectures").glob("*.json"))
    ]
    return [{"config.json": json.dumps(entry["config"]).encode()} for entry in entries]


def workloads() -> list[Files]:
    """Recorded requests in every format."""
    names = ("own.csv", "azure_2023.csv", "azure_2024.csv")
    run = "\n".join(map(json.dumps, test_llmservingsim.REQUESTS)).encode()
    return [
        *(file(DATA / "workloads" / name, "workload.csv") for name in names),
        {"workload.jsonl": _MOONCAKE * 3},
        {"workload.jsonl": run},
        {"workload.csv.gz": gzip.compress((DATA / "workloads/own.csv").read_bytes(), mtime=0)},
    ]


def databases() -> list[Files]:
    """A folder of GEMM and attention benchmarks."""
    root = DATA / "mfu_database"
    return [
        {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.csv"))}
    ]


def aiconfigurator() -> list[Files]:
    """A data folder of AIConfigurator whose tables are as small as can be composed."""
    return [written(test_importers.kernel_tables)]


def forward_pass_metrics() -> list[Files]:
    """Logs in every form and packing."""
    module = test_forward_pass_metrics
    records = [
        [form(record) for record in module.RECORDS] for form in (dict, module.flat, module.wrapped)
    ]
    plain = [module.lines(each) for each in records]
    return [
        *({"log.jsonl": each} for each in plain),
        {"log.jsonl.gz": gzip.compress(plain[0], mtime=0)},
        {"log.jsonl.zst": zstd(plain[1])},
        *({"log.parquet": _arrow(each)} for each in records),
    ]


def logs_in_folders() -> list[Files]:
    """Logs of a fleet, each in the folder of its keys: lines and Parquet, with the times of their records."""
    module = test_import_dataset
    logs = [[module.record(step, rank) for rank in (0, 1)] for step in range(3)]
    lines = [module.lines(each) for each in logs]
    return [
        {"host=a/log.jsonl": lines[0], "host=b/log.jsonl.gz": gzip.compress(lines[1], mtime=0)},
        {"log.parquet": _arrow(logs[1]), "more.parquet": _arrow(logs[2])},
    ]


def data_sets() -> list[Files]:
    """Campaigns whose steps are a data set, in two files."""
    halves = [_STEPS, b"\n".join([*_STEPS.splitlines()[:2], b""])]
    return [
        {"H100/c/campaign.toml": _CAMPAIGN}
        | {
            f"H100/c/steps/date=2026-08-0{day}/part-00000.parquet": parquet(half)
            for day, half in enumerate(halves, start=1)
        }
    ]


def _arrow(records: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def inference_perf_runs() -> list[Files]:
    """Runs as experiments lay them out, with and without their log."""
    run = written(test_serving_importers.inference_perf_run)
    return [run, {**run, "vllm.log": test_serving_importers.LOG.encode()}]


def inference_perf_reports() -> list[Files]:
    """A run as the client lays it out by itself."""
    return [written(test_serving_importers.reports)]


def guidellm_runs() -> list[Files]:
    """A run's folder with its log."""
    module = test_serving_importers
    return [written(lambda folder: module.guidellm_run(folder, module.SWEEP[:2]))]


def guidellm_results() -> list[Files]:
    """Results of every version."""
    versions = sorted((_CLIENTS / "guidellm").rglob("benchmarks.json"))
    return [{"benchmarks.json": _shorter(path.read_bytes())} for path in versions]


def _shorter(content: bytes) -> bytes:
    """A result of one benchmark and without its requests one by one."""
    result = json.loads(content)
    del result["benchmarks"][1:]
    for benchmark in result["benchmarks"]:
        for found in benchmark.get("requests", {}).values():
            del (found or [])[1:]
    return json.dumps(result).encode()


def inferencemax_sample() -> list[Files]:
    """The package's table."""
    return [file(DATA / "inferencemax/silicon_sample.csv")]


def inferencemax_others() -> list[Files]:
    """The package's table as others measured it."""
    return [file(DATA / "inferencemax/others.csv")]


def inferencemax_results() -> list[Files]:
    """Results of runs on an H200, one by one and as the site's table."""
    module = test_inferencex
    tables = (("s", module.SECONDS), ("ms", module.MILLISECONDS))
    results = [module.AGG, [module.AGG] * 2]
    return [
        *({"agg_run.json": json.dumps(result).encode()} for result in results),
        *({"site.csv": f"{module.HEADS.format(unit)}\n{row}\n".encode()} for unit, row in tables),
    ]


def llmservingsim() -> list[Files]:
    """A folder of profiles, and one of a run."""
    module = test_llmservingsim
    return [written(module.profile), written(module.run)]


def otel_runs() -> list[Files]:
    """Traces with their server's log."""
    return [{**file(_TRACES), **file(_TRACES.with_name("vllm.log"))}]


def otel_traces() -> list[Files]:
    """Traces alone."""
    return [file(_TRACES)]


def client(folder: str, pattern: str = "*.*") -> list[Files]:
    """Results of one client, a folder each."""
    return [file(path) for path in sorted((_CLIENTS / folder).rglob(pattern))]


def sglang_logs() -> list[Files]:
    """A log of SGLang's server, packed too."""
    module = test_sglang_log
    log = written(lambda folder: (folder.mkdir(), module.log(folder, *module.LINES)))
    content = log["server.log"] or b""
    return [log, log, {"server.log.gz": gzip.compress(content, mtime=0)}]


def splitwise() -> list[Files]:
    """The simulator's table of measurements."""
    return [{"perf_model.csv": test_importers.SPLITWISE.encode()}]


def server_logs() -> list[Files]:
    """Logs of vLLM servers beside a result of the client."""
    logs = sorted((DATA / "vllm_logs").glob("v*.log"))
    result = (_CLIENTS / "vllm_bench/summary.json").read_bytes()
    return [{"result.json": result, "server.log": log.read_bytes()} for log in logs]


def tables() -> list[Files]:
    """One CSV a folder, of every kind."""
    return _apart(
        ".csv", [*campaigns(), *databases(), *splitwise(), *workloads(), *inferencemax_others()]
    )


def columns() -> list[Files]:
    """One Parquet file a folder, likewise."""
    return _apart(".parquet", [*campaigns(), *forward_pass_metrics(), *aiconfigurator()])


def documents() -> list[Files]:
    """One file of JSON, TOML or YAML a folder, likewise."""
    runs = [*inference_perf_runs(), *llmservingsim(), *hardware(), *otel_traces(), *campaigns()]
    ends = (".json", ".jsonl", ".toml", ".yaml")
    return [files for end in ends for files in _apart(end, [*runs, *client("vllm_bench")])]


def _apart(end: str, folders: list[Files]) -> list[Files]:
    """Each different file that ends so, in a folder of its own."""
    found = {
        content: name for files in folders for name, content in files.items() if name.endswith(end)
    }
    return [{f"file{end}": content} for content in found]


def fpm_tables() -> list[Files]:
    """A step table of AISimulate with its metadata."""
    rows = [
        test_reports_of_simulators.fpm_row(),
        test_reports_of_simulators.fpm_row("prefill", 2, 1024, 512, 30.0),
    ]
    return [written(lambda folder: test_reports_of_simulators.fpm_table(folder, *rows))]


def evaluation_runs() -> list[Files]:
    """An evaluation run of BLIS."""
    run = test_reports_of_simulators.RUN
    whole = {**run, "points": run["points"][:1]}
    return [{"run.yaml": yaml.safe_dump(whole).encode()}]


def blis_traces() -> list[Files]:
    """A trace of a server, as BLIS observes it."""
    header, data = test_blis_trace.HEADER, test_blis_trace.requests()
    return [{"t.yaml": yaml.safe_dump(header).encode(), "t.csv": data.to_csv(index=False).encode()}]


def benchmark_reports() -> list[Files]:
    """Reports of llm-d-benchmark, of both versions."""
    return [
        {f"{version}.yaml": yaml.safe_dump(content).encode()}
        for version, content in test_reports_of_simulators.REPORTS.items()
    ]
