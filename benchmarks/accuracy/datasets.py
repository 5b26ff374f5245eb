"""The data sets of steps at hand: the shipped campaigns, and those beside the project where they are."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from calibrate.campaign.campaign import Campaign, load_campaigns
from calibrate.campaign.info import read_info
from calibrate.importers import read_source, write_campaign
from sim.hardware import Hardware

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
"""Where data sets lie that others may not pass on: they are read where present, and named as absent where not."""

_SPLITWISE = Path("ground_truth/splitwise/perf_model_h100_llama2-70b.csv")
_REFERENCE_DATABASE = Path("golden/bench_data")


@dataclasses.dataclass(frozen=True)
class StepData:
    """The steps of one campaign. ``kernels`` is the ground truth whose kernel tables are of the same GPU."""

    name: str
    gpu: str
    ground_truth: Path
    campaign: str
    kernels: Path

    def load(self, hardware: Hardware | None = None) -> Campaign:
        """The campaign, held against the peaks of ``hardware``."""
        return load_campaigns(self.ground_truth, self.gpu, [self.campaign], hardware)[0]


@dataclasses.dataclass(frozen=True)
class Absent:
    """A data set that this command would take, and why it did not."""

    name: str
    why: str


def shipped(ground_truth: Path = ROOT / "ground_truth") -> list[StepData | Absent]:
    """A data set for each campaign with steps, named by its GPU (and its campaign where the GPU has several).

    Campaigns for one latency model alone are not here: no other could be held beside it.
    """
    found: list[StepData | Absent] = []
    for gpu in _gpus(ground_truth):
        campaigns = sorted(path for path in (ground_truth / gpu).iterdir() if _is_for_all(path))
        with_steps = [path.name for path in campaigns if _has_steps(path)]
        for name in (path.name for path in campaigns):
            label = gpu if with_steps == [name] else f"{gpu} {name}"
            if name in with_steps:
                found.append(StepData(label, gpu, ground_truth, name, ground_truth))
            elif not (ground_truth / gpu / name / "serving.csv").is_file():
                found.append(Absent(label, "it holds neither steps nor serving results"))
    return found


def _is_for_all(campaign: Path) -> bool:
    return campaign.is_dir() and read_info(campaign / "campaign.toml")[0].is_for(())


def splitwise(
    shared: Path, folder: Path, kernels: Path = ROOT / "ground_truth"
) -> StepData | Absent:
    """Splitwise's performance model, imported into ``folder`` as a ground truth of its own."""
    source = shared / _SPLITWISE
    if not source.is_file():
        return Absent(
            "Splitwise on H100",
            "its perf_model.csv (github.com/Mutinifni/splitwise-sim, MIT) is not there",
        )
    write_campaign(read_source("splitwise", str(source), "H100"), folder / "H100" / "splitwise")
    return StepData("Splitwise on H100", "H100", folder, "splitwise", kernels)


def reference_database(shared: Path) -> Path | Absent:
    """The benchmark database that came with the roofline-v2 models; it holds H100."""
    folder = shared / _REFERENCE_DATABASE
    if not folder.is_dir():
        return Absent(
            "the reference benchmark database of H100", "its gemm/ and mha/ are not there"
        )
    return folder


def absent(found: Iterable[object]) -> list[Absent]:
    """Those of some data sets that are not there."""
    return [one for one in found if isinstance(one, Absent)]


def _gpus(ground_truth: Path) -> list[str]:
    """H100 first: the page compares with it."""
    return sorted(
        (path.name for path in ground_truth.iterdir() if path.is_dir()),
        key=lambda gpu: (gpu != "H100", gpu),
    )


def _has_steps(folder: Path) -> bool:
    return any((folder / f"steps{end}").is_file() for end in (".csv", ".parquet"))
