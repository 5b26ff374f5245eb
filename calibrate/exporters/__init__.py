"""Exporters: each turns a GPU's parameters into the file of another tool.

In: a configuration, or a run. Out: the text of a file.
Uses: outcome, importers and below.
"""

import dataclasses
from collections.abc import Callable

from calibrate.exporters import (
    aiconfigurator,
    aisimulate,
    autoscaler,
    bench_data,
    blis,
    blis_coefficients,
    blis_files,
    blis_trained_physics,
    dynamo_planner,
    genz,
    llm_d_inference_sim,
    llm_optimizer,
    llmservingsim,
    own_json,
    petab,
    sglang_simulator,
    vidur,
)
from calibrate.exporters.exported import RETIRED_BLIS, Exported, Source
from calibrate.exporters.writing import write_exported as write_exported
from calibrate.records.distribution import VERSION
from calibrate.records.errors import CalibrateError
from sim.errors import nearest

_BLIS = "BLIS (inference-sim)"
_OWN = "calibrate"


@dataclasses.dataclass(frozen=True)
class Exporter:
    """``write`` makes the text of a file, or of a folder's files; ``end`` is how a file's name ends ('': a folder).

    ``tool`` reads it, in this ``version``, which was ``checked`` on that day; ``retired`` says which versions of a
    tool still read what newer ones do not.
    """

    write: Callable[[Source], Exported]
    summary: str
    tool: str
    version: str
    checked: str
    end: str = ".json"
    retired: str = ""

    @property
    def status(self) -> str:
        """Whether today's tool reads it."""
        return f"retired: {self.retired}" if self.retired else "current"


EXPORTERS: dict[str, Exporter] = {
    "aisimulate": Exporter(
        aisimulate.write,
        "step tables of served models for AISimulate, a folder",
        "AISimulate (aisimulate)",
        "0.13; engine of aiconfigurator-core 0.12.0",
        "2026-11-29",
        "",
    ),
    "aiconfigurator": Exporter(
        aiconfigurator.write,
        "a system file of AIConfigurator",
        "AIConfigurator, AISimulate",
        "aiconfigurator-core 0.12.0",
        "2026-11-29",
        ".yaml",
    ),
    "blis-coefficients": Exporter(
        blis_coefficients.write,
        "coefficient sets, chip and scenario of BLIS since August 2026, a folder",
        "BLIS (blis-latency-kernel)",
        "blis-schemas 0.2.2",
        "2026-11-29",
        "",
    ),
    "dynamo-planner": Exporter(
        dynamo_planner.write,
        "what Dynamo's planner interpolates of one served model, a folder",
        "NVIDIA Dynamo, planner",
        "1.6",
        "2026-11-29",
        "",
    ),
    "sglang-simulator": Exporter(
        sglang_simulator.write,
        "a replay table of SGLang's simulator, a folder",
        "SGLang simulator",
        "main of autumn 2026",
        "2026-11-29",
        "",
    ),
    "llm-d-inference-sim": Exporter(
        llm_d_inference_sim.write,
        "latencies of llm-d's simulated server",
        "llm-d-inference-sim",
        "main of autumn 2026",
        "2026-11-29",
        ".yaml",
    ),
    "autoscaler": Exporter(
        autoscaler.write,
        "alpha, beta, gamma of llm-inferno, and A·k + B of llm-d's analyser",
        "llm-inferno; llm-d autoscaler",
        "main of autumn 2026",
        "2026-11-29",
    ),
    "vidur": Exporter(
        vidur.write,
        "profiles of a dense model's operations for Vidur, a folder",
        "Vidur",
        "vidur 0.0.26",
        "2026-11-29",
        "",
    ),
    "llmservingsim": Exporter(
        llmservingsim.write,
        "a profile of a dense model on one GPU, a folder",
        "LLMServingSim 2",
        "profiler 1.0.0",
        "2026-11-29",
        "",
    ),
    "genz": Exporter(genz.write, "a system of GenZ", "GenZ", "genz-llm 0.0.16", "2026-11-21"),
    "llm-optimizer": Exporter(
        llm_optimizer.write,
        "a GPU of BentoML's llm-optimizer, with two MFUs",
        "llm-optimizer",
        "main of autumn 2026",
        "2026-11-21",
    ),
    "petab": Exporter(
        petab.write,
        "a PEtab parameter table; with priors from a run",
        "PEtab v2",
        "petab 0.8.2",
        "2026-11-29",
        ".tsv",
    ),
    "bench-data": Exporter(
        bench_data.write,
        "the kernel tables as the database of roofline-v2, a folder",
        _OWN,
        VERSION,
        "2026-11-29",
        "",
    ),
    "json": Exporter(
        own_json.write,
        "every value by name; with intervals from a run",
        _OWN,
        VERSION,
        "2026-11-29",
    ),
    "blis": Exporter(
        blis.write,
        "hardware_config.json of BLIS's roofline, its two MFUs fitted to that",
        _BLIS,
        "before pull request 1851",
        "2026-11-21",
        retired=RETIRED_BLIS,
    ),
    "blis-trained-physics": Exporter(
        blis_trained_physics.write,
        "BLIS's trained_physics_coefficients, fitted to the campaigns",
        _BLIS,
        "before pull request 1851",
        "2026-11-21",
        ".yaml",
        RETIRED_BLIS,
    ),
    "blis-v1": Exporter(
        blis_files.write_v1,
        "the 17 keys of the calibration guide, for roofline-v1",
        _BLIS,
        "before pull request 1851",
        "2026-11-21",
        retired=RETIRED_BLIS,
    ),
    "blis-v2": Exporter(
        blis_files.write_v2,
        "6 keys that go with a benchmark database",
        _BLIS,
        "before pull request 1851",
        "2026-11-21",
        retired=RETIRED_BLIS,
    ),
    "blis-minimal": Exporter(
        blis_files.write_minimal,
        "the 2 peaks that go with a benchmark database",
        _BLIS,
        "before pull request 1851",
        "2026-11-21",
        retired=RETIRED_BLIS,
    ),
}


def export(name: str, source: Source) -> Exported:
    """What the exporter of that name makes. Raises CalibrateError for an unknown name; and what the exporter raises."""
    if name not in EXPORTERS:
        raise CalibrateError(
            f"no exporter {name!r} (there are {', '.join(EXPORTERS)}){nearest(name, EXPORTERS)}"
        )
    return EXPORTERS[name].write(source)
