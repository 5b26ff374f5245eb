"""Everything that reads files for a user, with the good files that it reads."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from tests.fuzz import commands, run_samples, samples, watch_samples
from tests.fuzz.samples import Files

_GPU = "H100"
_SAID = {"tp": 2, "model": "llama-3.1-8b"}
_STATIC = {**_SAID, "concurrency": 8, "input_tokens_mean": 512, "output_tokens_mean": 8}
_COSTLY, _DEAR, _WRITES = 4, 16, 64
"""Every how many rounds a reader is tried that takes ten, fifty or, since it writes a campaign, hundreds of ms.

The others take a few, so that all readers get about the same time.
"""


@dataclasses.dataclass(frozen=True)
class Reader:
    """``samples`` makes the good folders; ``read`` reads one, and ``writes`` into it.

    It is tried in ``every`` so many rounds, for what it costs.
    """

    samples: Callable[[], list[Files]]
    read: Callable[[Path], object]
    every: int = 1
    writes: bool = False

    @property
    def good(self) -> list[Files]:
        """The good folders, made once."""
        return _made(self.samples)


@cache
def _made(make: Callable[[], list[Files]]) -> list[Files]:
    return make()


def _importer(
    name: str,
    made: Callable[[], list[Files]],
    gpu: str = _GPU,
    every: int = _WRITES,
    **said: object,
) -> Reader:
    return Reader(made, partial(commands.imported, name, gpu, said), every)


READERS = {
    "tables": Reader(samples.tables, commands.tables),
    "columns": Reader(samples.columns, commands.columns, _COSTLY),
    "documents": Reader(samples.documents, commands.documents),
    "validate": Reader(samples.campaigns, commands.validate, _DEAR),
    "predict": Reader(samples.steps_alone, commands.predict, _COSTLY),
    "planned": Reader(samples.steps_alone, commands.planned, _COSTLY),
    "configuration": Reader(samples.hardware, commands.configuration),
    "exports": Reader(samples.full_hardware, commands.exports),
    "measured-exports": Reader(samples.campaigns, commands.measured_exports, _WRITES),
    "exported-texts": Reader(run_samples.exported, commands.exported_texts),
    "description": Reader(samples.architectures, commands.description),
    "workload": Reader(samples.workloads, commands.workload),
    "database": Reader(samples.databases, commands.database),
    "run": Reader(run_samples.runs, commands.run, _DEAR),
    "compared": Reader(run_samples.runs, commands.compared, _DEAR),
    "drawn": Reader(run_samples.runs, commands.drawn, _COSTLY),
    "priors": Reader(run_samples.runs_of_steps, commands.priors, _COSTLY),
    "watched": Reader(watch_samples.logs, commands.watched, _DEAR),
    "watched-tables": Reader(samples.steps_alone, commands.watched, _DEAR),
    "watched-again": Reader(watch_samples.states, commands.watched_again, _DEAR, writes=True),
    "profiled": Reader(watch_samples.profiles, commands.profiled),
    "benched": Reader(run_samples.benched, commands.benched, _DEAR, writes=True),
    "checkpoint": Reader(run_samples.checkpoints, commands.checkpoint, writes=True),
    "server-log": Reader(samples.server_logs, commands.server_log, _WRITES),
    "aiconfigurator": _importer("aiconfigurator", samples.aiconfigurator),
    "bench-data": _importer("bench-data", samples.databases, "x100"),
    "inference-perf": _importer("inference-perf", samples.inference_perf_runs),
    "inference-perf-reports": _importer("inference-perf", samples.inference_perf_reports, tp=1),
    "guidellm": _importer("guidellm", samples.guidellm_results, tp=2),
    "guidellm-runs": _importer("guidellm", samples.guidellm_runs),
    "forward-pass-metrics": _importer(
        "forward-pass-metrics", samples.forward_pass_metrics, **_SAID
    ),
    "logs": Reader(
        samples.logs_in_folders, partial(commands.imported_dataset, _SAID), _WRITES, writes=True
    ),
    "data-set": Reader(samples.data_sets, commands.validate, _DEAR),
    "aisimulate": _importer("aisimulate", samples.fpm_tables),
    "blis-evaluation": _importer("blis-evaluation", samples.evaluation_runs, **_SAID),
    "blis-trace": _importer("blis-trace", samples.blis_traces),
    "llm-d-benchmark": _importer("llm-d-benchmark", samples.benchmark_reports),
    "inferencemax": _importer("inferencemax", samples.inferencemax_sample),
    "inferencemax-results": _importer("inferencemax", samples.inferencemax_results, "H200"),
    "inferencemax-style": Reader(samples.inferencemax_others, commands.inferencemax_style, _WRITES),
    "llmservingsim": _importer("llmservingsim", samples.llmservingsim, "RTX4090"),
    "otel": _importer("otel", samples.otel_runs),
    "otel-traces": _importer("otel", samples.otel_traces, **_SAID),
    "vllm-bench": _importer("vllm-bench", partial(samples.client, "vllm_bench"), tp=2),
    "vllm-latency": _importer("vllm-latency", partial(samples.client, "vllm_latency"), **_STATIC),
    "sglang-bench": _importer("sglang-bench", partial(samples.client, "sglang_bench", "server*")),
    "sglang-bench-said": _importer(
        "sglang-bench", partial(samples.client, "sglang_bench", "version*"), **_SAID
    ),
    "sglang-log": _importer("sglang-log", samples.sglang_logs),
    "aiperf": _importer("aiperf", partial(samples.client, "aiperf", "*.json"), tp=2),
    "aiperf-csv": _importer(
        "aiperf", partial(samples.client, "aiperf", "*.csv"), concurrency=4, **_SAID
    ),
    "splitwise": _importer("splitwise", samples.splitwise),
}
"""Every reader by its name on the command line of the fuzzer."""
