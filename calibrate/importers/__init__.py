"""Importers: each turns one foreign format into the tables of a campaign."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from calibrate.config_writer import replace_text
from calibrate.errors import ImportFormatError
from calibrate.importers import aiconfigurator, guidellm, inference_perf, splitwise
from calibrate.importers.imported import Imported
from calibrate.tables import compact
from calibrate.toml_text import toml_text
from sim.errors import nearest


@dataclasses.dataclass(frozen=True)
class Importer:
    """``read`` turns a source and a GPU into tables and what ``campaign.toml`` says of them."""

    read: Callable[[str, str], Imported]
    source: str
    summary: str


IMPORTERS = {
    "aiconfigurator": Importer(
        aiconfigurator.read,
        "package, or a folder laid out like the package's systems/data",
        "kernel latencies measured by NVIDIA, composed into engine steps",
    ),
    "inference-perf": Importer(
        inference_perf.read,
        "a run's folder with results/ and exp-config.yaml, or a folder of them",
        "load points of a server, one a stage",
    ),
    "guidellm": Importer(
        guidellm.read,
        "a run's folder with guidellm-results.json and vllm.log or exp-config.yaml, or a folder of them",
        "load points of a server, one a benchmark of a sweep",
    ),
    "splitwise": Importer(
        splitwise.read,
        "the perf_model.csv of the Splitwise simulator",
        "prompt and token times of Llama-2-70B and BLOOM",
    ),
}


def read_source(name: str, source: str, gpu: str) -> Imported:
    """Read ``source`` with the importer of that name. Raises ImportFormatError for an unknown name or a bad source."""
    if name not in IMPORTERS:
        raise ImportFormatError(f"no importer {name!r} (there are {', '.join(IMPORTERS)}){nearest(name, IMPORTERS)}")
    return IMPORTERS[name].read(source, gpu)


def write_campaign(imported: Imported, folder: Path) -> list[Path]:
    """Write tables and ``campaign.toml`` into ``folder``, each file in one step, replacing those of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        f"{name}.csv": compact(frame).to_csv(index=False, lineterminator="\n")
        for name, frame in imported.tables.items()
    }
    texts["campaign.toml"] = toml_text(imported.info)
    for name, text in texts.items():
        replace_text(folder / name, text)
    return [folder / name for name in texts]
