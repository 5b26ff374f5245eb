"""The servers of every data set at hand: shipped ones, and those of the folder of shared measurements."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.accuracy.datasets import ROOT
from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.importers import read_source, write_campaign
from calibrate.parameters.start import guide_hardware
from calibrate.serving.engine_rows import EngineRows, rows_of_engines
from sim.hardware import Hardware
from sim.models.registry import latency_model
from sim.serving.engine_kinds import engine_kind

MODEL = latency_model("roofline-v4")
GPUS = ("H100", "H200", "B200", "B300", "GB200")
SHARED = ("inference-perf", "otel", "guidellm")
ASIDE_GPUS = ("B200", "B300", "GB200")
ASIDE_CAMPAIGNS = ("otel", "guidellm")


@dataclasses.dataclass(frozen=True, eq=False)
class Server:
    """One engine's runs in one campaign, as they are predicted and tuned."""

    gpu: str
    campaign: str
    rows: EngineRows
    hardware: Hardware

    @property
    def kind(self) -> str:
        """The engine without its version; runs that name none are vLLM's."""
        return self.rows.engine.split()[0]

    @property
    def named(self) -> Hardware:
        """The GPU with what is known of the engine's kind."""
        return engine_kind(self.rows.engine).on(None, self.hardware)

    @property
    def is_aside(self) -> bool:
        """Whether no form, default or pull was chosen on it."""
        return self.gpu in ASIDE_GPUS or self.campaign in ASIDE_CAMPAIGNS


def shared_servers(shared: Path, folder: Path) -> Iterator[Server]:
    """The servers of the data sets under ``shared`` that are there, imported into ``folder``."""
    for name in SHARED:
        if (shared / name).is_dir():
            imported = read_source(name, str(shared / name), "H100")
            write_campaign(imported, folder / "H100" / name)
            yield from _servers("H100", load_campaigns(folder, "H100", [name]))


def shipped_servers() -> Iterator[Server]:
    """The servers of the shipped campaigns."""
    for gpu in GPUS:
        for path in sorted((ROOT / "ground_truth" / gpu).glob("*/serving.csv")):
            campaigns = load_campaigns(ROOT / "ground_truth", gpu, [path.parent.name])
            yield from _servers(gpu, campaigns)


def _servers(gpu: str, campaigns: Sequence[Campaign]) -> Iterator[Server]:
    hardware, _ = guide_hardware(gpu, {}, MODEL.name)
    named = [_with_engine(campaign) for campaign in campaigns]
    for rows in rows_of_engines(named, hardware, MODEL):
        yield Server(gpu, campaigns[0].name, rows, hardware)


def _with_engine(campaign: Campaign) -> Campaign:
    """The campaign, its rows vLLM's where they name no engine: the shared servers all are."""
    if not len(campaign.serving):
        return campaign
    engine = campaign.serving.get("engine", pd.Series(None, campaign.serving.index, dtype=object))
    named = engine.where(engine.notna() & (engine != ""), "vllm")
    return dataclasses.replace(campaign, serving=campaign.serving.assign(engine=named))
