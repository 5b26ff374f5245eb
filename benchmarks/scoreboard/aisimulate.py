"""AISimulate (ai-dynamo/aisimulate, NVIDIA) on the same runs, through its own command line, where it is installed."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.scoreboard.servers import Server
from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.serving.point import ServingPoint
from calibrate.serving.points import FIGURES
from sim.architecture_files.registry import architecture_names
from sim.serving.workload import Closed
from sim.steps.batch import Floats

_BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm"}
_LIMIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class Stated:
    """What was measured with the tool before."""

    rows: str
    figure: str
    date: str


STATED = (
    Stated("Llama-3.1-70B, 14", "101 / 14", "November 2026"),
    Stated("Qwen3-32B", "28 / 7", "November 2026"),
    Stated("gpt-oss", "35 / 25", "November 2026"),
    Stated("DeepSeek-R1", "161 / 61", "November 2026"),
)


def command() -> str | None:
    """The tool beside this Python, or on the path; None where it is not installed."""
    return shutil.which("aisimulate", path=str(Path(sys.executable).parent)) or shutil.which(
        "aisimulate"
    )


def figures_ms(one: Server, tool: str) -> Floats:
    """Mean TTFT and ITL of every run in ms in the columns of ``FIGURES``, shape (n, 12); NaN of what it refuses."""
    points = one.rows.points.points
    found = np.full((len(points), len(FIGURES)), np.nan)
    for row, point in enumerate(points):
        if isinstance(point.workload.load, Closed):
            ttft, itl = _ask(query(one, point), tool)
            found[row, [FIGURES.index(("ttft", "mean")), FIGURES.index(("itl", "mean"))]] = (
                ttft,
                itl,
            )
    return found


def query(one: Server, point: ServingPoint) -> dict[str, Any]:
    """A run of a closed load as the tool is asked for it."""
    experts = point.arch.experts is not None
    trace = point.workload.draw(0)
    parallelism = {
        "replicas": 1,
        "tensor": point.tp,
        "pipeline": 1,
        "attention_data": 1,
        "moe_tensor": point.tp if experts else 1,
        "moe_expert": 1,
    }
    return {
        "traffic": {
            "source": {
                "type": "synthetic",
                "input_tokens": round(float(trace.prompt_tokens.mean())),
                "output_tokens": round(float(trace.output_tokens.mean())),
            },
            "load": {"type": "concurrency", "concurrency": point.workload.load.concurrency},  # type: ignore[union-attr]  # closed
            "stop": {"requests": point.workload.num_requests},
        },
        "engine": {
            "mode": "aggregated",
            "model": _path(point.arch.name),
            "hardware": SYSTEMS.get(one.gpu, one.gpu.lower()),
            "backend": _BACKENDS[one.kind],
            "workers": {"aggregated": {"parallelism": parallelism}},
        },
    }


def _path(model: str) -> str:
    """The model's path at Hugging Face, else its name."""
    paths = [alias for alias in architecture_names().get(model, ()) if "/" in alias]
    return paths[0] if paths else model


def _ask(query: dict[str, Any], tool: str) -> tuple[float, float]:
    """TTFT and ITL in ms; NaN where the tool gives none."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "query.yaml").write_text(yaml.safe_dump(query), encoding="utf-8")
        options = ("predict", "-c", "query.yaml", "--output-dir", "out", "--overwrite")
        ran = subprocess.run(
            [tool, *options, "--format", "json"],
            cwd=folder,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
        texts = [path.read_text(encoding="utf-8") for path in Path(folder, "out").rglob("*.json")]
    answers = [json.loads(text) for text in texts] if ran.returncode == 0 else []
    return _figure(answers, "mean_ttft_ms"), _figure(answers, "mean_tpot_ms")


def _figure(answer: Any, name: str) -> float:
    """The first value of that name, however deep; NaN without one."""
    if isinstance(answer, dict) and isinstance(answer.get(name), int | float):
        return float(answer[name])
    parts = answer.values() if isinstance(answer, dict) else answer
    inside = [_figure(part, name) for part in parts if isinstance(part, dict | list)]
    return next((value for value in inside if value == value), float("nan"))
